//! Signing requests with an account's key, which the SDK leaves to its users.
//!
//! <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::credentials::Secret;
use azure_core::error::ErrorKind;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Context, Request};
use azure_core::time::{OffsetDateTime, to_rfc7231};

/// Signs each attempt, so that one that is sent again carries its own date.
pub(super) struct SharedKey {
    account: String,
    key: Secret,
}

impl SharedKey {
    pub(super) fn new(account: String, key: String) -> Self {
        Self { account, key: Secret::new(key) }
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedKey").field("account", &self.account).finish_non_exhaustive()
    }
}

#[async_trait]
impl Policy for SharedKey {
    async fn send(&self, ctx: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        request.insert_header("x-ms-date", to_rfc7231(&OffsetDateTime::now_utc()));
        let signature = azure_core::hmac::hmac_sha256(&signed_text(&self.account, request), &self.key)?;
        request.insert_header("authorization", format!("SharedKey {}:{signature}", self.account));
        match next.split_first() {
            Some((first, rest)) => first.send(ctx, request, rest).await,
            None => Err(azure_core::Error::with_message(ErrorKind::Other, "nothing sends the request")),
        }
    }
}

/// What is signed of a request.
fn signed_text(account: &str, request: &Request) -> String {
    let header =
        |name: &str| request.headers().iter().find(|it| it.0.as_str() == name).map_or("", |it| it.1.as_str());
    // Nothing, and not 0, since 2015-02-21.
    let length = match request.body().len() {
        Some(0) | None => String::new(),
        Some(length) => length.to_string(),
    };
    let mut text = format!("{}\n", request.method());
    for name in ["content-encoding", "content-language"] {
        text += header(name);
        text.push('\n');
    }
    text += &length;
    text.push('\n');
    // `date` stays empty: x-ms-date stands among the headers.
    for name in [
        "content-md5",
        "content-type",
        "date",
        "if-modified-since",
        "if-match",
        "if-none-match",
        "if-unmodified-since",
        "range",
    ] {
        text += header(name);
        text.push('\n');
    }
    let named = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut own: Vec<_> = named.filter(|(name, _)| name.starts_with("x-ms-")).collect();
    own.sort_unstable();
    for (name, value) in own {
        text += &format!("{name}:{}\n", value.trim());
    }
    text += &format!("/{account}{}", request.url().path());
    let mut query: Vec<_> =
        request.url().query_pairs().map(|(name, value)| (name.to_lowercase(), value.into_owned())).collect();
    query.sort_unstable();
    for (name, value) in query {
        text += &format!("\n{name}:{value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use azure_core::http::{Method, Url};

    use super::*;

    #[test]
    fn the_text_is_that_of_the_documentation() {
        let url =
            "https://myaccount.blob.core.windows.net/mycontainer?restype=container&comp=metadata&timeout=20";
        let mut request = Request::new(Url::parse(url).unwrap(), Method::Get);
        request.insert_header("x-ms-version", "2015-02-21");
        request.insert_header("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT");
        let expected = "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n\
                        /myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20";
        assert_eq!(signed_text("myaccount", &request), expected);
    }

    #[test]
    fn a_body_s_length_and_checksum_are_signed() {
        let mut request = Request::new(Url::parse("http://127.0.0.1:1/a/c/b%2Fd").unwrap(), Method::Put);
        request.insert_header("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==");
        request.set_body(azure_core::Bytes::from_static(b"four"));
        let expected = "PUT\n\n\n4\n1B2M2Y8AsgTpgAmY7PhCfg==\n\n\n\n\n\n\n\n/a/a/c/b%2Fd";
        assert_eq!(signed_text("a", &request), expected);
    }

    #[test]
    fn the_key_is_never_printed() {
        let text = format!("{:?}", SharedKey::new("account".into(), "c2VjcmV0".into()));
        assert!(text.contains("account") && !text.contains("c2VjcmV0"), "{text}");
    }
}
