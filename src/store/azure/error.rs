//! What an answer, or the lack of one, means to a caller. The one place where Azure's errors are classified.
//!
//! Messages are made of codes, texts and causes as they print; never of `{:?}`, which shows whole responses.

use std::time::Duration;

use azure_core::error::ErrorKind;
use azure_core::http::{RawResponse, StatusCode};

use super::token::NoToken;
use crate::store::told::{causes, chain, shown};
use crate::store::{StoreError, StoreErrorKind};

/// What the request asked to be true, and so what a 409 or 412 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Nothing.
    None,
    /// That nothing has the name.
    Absent,
    /// That the object is the recorded one.
    Unchanged,
}

/// A request, as errors name it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) operation: &'static str,
    pub(super) object: String,
    pub(super) condition: Condition,
}

impl Request {
    pub(super) fn error(&self, kind: StoreErrorKind, message: impl Into<String>) -> StoreError {
        StoreError::new(kind, self.operation, self.object.clone(), message)
    }

    /// Waits for `sent` at most `limit`: the SDK itself knows no limit for an attempt.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        sent: impl Future<Output = azure_core::Result<T>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(limit, sent).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.classify(&error)),
            Err(_) => Err(self.error(StoreErrorKind::Unavailable, "no answer within the time limit")),
        }
    }

    pub(super) fn classify(&self, error: &azure_core::Error) -> StoreError {
        if let Some(none) = causes(error).find_map(|cause| cause.downcast_ref::<NoToken>()) {
            return self.error(none.kind, format!("no token: {none}"));
        }
        let (kind, message) = match error.kind() {
            ErrorKind::HttpResponse { status, raw_response, .. } => {
                self.answered(*status, raw_response.as_deref())
            }
            ErrorKind::Credential => {
                (StoreErrorKind::Unauthenticated, format!("no credentials: {}", chain(error)))
            }
            ErrorKind::DataConversion => {
                (StoreErrorKind::Protocol, format!("this is no answer of Azure: {}", chain(error)))
            }
            ErrorKind::Connection | ErrorKind::Io | ErrorKind::Other => unsent(error),
        };
        self.error(kind, message)
    }

    /// A result that can't be read: an error where a result was announced, or none of the service's at all.
    pub(super) fn unreadable(&self, body: &[u8], error: &azure_core::Error) -> StoreError {
        let body = String::from_utf8_lossy(body);
        let Some(code) = element(&body, "Code") else { return self.classify(error) };
        let kind = of_code(code, "", "").filter(|kind| *kind != StoreErrorKind::Changed);
        let message = format!("HTTP 200, with the error {}", shown(code));
        self.error(kind.unwrap_or(StoreErrorKind::Unavailable), message)
    }

    /// An answer of the protocol, or of something that stands in between.
    fn answered(&self, status: StatusCode, raw: Option<&RawResponse>) -> (StoreErrorKind, String) {
        let number = u16::from(status);
        let body =
            raw.map(|raw| String::from_utf8_lossy(raw.body().as_ref()).into_owned()).unwrap_or_default();
        let header = raw.and_then(|raw| {
            let named = raw.headers().iter().find(|it| it.0.as_str() == "x-ms-error-code");
            named.map(|it| it.1.as_str().to_owned())
        });
        let code = header.or_else(|| element(&body, "Code").map(str::to_owned));
        let text = element(&body, "Message").map(told).unwrap_or_default();
        let detail = element(&body, "AuthenticationErrorDetail").map(told).unwrap_or_default();
        let kind = match &code {
            Some(code) => of_code(code, &text, &detail).unwrap_or_else(|| of_status(number)),
            // HEAD's answers have no body, and an emulator or gateway no header.
            None if body.is_empty() || of_status(number).retryable() => of_status(number),
            None => StoreErrorKind::Protocol,
        };
        let kind = match (kind, self.condition) {
            (StoreErrorKind::Changed, Condition::Absent) => StoreErrorKind::AlreadyExists,
            (StoreErrorKind::Changed, Condition::None) => StoreErrorKind::Protocol,
            (kind, _) => kind,
        };
        let mut message = format!("HTTP {number}");
        for part in [code.as_deref().map(shown).unwrap_or_default(), text, detail] {
            if !part.is_empty() {
                message = format!("{message}, {part}");
            }
        }
        if kind == StoreErrorKind::Protocol {
            message = format!("{message}: this is no answer of Azure");
        }
        (kind, message)
    }
}

/// Codes: <https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes> and the common ones it
/// refers to. Not exhaustive, because the list is theirs; an unknown code counts by its HTTP status.
fn of_code(code: &str, text: &str, detail: &str) -> Option<StoreErrorKind> {
    use StoreErrorKind as Kind;
    Some(match code {
        "BlobNotFound" => Kind::NotFound,
        // The last is said of an account, or where nobody may know what there is.
        "ContainerNotFound" | "ContainerBeingDeleted" | "ContainerDisabled" | "ResourceNotFound" => {
            Kind::NoSuchBucket
        }
        // A signature that may create but not write says so where the name is taken.
        "BlobAlreadyExists" | "UnauthorizedBlobOverwrite" | "InvalidBlobType" => Kind::AlreadyExists,
        "ConditionNotMet" | "TargetConditionNotMet" => Kind::Changed,
        "Md5Mismatch" | "Crc64Mismatch" => Kind::ChecksumMismatch,
        // Somebody else's commit drops the blocks that were not in its list.
        "InvalidBlockList" => Kind::NoSuchUpload,
        "BlobImmutableDueToPolicy"
        | "BlobImmutableDueToLegalHold"
        | "LeaseIdMissing"
        | "SnapshotsPresent" => Kind::Locked,
        "AuthenticationFailed" if is_about_the_clock(text) || is_about_the_clock(detail) => Kind::ClockSkew,
        // Servers of one's own say so of what the service calls AuthenticationFailed.
        "AuthorizationFailure" if text.starts_with("Server failed to authenticate") => Kind::Unauthenticated,
        "AuthenticationFailed"
        | "InvalidAuthenticationInfo"
        | "NoAuthenticationInformation"
        | "KeyBasedAuthenticationNotPermitted"
        | "PublicAccessNotPermitted" => Kind::Unauthenticated,
        "AuthorizationFailure"
        | "AuthorizationPermissionMismatch"
        | "AuthorizationProtocolMismatch"
        | "AuthorizationResourceTypeMismatch"
        | "AuthorizationServiceMismatch"
        | "AuthorizationSourceIPMismatch"
        | "InsufficientAccountPermissions"
        | "AccountIsDisabled" => Kind::Forbidden,
        "ServerBusy" | "TooManyRequests" => Kind::Throttled,
        "InternalError" | "OperationTimedOut" => Kind::Unavailable,
        "FeatureVersionMismatch"
        | "UnsupportedHeader"
        | "NotImplemented"
        | "APINotImplemented"
        | "BlobArchived"
        | "BlobBeingRehydrated" => Kind::Unsupported,
        _ => return None,
    })
}

fn of_status(status: u16) -> StoreErrorKind {
    match status {
        401 => StoreErrorKind::Unauthenticated,
        403 => StoreErrorKind::Forbidden,
        404 => StoreErrorKind::NotFound,
        412 => StoreErrorKind::Changed,
        429 | 503 => StoreErrorKind::Throttled,
        501 => StoreErrorKind::Unsupported,
        507 => StoreErrorKind::NoSpace,
        408 | 500..=599 => StoreErrorKind::Unavailable,
        // A conflict of which nothing is known is none that may pass for "it is there already".
        400 | 405 | 409 | 411 | 413 | 416 => StoreErrorKind::Invalid,
        _ => StoreErrorKind::Protocol,
    }
}

/// A refused signature and a clock that is off differ by the text alone. The time frame of a shared access signature is
/// not meant: one that has expired is renewed.
fn is_about_the_clock(text: &str) -> bool {
    text.to_ascii_lowercase().contains("request date header")
}

/// What a person reads of an element: the service adds the request's id and the time on lines of their own.
fn told(text: &str) -> String {
    shown(text.lines().next().unwrap_or_default().trim())
}

/// The text of an element of the error document.
fn element<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, inner) = body.split_once("<Error>")?;
    let (_, rest) = inner.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// No answer at all: the connection, TLS, or a token that can't be had.
fn unsent(error: &azure_core::Error) -> (StoreErrorKind, String) {
    let text = chain(error);
    let untrusted = causes(error).any(|cause| {
        let tls = cause
            .downcast_ref::<rustls::Error>()
            .or_else(|| cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>());
        matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
    });
    if untrusted {
        return (StoreErrorKind::Protocol, format!("the server's certificate is not trusted: {text}"));
    }
    // The account's name is its host's: one that does not exist has no address.
    let text = if text.contains("dns error") { format!("is there such an account? {text}") } else { text };
    (StoreErrorKind::Unavailable, text)
}

#[cfg(test)]
mod tests {
    use azure_core::http::headers::Headers;
    use rstest::rstest;

    use super::*;

    fn classified(condition: Condition, status: u16, body: &str) -> StoreError {
        let request = Request { operation: "create", object: "azblob://a/c/k".to_owned(), condition };
        let raw = RawResponse::from_bytes(status.into(), Headers::new(), body.to_owned());
        let kind = ErrorKind::HttpResponse {
            status: status.into(),
            error_code: None,
            raw_response: Some(Box::new(raw)),
        };
        request.classify(&azure_core::Error::with_message(kind, "not said"))
    }

    fn document(code: &str, text: &str, detail: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{text}\nRequestId:1\n\
             Time:2</Message><AuthenticationErrorDetail>{detail}</AuthenticationErrorDetail></Error>"
        )
    }

    #[rstest]
    #[case(409, "BlobAlreadyExists", StoreErrorKind::AlreadyExists)]
    #[case(409, "ContainerBeingDeleted", StoreErrorKind::NoSuchBucket)]
    #[case(409, "BlobImmutableDueToPolicy", StoreErrorKind::Locked)]
    #[case(409, "SomethingNew", StoreErrorKind::Invalid)]
    #[case(412, "ConditionNotMet", StoreErrorKind::AlreadyExists)]
    #[case(400, "Md5Mismatch", StoreErrorKind::ChecksumMismatch)]
    #[case(400, "InvalidBlockList", StoreErrorKind::NoSuchUpload)]
    #[case(403, "AuthenticationFailed", StoreErrorKind::Unauthenticated)]
    #[case(403, "AuthorizationFailure", StoreErrorKind::Forbidden)]
    #[case(403, "AuthorizationPermissionMismatch", StoreErrorKind::Forbidden)]
    #[case(404, "ContainerNotFound", StoreErrorKind::NoSuchBucket)]
    #[case(503, "ServerBusy", StoreErrorKind::Throttled)]
    #[case(500, "SomethingNew", StoreErrorKind::Unavailable)]
    fn codes_mean_what_the_service_says(
        #[case] status: u16,
        #[case] code: &str,
        #[case] expected: StoreErrorKind,
    ) {
        let error = classified(Condition::Absent, status, &document(code, "text", ""));
        assert_eq!(error.kind(), expected, "{error}");
        assert!(error.message().contains(code) && error.message().contains("text"), "{error}");
        assert!(!error.message().contains("RequestId"), "{error}");
    }

    #[test]
    fn a_clock_is_told_from_a_key_and_from_a_signature_that_has_expired() {
        let text = "Server failed to authenticate the request. Make sure the value of Authorization header is formed \
                    correctly including the signature.";
        for (detail, expected) in [
            ("Request date header too old: 'Mon, 07 Jan 2019 05:33:16 GMT'", StoreErrorKind::ClockSkew),
            (
                "Signature not valid in the specified time frame: Start [x] - Expiry [y]",
                StoreErrorKind::Unauthenticated,
            ),
            ("", StoreErrorKind::Unauthenticated),
        ] {
            let error = classified(Condition::None, 403, &document("AuthenticationFailed", text, detail));
            assert_eq!(error.kind(), expected, "{error}");
            assert!(error.message().contains(detail), "{error}");
        }
        let error = classified(Condition::None, 403, &document("AuthorizationFailure", text, ""));
        assert_eq!(error.kind(), StoreErrorKind::Unauthenticated, "{error}");
    }

    #[test]
    fn a_page_instead_of_an_answer_is_named() {
        let error = classified(Condition::None, 403, "<html>log in</html>");
        assert_eq!(error.kind(), StoreErrorKind::Protocol, "{error}");
        let error = classified(Condition::None, 502, "<html>bad gateway</html>");
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    }
}
