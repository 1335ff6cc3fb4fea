//! Where a destination lies: URLs.

mod azure;
mod gcs;

use std::fmt;
use std::path::PathBuf;

use url::Url;

pub use self::azure::AzureLocation;
pub use self::gcs::GcsLocation;

/// Longest URL that is looked at, in bytes.
const MAX_URL_BYTES: usize = 4_096;

/// Longest prefix, in bytes: with a slash and the longest key it stays below the 1,024 that S3 allows.
const MAX_PREFIX_BYTES: usize = 400;

/// How a bucket's name is put into a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// `https://endpoint/bucket/key`: self-hosted stores. The default where an endpoint is named.
    Path,
    /// `https://bucket.endpoint/key`: AWS. The default where none is named.
    #[default]
    Virtual,
}

/// Which checksums are sent and asked for beside those that the proof needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// Every checksum that the SDK supports.
    #[default]
    WhenSupported,
    /// Only those that we ask for: stores that answer a ranged read with the checksum of the whole object.
    WhenRequired,
}

/// An S3 bucket and prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Location {
    /// Name of the bucket.
    pub bucket: String,
    /// Prefix of every key, without slashes at its ends; empty for none.
    pub prefix: String,
    /// Region; absent: the environment's, else `us-east-1` with an endpoint of one's own.
    pub region: Option<String>,
    /// Endpoint of a store that is not AWS. `http://` only if it says so.
    pub endpoint: Option<String>,
    /// How the bucket's name is put into a request.
    pub addressing: Addressing,
    /// Which checksums are used beside those that the proof needs.
    pub checksums: Checksums,
}

/// A folder, and folders below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLocation {
    /// Absolute path of a folder, which must exist: a mistyped one must not become a new, empty store.
    pub root: PathBuf,
    /// Prefix of every key, without slashes at its ends; empty for none. Made with the first object.
    pub prefix: String,
}

/// A destination's URL, parsed. Holds no credential: a URL with one is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `file:///folder`
    File(FileLocation),
    /// `s3://bucket/prefix?region=…&endpoint=…&addressing=path|virtual&checksums=when-supported|when-required`
    S3(S3Location),
    /// `gs://bucket/prefix?endpoint=…`
    Gcs(GcsLocation),
    /// `azblob://account/container/prefix?endpoint=…`
    Azure(AzureLocation),
}

/// A text that names no destination.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreUrlError {
    /// Longer than 4,096 bytes.
    #[error("a store's URL has at most {MAX_URL_BYTES} bytes")]
    TooLong,
    /// Not a URL at all.
    #[error(
        "{0:?} is no URL; a store is file:///folder, s3://bucket/prefix, gs://bucket/prefix or \
         azblob://account/container/prefix"
    )]
    NotAUrl(String),
    /// A scheme of which nothing is known.
    #[error("the scheme {0:?} names no kind of store; there are file://, s3://, gs:// and azblob://")]
    UnknownScheme(String),
    /// A password or user in the URL.
    #[error("a store's URL holds no credentials: they come from the environment or from files")]
    Credentials,
    /// A fragment or port that means nothing here.
    #[error("{0:?} in a store's URL means nothing here")]
    Meaningless(&'static str),
    /// `file://host/…`, `file:relative`, a path that climbs.
    #[error("a folder is named by its absolute path, file:///folder, without a host")]
    NotAbsolute,
    /// `s3:///prefix`
    #[error("the bucket is missing: s3://bucket/prefix, gs://bucket/prefix")]
    NoBucket,
    /// A bucket's name that no store accepts.
    #[error("{0:?} can't be the name of a bucket: 3 to 63 lower-case letters, digits, '.', '-' or '_'")]
    Bucket(String),
    /// A bucket's name that Google Cloud Storage does not take.
    #[error(
        "{0:?} can't be the name of a bucket: 3 to 63 lower-case letters, digits, '.', '-' or '_', with a letter or \
         digit at both ends"
    )]
    GcsBucket(String),
    /// An account's name that Azure doesn't give.
    #[error(
        "{0:?} can't be a storage account: azblob://account/container/prefix, 3 to 24 lower-case letters and digits"
    )]
    Account(String),
    /// A container's name that Azure doesn't take, or none.
    #[error(
        "{0:?} can't be a container: azblob://account/container/prefix, 3 to 63 lower-case letters, digits and single \
         '-' between them"
    )]
    Container(String),
    /// A prefix that climbs or is not plain.
    #[error("{0:?} can't be a prefix: segments of letters, digits, '.', '_', '-' and at most 400 bytes")]
    Prefix(String),
    /// A query key of which nothing is known.
    #[error("{0:?} is no option of this URL; there are {1}")]
    UnknownOption(String, &'static str),
    /// A query key that is there twice.
    #[error("the option {0:?} is there twice")]
    TwiceTheOption(String),
    /// A value that the option does not take.
    #[error("{value:?} is no value of {option}; it takes {takes}")]
    OptionValue {
        /// The option.
        option: &'static str,
        /// The value.
        value: String,
        /// What it takes.
        takes: &'static str,
    },
}

/// Bounded, so that a hostile text can't make an error large, and without control characters.
fn shown(text: &str) -> String {
    text.chars().take(120).collect()
}

const S3_OPTIONS: &str = "region, endpoint, addressing, checksums";

impl StoreUrl {
    /// Parses a destination's URL.
    ///
    /// # Errors
    /// Names what is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, StoreUrlError> {
        if text.len() > MAX_URL_BYTES {
            return Err(StoreUrlError::TooLong);
        }
        let in_a_bucket = text.starts_with("s3:") || text.starts_with("gs:");
        let url = Url::parse(text).map_err(|error| match (error, in_a_bucket) {
            (url::ParseError::EmptyHost, true) => StoreUrlError::NoBucket,
            // The text may hold a password at a place where the parser found none.
            _ => StoreUrlError::NotAUrl(shown(text.split('@').next_back().unwrap_or_default())),
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(StoreUrlError::Credentials);
        }
        if url.fragment().is_some() {
            return Err(StoreUrlError::Meaningless("#"));
        }
        match url.scheme() {
            "file" => Self::parse_file(text, &url),
            "s3" => Self::parse_s3(text, &url),
            "gs" => GcsLocation::parse(text, &url).map(Self::Gcs),
            "azblob" => AzureLocation::parse(text, &url).map(Self::Azure),
            other => Err(StoreUrlError::UnknownScheme(shown(other))),
        }
    }

    fn parse_file(text: &str, url: &Url) -> Result<Self, StoreUrlError> {
        if let Some((option, _)) = url.query_pairs().next() {
            return Err(StoreUrlError::UnknownOption(shown(&option), "none"));
        }
        // The parser turns `file:folder` and `file://folder` into absolute paths and hosts; neither is meant.
        let climbs = text.split(['/', '?']).any(|segment| matches!(segment, "." | ".."));
        if !text.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("file:///")) || climbs {
            return Err(StoreUrlError::NotAbsolute);
        }
        let path = url.to_file_path().map_err(|()| StoreUrlError::NotAbsolute)?;
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(StoreUrlError::NotAbsolute);
        }
        Ok(Self::File(FileLocation { root: path, prefix: String::new() }))
    }

    fn parse_s3(text: &str, url: &Url) -> Result<Self, StoreUrlError> {
        if url.port().is_some() {
            return Err(StoreUrlError::Meaningless("a port: name the server by ?endpoint=…"));
        }
        let bucket = url.host_str().filter(|host| !host.is_empty()).ok_or(StoreUrlError::NoBucket)?;
        if !is_bucket(bucket) {
            return Err(StoreUrlError::Bucket(shown(bucket)));
        }
        // From the text, because the parser resolves `..` silently.
        let path = text.split(['?', '#']).next().unwrap_or(text);
        let prefix = path.splitn(4, '/').nth(3).unwrap_or("").trim_end_matches('/');
        if !is_prefix(prefix) {
            return Err(StoreUrlError::Prefix(shown(prefix)));
        }
        let mut location = S3Location {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            region: None,
            endpoint: None,
            addressing: Addressing::Virtual,
            checksums: Checksums::default(),
        };
        let mut addressing = None;
        let mut checksums = None;
        for (option, value) in url.query_pairs() {
            let twice = match &*option {
                "region" => location.region.replace(region(&value)?).is_some(),
                "endpoint" => location.endpoint.replace(endpoint(&value)?).is_some(),
                "addressing" => addressing.replace(addressing_of(&value)?).is_some(),
                "checksums" => checksums.replace(checksums_of(&value)?).is_some(),
                other => return Err(StoreUrlError::UnknownOption(shown(other), S3_OPTIONS)),
            };
            if twice {
                return Err(StoreUrlError::TwiceTheOption(shown(&option)));
            }
        }
        let default = if location.endpoint.is_some() { Addressing::Path } else { Addressing::Virtual };
        location.addressing = addressing.unwrap_or(default);
        location.checksums = checksums.unwrap_or_default();
        Ok(Self::S3(location))
    }

    /// The same destination with `below` appended to its folder or prefix: a collection of a store.
    ///
    /// # Errors
    /// If `below` is no plain relative path.
    pub fn join(&self, below: &str) -> Result<Self, StoreUrlError> {
        if below.is_empty() || !is_prefix(below) {
            return Err(StoreUrlError::Prefix(shown(below)));
        }
        let joined = |prefix: &str| {
            let joined = if prefix.is_empty() { below.to_owned() } else { format!("{prefix}/{below}") };
            if is_prefix(&joined) { Ok(joined) } else { Err(StoreUrlError::Prefix(shown(&joined))) }
        };
        Ok(match self {
            Self::File(location) => {
                Self::File(FileLocation { prefix: joined(&location.prefix)?, ..location.clone() })
            }
            Self::S3(location) => {
                Self::S3(S3Location { prefix: joined(&location.prefix)?, ..location.clone() })
            }
            Self::Gcs(location) => {
                Self::Gcs(GcsLocation { prefix: joined(&location.prefix)?, ..location.clone() })
            }
            Self::Azure(location) => {
                Self::Azure(AzureLocation { prefix: joined(&location.prefix)?, ..location.clone() })
            }
        })
    }
}

/// Names that at least one provider accepts. Underscores are those of old or self-hosted buckets.
fn is_bucket(name: &str) -> bool {
    (3..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

fn is_prefix(prefix: &str) -> bool {
    prefix.len() <= MAX_PREFIX_BYTES
        && (prefix.is_empty()
            || prefix.split('/').all(|segment| {
                !matches!(segment, "" | "." | "..")
                    && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            }))
}

fn region(value: &str) -> Result<String, StoreUrlError> {
    let plain = !value.is_empty()
        && value.len() <= 64
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if plain {
        return Ok(value.to_owned());
    }
    Err(StoreUrlError::OptionValue {
        option: "region",
        value: shown(value),
        takes: "a region such as eu-west-1",
    })
}

/// A server's URL without a path: a bucket's name follows, or stands in the host.
fn endpoint(value: &str) -> Result<String, StoreUrlError> {
    let endpoint = endpoint_with_path(value)?;
    match Url::parse(&endpoint).is_ok_and(|url| matches!(url.path(), "" | "/")) {
        true => Ok(endpoint),
        false => Err(no_endpoint(value)),
    }
}

/// A server's URL, without a slash at its end.
fn endpoint_with_path(value: &str) -> Result<String, StoreUrlError> {
    let url = Url::parse(value).map_err(|_| no_endpoint(value))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(StoreUrlError::Credentials);
    }
    let bare = url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || is_metadata(&url) || !bare {
        return Err(no_endpoint(value));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn no_endpoint(value: &str) -> StoreUrlError {
    StoreUrlError::OptionValue {
        option: "endpoint",
        value: shown(value.split('@').next_back().unwrap_or_default()),
        takes: "https://host[:port], or http:// for a store without TLS",
    }
}

/// Whether the host is one that gives credentials to whoever asks from the right machine, and never a store:
/// link-local addresses, and the clouds' names and addresses for them. No host at all counts too.
fn is_metadata(url: &Url) -> bool {
    match url.host() {
        None => true,
        Some(url::Host::Ipv4(address)) => is_metadata_address(address),
        Some(url::Host::Ipv6(address)) => {
            address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some_and(is_metadata_address)
                || address == std::net::Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
        }
        Some(url::Host::Domain(name)) => name.trim_end_matches('.') == "metadata.google.internal",
    }
}

/// Link-local, or the one by which Azure gives machines their certificates and settings.
fn is_metadata_address(address: std::net::Ipv4Addr) -> bool {
    address.is_link_local() || address.octets() == [168, 63, 129, 16]
}

fn addressing_of(value: &str) -> Result<Addressing, StoreUrlError> {
    match value {
        "path" => Ok(Addressing::Path),
        "virtual" => Ok(Addressing::Virtual),
        _ => Err(StoreUrlError::OptionValue {
            option: "addressing",
            value: shown(value),
            takes: "path or virtual",
        }),
    }
}

fn checksums_of(value: &str) -> Result<Checksums, StoreUrlError> {
    match value {
        "when-supported" => Ok(Checksums::WhenSupported),
        "when-required" => Ok(Checksums::WhenRequired),
        _ => Err(StoreUrlError::OptionValue {
            option: "checksums",
            value: shown(value),
            takes: "when-supported or when-required",
        }),
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(location) => {
                let path = location.root.join(&location.prefix);
                match Url::from_file_path(&path) {
                    Ok(url) if url.path() == "/" => f.write_str(url.as_str()),
                    Ok(url) => f.write_str(url.as_str().trim_end_matches('/')),
                    Err(()) => write!(f, "file://{}", path.display()),
                }
            }
            Self::Gcs(location) => location.fmt(f),
            Self::Azure(location) => location.fmt(f),
            Self::S3(location) => {
                write!(f, "s3://{}", location.bucket)?;
                if !location.prefix.is_empty() {
                    write!(f, "/{}", location.prefix)?;
                }
                let mut query = url::form_urlencoded::Serializer::new(String::new());
                if let Some(region) = &location.region {
                    query.append_pair("region", region);
                }
                if let Some(endpoint) = &location.endpoint {
                    query.append_pair("endpoint", endpoint);
                }
                match (location.addressing, location.endpoint.is_some()) {
                    (Addressing::Path, false) => drop(query.append_pair("addressing", "path")),
                    (Addressing::Virtual, true) => drop(query.append_pair("addressing", "virtual")),
                    (Addressing::Path, true) | (Addressing::Virtual, false) => {}
                }
                if location.checksums == Checksums::WhenRequired {
                    query.append_pair("checksums", "when-required");
                }
                match query.finish() {
                    query if query.is_empty() => Ok(()),
                    query => write!(f, "?{query}"),
                }
            }
        }
    }
}

impl std::str::FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        Self::parse(text)
    }
}

/// Splits `region=eu-west1,zone=b=s3://bucket` into locality and URL; a URL alone has no locality.
///
/// The last `=` before the scheme's `://` divides them. What the two are is for their own parsers to say.
#[must_use]
pub fn split_locality(text: &str) -> (Option<&str>, &str) {
    let scheme_end = text.find("://").unwrap_or(text.len());
    match text.get(..scheme_end).and_then(|head| head.rfind('=')) {
        Some(at) => (Some(&text[..at]), &text[at + 1..]),
        None => (None, text),
    }
}
