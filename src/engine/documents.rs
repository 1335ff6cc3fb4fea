//! Documents in a store: created once, read whole, and always with the digest of the stored bytes.

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;

use super::error::EngineError;
use crate::format::{Document, Key, Sha256Digest, decode, encode};
use crate::kill_point;
use crate::store::{ObjectStore, ObjectVersion, StoreErrorKind};

/// Largest document as stored, in bytes: a plan of a million tickets takes some 60 MB compressed.
const MAX_STORED_BYTES: u64 = 512 << 20;

/// A document with what binds it: the digest and version of its stored bytes.
#[derive(Clone, Debug)]
pub(crate) struct Held<D> {
    pub(crate) document: D,
    pub(crate) key: Key,
    pub(crate) sha256: Sha256Digest,
    pub(crate) length: u64,
    pub(crate) version: ObjectVersion,
}

/// Creates `document` under `key`, which must be free.
pub(crate) async fn put<D: Document>(
    store: &dyn ObjectStore,
    key: &Key,
    document: D,
) -> Result<Held<D>, EngineError> {
    let bytes = encode(&document).map_err(|source| EngineError::format(store, key, source))?;
    kill_point::passed("creating", D::KIND);
    let committed = store.create(key, Bytes::from(bytes)).await?;
    kill_point::passed("created", D::KIND);
    Ok(Held {
        document,
        key: key.clone(),
        sha256: *committed.sha256(),
        length: committed.length(),
        version: committed.version().clone(),
    })
}

/// Reads the document under `key`, if there is one.
pub(crate) async fn find<D: Document>(
    store: &dyn ObjectStore,
    key: &Key,
) -> Result<Option<Held<D>>, EngineError> {
    let Some((bytes, version)) = find_bytes(store, key).await? else { return Ok(None) };
    let document = decode(&bytes).map_err(|source| EngineError::format(store, key, source))?;
    let (sha256, length) = (Sha256Digest::of(&bytes), bytes.len() as u64);
    Ok(Some(Held { document, key: key.clone(), sha256, length, version }))
}

/// Reads the document under `key`, which must be there.
pub(crate) async fn get<D: Document>(store: &dyn ObjectStore, key: &Key) -> Result<Held<D>, EngineError> {
    let missing = || EngineError::Missing { store: store.url().to_owned(), key: key.clone() };
    find(store, key).await?.ok_or_else(missing)
}

/// Reads a document whose stored bytes must have the digest `expected`.
pub(crate) async fn get_bound<D: Document>(
    store: &dyn ObjectStore,
    key: &Key,
    expected: Sha256Digest,
) -> Result<Held<D>, EngineError> {
    let held: Held<D> = get(store, key).await?;
    if held.sha256 == expected {
        return Ok(held);
    }
    Err(EngineError::Digest { store: store.url().to_owned(), key: key.clone(), expected, found: held.sha256 })
}

/// Reads a whole small object, if there is one.
pub(crate) async fn find_bytes(
    store: &dyn ObjectStore,
    key: &Key,
) -> Result<Option<(Bytes, ObjectVersion)>, EngineError> {
    let download = match store.get(key, None, None).await {
        Ok(download) => download,
        Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if download.head.length > MAX_STORED_BYTES {
        let (store, key) = (store.url().to_owned(), key.clone());
        return Err(EngineError::DocumentTooLarge { store, key, length: download.head.length });
    }
    let mut body = download.body;
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.try_next().await? {
        if bytes.len() + chunk.len() > MAX_STORED_BYTES as usize {
            let (store, key) = (store.url().to_owned(), key.clone());
            return Err(EngineError::DocumentTooLarge { store, key, length: MAX_STORED_BYTES + 1 });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some((bytes.freeze(), download.head.version)))
}

/// Every key below `prefix`, over all pages. What a listing leaves out proves nothing.
pub(crate) async fn list_all(store: &dyn ObjectStore, prefix: Option<&Key>) -> Result<Vec<Key>, EngineError> {
    Ok(list_sized(store, prefix).await?.into_iter().map(|(key, _)| key).collect())
}

/// The same, with each object's length in bytes.
pub(crate) async fn list_sized(
    store: &dyn ObjectStore,
    prefix: Option<&Key>,
) -> Result<Vec<(Key, u64)>, EngineError> {
    let mut objects = Vec::new();
    let mut page = None;
    loop {
        let listed = store.list(prefix, page.as_deref()).await?;
        objects.extend(listed.objects);
        match listed.next {
            Some(next) => page = Some(next),
            None => return Ok(objects),
        }
    }
}
