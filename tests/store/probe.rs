//! Probes of stores that keep their promises, and of stores that break one.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rstest::rstest;
use vouchsafe::format::Key;
use vouchsafe::store::{
    Committed, Download, FolderPage, ListPage, ObjectHead, ObjectStore, ObjectVersion, PartLimits,
    StoreError, StoreErrorKind, UploadSession, probe,
};

use crate::fixture::{Fixture, Kind};

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[tokio::test]
async fn a_good_store_passes_and_nothing_is_left_behind(#[case] kind: Kind) {
    let fixture = Fixture::new(kind).await;
    assert!(probe(&fixture.store).await.unwrap().delete);
    assert!(fixture.store.list(None, None).await.unwrap().objects.is_empty());
    if kind.forgets() {
        assert_eq!(fixture.unfinished(), 0);
    }
}

/// A promise that a store breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    CreateReplaces,
    OtherContent,
    IgnoresChecksums,
    ListsNothing,
    MayNotDelete,
    DeletesNothing,
    Refuses(StoreErrorKind),
}

#[derive(Debug)]
struct BrokenStore {
    inner: Arc<dyn ObjectStore>,
    broken: Broken,
}

#[async_trait]
impl ObjectStore for BrokenStore {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn part_limits(&self) -> PartLimits {
        self.inner.part_limits()
    }

    async fn create(&self, key: &Key, body: Bytes) -> Result<Committed, StoreError> {
        match self.broken {
            Broken::CreateReplaces => {
                if let Ok(head) = self.inner.head(key, None).await {
                    self.inner.delete(key, &head.version).await?;
                }
            }
            Broken::Refuses(kind) => return Err(StoreError::new(kind, "create", key.as_str(), "refused")),
            Broken::OtherContent => return self.inner.create(key, vec![b'x'; body.len()].into()).await,
            _ => {}
        }
        self.inner.create(key, body).await
    }

    async fn begin(&self, key: &Key) -> Result<Box<dyn UploadSession>, StoreError> {
        self.inner.begin(key).await
    }

    async fn get(
        &self,
        key: &Key,
        version: Option<&ObjectVersion>,
        range: Option<Range<u64>>,
    ) -> Result<Download, StoreError> {
        self.inner.get(key, version, range).await
    }

    async fn head(&self, key: &Key, version: Option<&ObjectVersion>) -> Result<ObjectHead, StoreError> {
        self.inner.head(key, version).await
    }

    async fn list(&self, prefix: Option<&Key>, page: Option<&str>) -> Result<ListPage, StoreError> {
        match self.broken {
            Broken::ListsNothing => Ok(ListPage::default()),
            _ => self.inner.list(prefix, page).await,
        }
    }

    async fn list_folders(&self, prefix: &Key, page: Option<&str>) -> Result<FolderPage, StoreError> {
        self.inner.list_folders(prefix, page).await
    }

    async fn delete(&self, key: &Key, version: &ObjectVersion) -> Result<(), StoreError> {
        match self.broken {
            Broken::MayNotDelete => {
                Err(StoreError::new(StoreErrorKind::Forbidden, "delete", key.as_str(), "no"))
            }
            Broken::DeletesNothing => Ok(()),
            _ => self.inner.delete(key, version).await,
        }
    }

    async fn refuses_wrong_checksum(&self, key: &Key) -> Result<bool, StoreError> {
        match self.broken {
            Broken::IgnoresChecksums => Ok(false),
            _ => self.inner.refuses_wrong_checksum(key).await,
        }
    }
}

async fn probed(broken: Broken) -> (Fixture, Result<bool, StoreError>) {
    let fixture = Fixture::new(Kind::Folder).await;
    let store: Arc<dyn ObjectStore> = Arc::new(BrokenStore { inner: Arc::clone(&fixture.store), broken });
    let result = probe(&store).await.map(|capabilities| capabilities.delete);
    (fixture, result)
}

#[rstest]
#[case(Broken::CreateReplaces, "If-None-Match is ignored")]
#[case(Broken::OtherContent, "reads back as something else")]
#[case(Broken::IgnoresChecksums, "under the checksum of other content")]
#[case(Broken::ListsNothing, "is not listed")]
#[case(Broken::DeletesNothing, "is still there")]
#[tokio::test]
async fn a_broken_promise_is_named(#[case] broken: Broken, #[case] named: &str) {
    let (fixture, result) = probed(broken).await;
    let error = result.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains(named), "{error}");
    if broken != Broken::DeletesNothing {
        assert!(fixture.store.list(None, None).await.unwrap().objects.is_empty(), "something is left behind");
    }
}

#[tokio::test]
async fn not_being_allowed_to_delete_is_no_error() {
    let (_fixture, result) = probed(Broken::MayNotDelete).await;
    assert!(!result.unwrap());
}

#[rstest]
#[case(StoreErrorKind::Forbidden)]
#[case(StoreErrorKind::NoSuchBucket)]
#[case(StoreErrorKind::NoSpace)]
#[tokio::test]
async fn what_the_store_refuses_of_itself_keeps_its_name(#[case] kind: StoreErrorKind) {
    let (_fixture, result) = probed(Broken::Refuses(kind)).await;
    assert_eq!(result.unwrap_err().kind(), kind);
}
