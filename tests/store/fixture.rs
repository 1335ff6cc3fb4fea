//! The stores under test, and what the tests need beside the trait.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use testbed::{S3Kind, S3Server};
use vouchsafe::format::Key;
use vouchsafe::store::s3::{Credentials, S3Options};
use vouchsafe::store::{Download, ObjectStore, StoreError, StoreOptions, StoreUrl, open::open_bare};

/// Which store a test runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    Minio,
    SeaweedFs,
}

/// One empty store.
pub(crate) struct Fixture {
    /// Without retries: each request is sent once.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The server and bucket of an S3 store.
    pub(crate) bucket: Option<(&'static S3Server, String)>,
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
        Self { store, bucket, folder }
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
