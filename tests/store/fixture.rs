//! The stores under test, and what the tests need beside the trait.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use testbed::{Azurite, GcsServer, S3Kind, S3Server};
use vouchsafe::format::Key;
use vouchsafe::store::azure::{AzureCredentials, AzureOptions};
use vouchsafe::store::location::{AzureLocation, GcsLocation, S3Location};
use vouchsafe::store::s3::{Credentials, S3Options};
use vouchsafe::store::{Download, ObjectStore, StoreError, StoreOptions, StoreUrl, open::open_bare};

/// Which store a test runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    Minio,
    SeaweedFs,
    Azurite,
    Gcs,
}

impl Kind {
    /// Whether parts that nobody completes can be taken back. Azure keeps them for a week, whatever is asked.
    pub(crate) fn forgets(self) -> bool {
        self != Self::Azurite
    }
}

/// One empty store.
pub(crate) struct Fixture {
    /// Without retries: each request is sent once.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The server and bucket of an S3 store.
    pub(crate) bucket: Option<(&'static S3Server, String)>,
    /// The server and container of an Azure store.
    pub(crate) container: Option<(&'static Azurite, String)>,
    /// The server and bucket of a store of Google's kind.
    pub(crate) gcs: Option<(&'static GcsServer, String)>,
    /// The folder of a folder store, removed at the end.
    pub(crate) folder: Option<tempfile::TempDir>,
}

impl Fixture {
    pub(crate) async fn new(kind: Kind) -> Self {
        match kind {
            Kind::Folder => {
                let folder = tempfile::tempdir().unwrap();
                let url = StoreUrl::parse(&format!("file://{}", folder.path().display())).unwrap();
                Self::open(url, StoreOptions::default(), None, Some(folder)).await
            }
            Kind::Minio => Self::s3(S3Kind::Minio).await,
            Kind::SeaweedFs => Self::s3(S3Kind::SeaweedFs).await,
            Kind::Azurite => {
                let start =
                    || (testbed::shared_azurite(), testbed::shared_azurite().fresh_container("store"));
                let (server, container) = tokio::task::spawn_blocking(start).await.unwrap();
                let mut fixture =
                    Self::open(azure_url(server, &container), azure_options(server), None, None).await;
                fixture.container = Some((server, container));
                fixture
            }
            Kind::Gcs => {
                let server = testbed::shared_gcs();
                let bucket = server.fresh_bucket("store");
                let mut fixture =
                    Self::open(gcs_url(server, &bucket), StoreOptions::default(), None, None).await;
                fixture.gcs = Some((server, bucket));
                fixture
            }
        }
    }

    async fn s3(kind: S3Kind) -> Self {
        let (server, bucket) = tokio::task::spawn_blocking(move || {
            let server = testbed::shared_s3(kind);
            (server, server.fresh_bucket("store"))
        })
        .await
        .unwrap();
        Self::open(s3_url(server, &bucket), s3_options(server), Some((server, bucket)), None).await
    }

    async fn open(
        url: StoreUrl,
        options: StoreOptions,
        bucket: Option<(&'static S3Server, String)>,
        folder: Option<tempfile::TempDir>,
    ) -> Self {
        let store = open_bare(&url, &options).await.unwrap();
        Self { store, bucket, container: None, gcs: None, folder }
    }

    /// The port of its server.
    pub(crate) fn port(&self) -> u16 {
        match (&self.bucket, &self.container, &self.gcs) {
            (Some((server, _)), ..) => server.port(),
            (_, Some((server, _)), _) => server.port(),
            (.., Some((server, _))) => server.port(),
            _ => panic!("a folder has no server"),
        }
    }

    /// With which it was opened.
    pub(crate) fn options(&self) -> StoreOptions {
        match (&self.bucket, &self.container) {
            (Some((server, _)), _) => s3_options(server),
            (_, Some((server, _))) => azure_options(server),
            _ => StoreOptions::default(),
        }
    }

    /// Its URL by way of `server`, which stands before its own.
    pub(crate) fn url_through(&self, server: &str) -> StoreUrl {
        let url = match (&self.bucket, &self.container, &self.gcs) {
            (Some((server, bucket)), ..) => s3_url(server, bucket),
            (_, Some((server, container)), _) => azure_url(server, container),
            (.., Some((server, bucket))) => gcs_url(server, bucket),
            _ => panic!("a folder has no server"),
        };
        match url {
            StoreUrl::S3(location) => {
                StoreUrl::S3(S3Location { endpoint: Some(server.to_owned()), ..location })
            }
            StoreUrl::Azure(location) => {
                let endpoint = Some(format!("{server}/{}", location.account));
                StoreUrl::Azure(AzureLocation { endpoint, ..location })
            }
            StoreUrl::Gcs(location) => {
                StoreUrl::Gcs(GcsLocation { endpoint: Some(server.to_owned()), ..location })
            }
            StoreUrl::File(_) => panic!("a folder has no server"),
        }
    }

    /// How many uploads in parts have been begun and neither completed nor aborted.
    pub(crate) fn unfinished(&self) -> usize {
        if let Some((server, bucket)) = &self.bucket {
            // MinIO lists uploads of one exact key only; its data directory tells of all.
            if server.kind() == S3Kind::Minio {
                let folder = server.data_dir().join(".minio.sys/multipart");
                return files_below(&folder).into_iter().filter(|path| path.contains("xl.meta")).count();
            }
            let listed = server.request("GET", &format!("{bucket}?uploads="), &[], None);
            assert_eq!(listed.status, 200, "{listed:?}");
            return listed.body.matches("<UploadId>").count();
        }
        if let Some((server, bucket)) = &self.gcs {
            return server.unfinished(bucket);
        }
        if let Some((server, container)) = &self.container {
            let blobs = |with: &str| {
                let query = format!("restype=container&comp=list{with}");
                let listed = server.request("GET", container, &query, &[], "");
                assert_eq!(listed.status, 200, "{listed:?}");
                listed.body.matches("<Name>").count()
            };
            return blobs("&include=uncommittedblobs") - blobs("");
        }
        let folder = self.folder.as_ref().unwrap().path().join(".vouchsafe-tmp");
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    }
}

fn files_below(folder: &std::path::Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path()),
            _ => vec![entry.path().display().to_string()],
        })
        .collect()
}

pub(crate) fn s3_url(server: &S3Server, bucket: &str) -> StoreUrl {
    let (region, endpoint) = (server.region(), server.endpoint());
    StoreUrl::parse(&format!("s3://{bucket}/some/prefix?region={region}&endpoint={endpoint}")).unwrap()
}

pub(crate) fn s3_options(server: &S3Server) -> StoreOptions {
    let credentials = Credentials {
        access_key_id: server.access_key().to_owned(),
        secret_access_key: server.secret_key().to_owned(),
        session_token: None,
    };
    StoreOptions {
        s3: S3Options { credentials: Some(credentials), ..S3Options::default() },
        ..StoreOptions::default()
    }
}

pub(crate) fn azure_url(server: &Azurite, container: &str) -> StoreUrl {
    let (account, endpoint) = (server.account(), server.endpoint());
    StoreUrl::parse(&format!("azblob://{account}/{container}/some/prefix?endpoint={endpoint}")).unwrap()
}

pub(crate) fn azure_options(server: &Azurite) -> StoreOptions {
    let credentials = Some(AzureCredentials::SharedKey(server.key().to_owned()));
    StoreOptions { azure: AzureOptions { credentials, ..AzureOptions::default() }, ..StoreOptions::default() }
}

pub(crate) fn gcs_url(server: &GcsServer, bucket: &str) -> StoreUrl {
    StoreUrl::parse(&format!("gs://{bucket}/some/prefix?endpoint={}", server.endpoint())).unwrap()
}

pub(crate) fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

/// Bytes that don't repeat, so that a part in another's place shows.
pub(crate) fn bytes(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(length);
    out.into()
}

pub(crate) async fn read(download: Download) -> Result<Vec<u8>, StoreError> {
    let chunks: Vec<Bytes> = download.body.try_collect().await?;
    Ok(chunks.concat())
}

pub(crate) async fn content(store: &Arc<dyn ObjectStore>, key: &Key) -> Result<Vec<u8>, StoreError> {
    read(store.get(key, None, None).await?).await
}
