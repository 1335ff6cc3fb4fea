//! Opening what a URL names, with the wrappers around it.

use std::fmt;
use std::sync::Arc;

use super::azure::{AzureOptions, AzureStore};
use super::file::FileStore;
use super::gcs::{GcsOptions, GcsStore};
use super::location::{FileLocation, StoreUrl};
use super::retry::{ErrorCounts, ErrorObserver, RetryBudget, RetryStore};
use super::s3::{S3Options, S3Store};
use super::throttle::{Throttle, ThrottledStore};
use super::{ObjectStore, StoreError, StoreErrorKind};

/// What a URL does not say.
#[derive(Clone)]
pub struct StoreOptions {
    /// How long one request is tried.
    pub retry: RetryBudget,
    /// Who is told of the errors that were met.
    pub observer: Arc<dyn ErrorObserver>,
    /// Limit on sending; share one to limit several stores together.
    pub throttle: Option<Arc<Throttle>>,
    /// Credentials and authorities of S3.
    pub s3: S3Options,
    /// Credentials and authorities of Azure.
    pub azure: AzureOptions,
    /// Credentials of Google Cloud Storage.
    pub gcs: GcsOptions,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            retry: RetryBudget::default(),
            observer: Arc::new(ErrorCounts::default()),
            throttle: None,
            s3: S3Options::default(),
            azure: AzureOptions::default(),
            gcs: GcsOptions::default(),
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("retry", &self.retry)
            .field("throttle", &self.throttle)
            .field("s3", &self.s3)
            .field("azure", &self.azure)
            .field("gcs", &self.gcs)
            .finish_non_exhaustive()
    }
}

/// Opens the destination that `url` names, with retries and, if asked for, a rate limit.
///
/// # Errors
/// [`StoreErrorKind::NoSuchBucket`] for a folder that is not there. A bucket is not asked before its first
/// request: [`probe`](super::probe) does that.
pub async fn open(url: &StoreUrl, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let store = open_bare(url, options).await?;
    Ok(wrap(store, options))
}

/// Wraps an opened store as [`open`] does. For tests that put something in between.
pub fn wrap(store: Arc<dyn ObjectStore>, options: &StoreOptions) -> Arc<dyn ObjectStore> {
    let store = match &options.throttle {
        // Below the retries: bytes that are sent again are bytes.
        Some(throttle) => Arc::new(ThrottledStore::new(store, Arc::clone(throttle))),
        None => store,
    };
    Arc::new(RetryStore::new(store, options.retry, Arc::clone(&options.observer)))
}

/// Opens the destination without retries: each request is sent once.
///
/// # Errors
/// As [`open`].
pub async fn open_bare(url: &StoreUrl, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, StoreError> {
    match url {
        StoreUrl::File(location) => open_folder(location).await,
        StoreUrl::S3(location) => Ok(Arc::new(S3Store::open(location, url.to_string(), &options.s3).await?)),
        StoreUrl::Gcs(location) => {
            Ok(Arc::new(GcsStore::open(location, url.to_string(), &options.gcs).await?))
        }
        StoreUrl::Azure(location) => {
            Ok(Arc::new(AzureStore::open(location, url.to_string(), &options.azure)?))
        }
    }
}

async fn open_folder(location: &FileLocation) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let FileLocation { root, prefix } = location.clone();
    let opened = tokio::task::spawn_blocking(move || FileStore::open(&root, &prefix)).await;
    let store = opened.unwrap_or_else(|died| {
        let object = location.root.display().to_string();
        Err(StoreError::new(StoreErrorKind::Invalid, "open", object, "its thread died").with_source(died))
    })?;
    Ok(Arc::new(store))
}
