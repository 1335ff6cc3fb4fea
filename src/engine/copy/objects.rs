//! One object from one store to another: its bytes are those that a digest binds, or there is no object.

use std::sync::Arc;

use futures::TryStreamExt;
use sha2::{Digest, Sha256};

use super::super::documents;
use super::super::error::EngineError;
use super::super::reading::{self, Pinned, Unread};
use crate::format::{Key, Sha256Digest, StoredObject};
use crate::kill_point;
use crate::store::upload::{Upload, UploadOptions};
use crate::store::{ObjectStore, StoreErrorKind};

/// What became of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// It was written, so many bytes.
    Written(u64),
    /// An earlier copying had brought it.
    WasThere,
}

fn damaged(store: &dyn ObjectStore, key: &Key, finding: &str) -> EngineError {
    EngineError::Damaged(format!("{}/{key}: {finding}", store.url()))
}

fn unread(store: &dyn ObjectStore, key: &Key, unread: Unread) -> EngineError {
    match unread.into_damage(key.to_string(), None) {
        Ok(damage) => damaged(store, key, &damage.finding),
        Err(error) => error,
    }
}

/// Brings a document, whose stored bytes must have the digest `bound` where something binds it.
pub(super) async fn document(
    from: &dyn ObjectStore,
    to: &dyn ObjectStore,
    key: &Key,
    bound: Option<Sha256Digest>,
) -> Result<Moved, EngineError> {
    let missing =
        |store: &dyn ObjectStore| EngineError::Missing { store: store.url().into(), key: key.clone() };
    let (bytes, _) = documents::find_bytes(from, key).await?.ok_or_else(|| missing(from))?;
    let found = Sha256Digest::of(&bytes);
    if let Some(expected) = bound
        && expected != found
    {
        return Err(EngineError::Digest { store: from.url().into(), key: key.clone(), expected, found });
    }
    let length = bytes.len() as u64;
    kill_point::passed("copying", "document");
    match to.create(key, bytes).await {
        Ok(_) => {
            kill_point::passed("copied", "document");
            Ok(Moved::Written(length))
        }
        Err(error) if error.kind() == StoreErrorKind::AlreadyExists => {
            let (there, _) = documents::find_bytes(to, key).await?.ok_or_else(|| missing(to))?;
            let there = Sha256Digest::of(&there);
            if there == found {
                return Ok(Moved::WasThere);
            }
            Err(EngineError::Digest {
                store: to.url().into(),
                key: key.clone(),
                expected: found,
                found: there,
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// Brings an object of rows or catalogs. It appears at the other place only if the bytes that were sent are those that
/// were recorded.
pub(super) async fn stored(
    from: &dyn ObjectStore,
    to: &Arc<dyn ObjectStore>,
    object: &StoredObject,
) -> Result<Moved, EngineError> {
    let key = &object.key;
    match to.head(key, None).await {
        Ok(_) => {
            // Ids and tags are of the place that it was copied from, so none is asked for.
            let here = StoredObject { etag: None, version: None, ..object.clone() };
            let same = reading::check_digest(&**to, &here, Pinned::WhereKnown).await;
            return same.map(|()| Moved::WasThere).map_err(|error| unread(&**to, key, error));
        }
        Err(error) if error.kind() == StoreErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let opened = reading::open(from, object, Pinned::WhereKnown).await;
    let mut body = opened.map_err(|error| unread(from, key, error.into()))?.body;
    let mut upload = Upload::begin(to, key.clone(), UploadOptions::default());
    let mut sha256 = Sha256::new();
    let sent = async {
        let mut length = 0;
        loop {
            let next = body.try_next().await.map_err(|error| unread(from, key, error.into()))?;
            let Some(bytes) = next else { return Ok::<u64, EngineError>(length) };
            length += bytes.len() as u64;
            sha256.update(&bytes);
            upload.write(bytes).await?;
        }
    };
    let sent = sent.await.and_then(|length| {
        let found = Sha256Digest::from_bytes(sha256.finalize().into());
        if (length, found) == (object.length, object.sha256) {
            return Ok(length);
        }
        let finding = format!(
            "it has {length} bytes and SHA-256 {found}; {} bytes and {} were written",
            object.length, object.sha256
        );
        Err(damaged(from, key, &finding))
    });
    match sent {
        Ok(length) => {
            kill_point::passed("completing", "copy");
            let committed = upload.finish().await?;
            kill_point::passed("copied", "object");
            if (committed.length(), committed.sha256()) == (length, &object.sha256) {
                return Ok(Moved::Written(length));
            }
            Err(EngineError::Task(format!(
                "the upload of {key} says otherwise of what was sent than was sent"
            )))
        }
        Err(error) => {
            // The first error is what the reader is told; parts that stay go with the bucket's own rule for them.
            super::super::best_effort("an upload that failed is given up", upload.abort().await);
            Err(error)
        }
    }
}
