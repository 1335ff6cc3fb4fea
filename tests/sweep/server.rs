//! The server of a case's objects, and its bucket or container, by our own clients and by curl.

use std::path::Path;
use std::process::{Command, Stdio};

use testbed::{Azurite, GcsServer, S3Kind, S3Server};
use vouchsafe::store::azure::{AzureCredentials, AzureOptions};
use vouchsafe::store::gcs::GcsOptions;
use vouchsafe::store::location::{AzureLocation, S3Location, StoreUrl};
use vouchsafe::store::s3::{Credentials, S3Options};
use vouchsafe::store::{Limits, StoreOptions};

use super::kind::Protocol;

/// SHA-256 of nothing: the body of a request that has none.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Which kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfServer {
    Minio,
    SeaweedFs,
    Azurite,
    Google,
}

/// A server, and what in it is this test's own.
pub enum Server {
    S3(&'static S3Server, String),
    Azure(&'static Azurite, String),
    Google(&'static GcsServer, String),
}

impl Server {
    /// With a fresh bucket or container.
    pub fn of(kind: OfServer) -> Self {
        let s3 = |kind| {
            let server = testbed::shared_s3(kind);
            Self::S3(server, server.fresh_bucket("sweep"))
        };
        match kind {
            OfServer::Minio => s3(S3Kind::Minio),
            OfServer::SeaweedFs => s3(S3Kind::SeaweedFs),
            OfServer::Azurite => {
                let server = testbed::shared_azurite();
                Self::Azure(server, server.fresh_container("sweep"))
            }
            OfServer::Google => {
                let server = testbed::shared_gcs();
                Self::Google(server, server.fresh_bucket("sweep"))
            }
        }
    }

    pub fn protocol(&self) -> Protocol {
        match self {
            Self::S3(..) => Protocol::S3,
            Self::Azure(..) => Protocol::Azure,
            // Met at the trait alone, where requests have no lines.
            Self::Google(..) => Protocol::S3,
        }
    }

    pub fn port(&self) -> u16 {
        match self {
            Self::S3(server, _) => server.port(),
            Self::Azure(server, _) => server.port(),
            Self::Google(server, _) => server.port(),
        }
    }

    /// With credentials and `limits`.
    pub fn options(&self, limits: Limits) -> StoreOptions {
        let mut options = StoreOptions::default();
        match self {
            Self::S3(server, _) => {
                let credentials = Credentials {
                    access_key_id: server.access_key().to_owned(),
                    secret_access_key: server.secret_key().to_owned(),
                    session_token: None,
                };
                options.s3 = S3Options { credentials: Some(credentials), limits, ..S3Options::default() };
            }
            Self::Azure(server, _) => {
                let credentials = Some(AzureCredentials::SharedKey(server.key().to_owned()));
                options.azure = AzureOptions { credentials, limits, ..AzureOptions::default() };
            }
            Self::Google(..) => options.gcs = GcsOptions { limits, ..GcsOptions::default() },
        }
        options
    }

    /// `prefix`, by way of `server` (`http://…`) or straight.
    pub fn url(&self, prefix: &str, server: Option<&str>) -> StoreUrl {
        match self {
            Self::S3(own, bucket) => {
                let url =
                    format!("s3://{bucket}/{prefix}?region={}&endpoint={}", own.region(), own.endpoint());
                let StoreUrl::S3(mut location) = url.parse().unwrap() else { panic!("{url} names a bucket") };
                location.endpoint = server.map(str::to_owned).or(location.endpoint);
                StoreUrl::S3(S3Location { ..location })
            }
            Self::Azure(own, container) => {
                let account = own.account();
                let endpoint = server.map_or_else(|| own.endpoint(), |server| format!("{server}/{account}"));
                StoreUrl::Azure(AzureLocation {
                    account: account.to_owned(),
                    container: container.clone(),
                    prefix: prefix.to_owned(),
                    endpoint: Some(endpoint),
                })
            }
            Self::Google(own, bucket) => {
                let endpoint = server.map_or_else(|| own.endpoint(), str::to_owned);
                let url = format!("gs://{bucket}/{prefix}?endpoint={endpoint}");
                url.parse().unwrap()
            }
        }
    }

    /// Every object below `prefix`, by curl.
    pub fn list(&self, prefix: &str) -> Vec<String> {
        let below = prefix.replace('/', "%2F");
        let (answer, whole, name) = match self {
            Self::S3(server, bucket) => {
                let query = format!("{bucket}?list-type=2&max-keys=1000&prefix={below}%2F");
                (server.request("GET", &query, &[], None), "<IsTruncated>false", "Key")
            }
            Self::Azure(server, container) => {
                let query = format!("restype=container&comp=list&maxresults=1000&prefix={below}%2F");
                (server.request("GET", container, &query, &[], ""), "<NextMarker/>", "Name")
            }
            Self::Google(server, bucket) => {
                let names = server.objects(bucket).into_iter().map(|(name, _)| name);
                return names.filter(|name| name.starts_with(&format!("{prefix}/"))).collect();
            }
        };
        let spaced = answer
            .body
            .replace("<NextMarker />", "<NextMarker/>")
            .replace("<NextMarker></NextMarker>", "<NextMarker/>");
        assert!(answer.status == 200 && spaced.contains(whole), "{answer:?}");
        let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
        spaced.split(&begin).skip(1).filter_map(|rest| Some(rest.split_once(&end)?.0.to_owned())).collect()
    }

    /// Fetches `keys` into `folder`, each under its position, by curl.
    pub fn fetch(&self, keys: &[String], folder: &Path) {
        let mut curl = Command::new("curl");
        curl.args(["--disable", "--silent", "--show-error", "--fail", "--noproxy", "*", "--path-as-is"]);
        let (root, query) = match self {
            Self::S3(server, bucket) => {
                curl.arg("--aws-sigv4").arg(format!("aws:amz:{}:s3", server.region()));
                curl.arg("--user").arg(format!("{}:{}", server.access_key(), server.secret_key()));
                curl.arg("--header").arg(format!("x-amz-content-sha256: {EMPTY}"));
                (format!("{}/{bucket}", server.endpoint()), String::new())
            }
            Self::Azure(server, container) => {
                (format!("{}/{container}", server.endpoint()), format!("?{}", server.signature("r")))
            }
            Self::Google(server, bucket) => {
                (format!("{}/storage/v1/b/{bucket}/o", server.endpoint()), "?alt=media".to_owned())
            }
        };
        for (position, key) in keys.iter().enumerate() {
            // A name is one part of a path for Google.
            let key = if matches!(self, Self::Google(..)) { key.replace('/', "%2F") } else { key.clone() };
            curl.arg("--output").arg(folder.join(position.to_string())).arg(format!("{root}/{key}{query}"));
        }
        let output = curl.stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    }
}
