//! Whether a store compares the checksums that it is sent.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use super::error::Condition;
use super::upload::{PartChecksum, begin_with};
use super::{Shared, read};
use crate::format::{Key, Sha256Digest};
use crate::store::{ContentDigest, ObjectStore, StoreError, StoreErrorKind, UploadSession};

/// Sends content under the checksums of other content, by each way that uploads take. A way that the store
/// does not check is not used; `false` if none is left.
pub(super) async fn refuses_wrong_checksum(shared: &Arc<Shared>, key: &Key) -> Result<bool, StoreError> {
    let body = Bytes::from_static(b"what was sent");
    let wrong = Sha256Digest::of(b"something else");
    let request = shared.request("probe", key, Condition::Absent);
    let put = shared.put(&request, &shared.path(key), body.clone(), &BASE64.encode(wrong.as_bytes())).await;
    if !refused(shared, key, put.map(drop)).await? {
        return Ok(false);
    }
    if shared.part_checksum() == PartChecksum::Crc64Nvme
        && !refuses_wrong_parts(shared, key, PartChecksum::Crc64Nvme).await?
    {
        shared.crc64.store(false, Ordering::Relaxed);
    }
    match shared.part_checksum() {
        PartChecksum::Crc64Nvme => Ok(true),
        PartChecksum::Sha256 => refuses_wrong_parts(shared, key, PartChecksum::Sha256).await,
    }
}

async fn refuses_wrong_parts(shared: &Arc<Shared>, key: &Key, way: PartChecksum) -> Result<bool, StoreError> {
    let body = Bytes::from_static(b"what was sent");
    let wrong = match way {
        PartChecksum::Crc64Nvme => crate::store::digest::crc64_base64(1),
        PartChecksum::Sha256 => BASE64.encode(Sha256Digest::of(b"something else").as_bytes()),
    };
    let session = match begin_with(shared, key, way).await {
        Ok(session) => session,
        Err(error) if matches!(error.kind(), StoreErrorKind::Invalid | StoreErrorKind::Unsupported) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let part = session.put(1, 0, body.clone(), wrong).await;
    let mut refuses = match part {
        Ok(()) => false,
        Err(error) if means_refused(error.kind()) => true,
        Err(error) => return Err(abort(&session, error).await),
    };
    // The whole object's checksum is another one: the store must compute it over all parts.
    if refuses && way == PartChecksum::Crc64Nvme {
        if let Err(error) = session.put_part(1, 0, body.clone()).await {
            return Err(abort(&session, error).await);
        }
        let content = ContentDigest {
            length: body.len() as u64,
            parts: 1,
            sha256: Sha256Digest::of(&body),
            crc64nvme: 1,
            crc32c: crate::store::digest::crc32c_of(&body),
        };
        refuses = refused(shared, key, session.complete(content).await.map(drop)).await?;
    }
    session.abort().await?;
    Ok(refuses)
}

async fn abort(session: &dyn UploadSession, error: StoreError) -> StoreError {
    match session.abort().await {
        Ok(()) => error,
        Err(second) => error.with_note(format_args!("1 failed abort left parts behind ({second})")),
    }
}

/// `BadDigest` and its relatives; some stores only call the request invalid.
fn means_refused(kind: StoreErrorKind) -> bool {
    matches!(kind, StoreErrorKind::ChecksumMismatch | StoreErrorKind::Invalid)
}

/// Whether the store refused; what it took instead is removed again.
async fn refused(
    shared: &Arc<Shared>,
    key: &Key,
    result: Result<(), StoreError>,
) -> Result<bool, StoreError> {
    match result {
        Err(error) if means_refused(error.kind()) => Ok(true),
        Err(error) => Err(error),
        Ok(()) => {
            let head = read::head(shared, "probe", key, None).await?;
            super::S3Store { shared: Arc::clone(shared) }.delete(key, &head.version).await?;
            Ok(false)
        }
    }
}
