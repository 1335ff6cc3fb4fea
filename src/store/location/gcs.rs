//! `gs://bucket/prefix`

use std::fmt;

use url::Url;

use super::{StoreUrlError, endpoint, is_prefix, shown};

const OPTIONS: &str = "endpoint";

/// The service itself.
const SERVICE: &str = "https://storage.googleapis.com";

/// A bucket of Google Cloud Storage and a prefix in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcsLocation {
    /// Name of the bucket.
    pub bucket: String,
    /// Prefix of every key, without slashes at its ends; empty for none.
    pub prefix: String,
    /// Where the service is asked, of a region, of a private network or a server of one's own; absent:
    /// `https://storage.googleapis.com`. `http://` only if it says so, and then nobody's credentials are sent.
    pub endpoint: Option<String>,
}

impl GcsLocation {
    /// Where the service is asked, without a slash at its end.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.endpoint.as_deref().unwrap_or(SERVICE)
    }

    pub(super) fn parse(text: &str, url: &Url) -> Result<Self, StoreUrlError> {
        if url.port().is_some() {
            return Err(StoreUrlError::Meaningless("a port: name the server by ?endpoint=…"));
        }
        let bucket = url.host_str().filter(|host| !host.is_empty()).ok_or(StoreUrlError::NoBucket)?;
        if !is_gcs_bucket(bucket) {
            return Err(StoreUrlError::GcsBucket(shown(bucket)));
        }
        // From the text, because the parser resolves `..` silently.
        let path = text.split(['?', '#']).next().unwrap_or(text);
        let prefix = path.splitn(4, '/').nth(3).unwrap_or("").trim_end_matches('/');
        if !is_prefix(prefix) {
            return Err(StoreUrlError::Prefix(shown(prefix)));
        }
        let mut found = None;
        for (option, value) in url.query_pairs() {
            let twice = match &*option {
                "endpoint" => found.replace(endpoint(&value)?).is_some(),
                other => return Err(StoreUrlError::UnknownOption(shown(other), OPTIONS)),
            };
            if twice {
                return Err(StoreUrlError::TwiceTheOption(shown(&option)));
            }
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned(), endpoint: found })
    }
}

impl fmt::Display for GcsLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gs://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        write!(f, "?{}", query.append_pair("endpoint", endpoint).finish())
    }
}

/// <https://cloud.google.com/storage/docs/buckets#naming>: 3 to 63 characters, with dots up to 222 in parts of at most
/// 63, with a letter or digit at both ends.
fn is_gcs_bucket(name: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (3..=222).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        && ends(name.bytes().next())
        && ends(name.bytes().last())
        && name.split('.').all(|part| (1..=63).contains(&part.len()))
}
