//! Whether a destination keeps the promises that a proof stands on. Asked before anything is written there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;

use super::{ContentDigest, ObjectStore, StoreError, StoreErrorKind};
use crate::format::{Key, Nonce};
use crate::store::digest::ContentHasher;

/// How often a list that does not show a new object is asked again, and how long after the one before. S3's
/// lists show it at once; those of stores that lag do so by far less than this second.
const LIST_ATTEMPTS: u32 = 5;
const LIST_PAUSE: Duration = Duration::from_millis(200);

/// What a destination does, beyond what it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether this identity may delete. If not, each probe leaves a few bytes below `probes/`.
    pub delete: bool,
}

/// Asks a destination for everything that a backup needs of it: a create that refuses an existing name, by
/// both ways of creating; refusal of content that its checksum does not match; reading back, whole and in
/// part; lists. What it stores it deletes again, if it may.
///
/// # Errors
/// [`StoreErrorKind::Unsupported`] names the promise that is not kept; any other error is the request's own.
pub async fn probe(store: &Arc<dyn ObjectStore>) -> Result<Capabilities, StoreError> {
    let key = Key::probe(&Nonce::from_random(rand::random()));
    let body = Bytes::from(format!("vouchsafe probes this destination as {key}\n"));
    let committed = store.create(&key, body.clone()).await?;
    let kept = keeps_its_promises(store, &key, &body).await;
    // Whatever they did to the name: what is there now is to go.
    let removed = match store.head(&key, None).await {
        Ok(head) => store.delete(&key, &head.version).await,
        Err(error) => Err(error),
    };
    drop(committed);
    match (kept, removed) {
        (Ok(()), Ok(())) => match store.head(&key, None).await {
            Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(Capabilities { delete: true }),
            Err(error) => Err(error),
            Ok(_) => Err(broken(store, "an object that was deleted is still there")),
        },
        (Ok(()), Err(error))
            if matches!(error.kind(), StoreErrorKind::Forbidden | StoreErrorKind::Locked) =>
        {
            Ok(Capabilities { delete: false })
        }
        (Ok(()), Err(error)) => Err(error),
        (Err(first), Ok(())) => Err(first),
        (Err(first), Err(second)) => Err(first.with_note(format_args!("{key} is left behind ({second})"))),
    }
}

async fn keeps_its_promises(store: &Arc<dyn ObjectStore>, key: &Key, body: &Bytes) -> Result<(), StoreError> {
    match store.create(key, Bytes::from_static(b"another content")).await {
        Err(error) if error.kind() == StoreErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
        Ok(_) => {
            return Err(broken(store, "a create replaced an object that existed (If-None-Match is ignored)"));
        }
    }
    refuses_to_complete(store, key).await?;
    let head = store.head(key, None).await?;
    if head.length != body.len() as u64 || read(store, key, None).await? != *body {
        return Err(broken(store, "what was stored reads back as something else"));
    }
    if read(store, key, Some(2..5)).await? != body[2..5] {
        return Err(broken(store, "a range reads back as something else"));
    }
    let wrong = Key::probe(&Nonce::from_random(rand::random()));
    if !store.refuses_wrong_checksum(&wrong).await? {
        return Err(broken(store, "content was accepted under the checksum of other content"));
    }
    is_listed(store, key).await
}

/// Completing an upload in parts must refuse an existing name too: some stores know only the other way.
async fn refuses_to_complete(store: &Arc<dyn ObjectStore>, key: &Key) -> Result<(), StoreError> {
    let body = Bytes::from_static(b"another content");
    let mut content = ContentHasher::new();
    content.update(&body);
    let content: ContentDigest = content.finish(1);
    let session = match store.begin(key).await {
        // A store may look at its beginning already.
        Err(error) if error.kind() == StoreErrorKind::AlreadyExists => return Ok(()),
        begun => begun?,
    };
    let completed = match session.put_part(1, 0, body).await {
        Ok(()) => session.complete(content).await.map(drop),
        Err(error) => Err(error),
    };
    let aborted = session.abort().await;
    match completed {
        Err(error) if error.kind() == StoreErrorKind::AlreadyExists => aborted,
        Err(error) => Err(match aborted {
            Ok(()) => error,
            Err(second) => error.with_note(format_args!("1 failed abort left parts behind ({second})")),
        }),
        Ok(()) => Err(broken(
            store,
            "completing an upload replaced an object that existed (If-None-Match is ignored)",
        )),
    }
}

async fn read(
    store: &Arc<dyn ObjectStore>,
    key: &Key,
    range: Option<std::ops::Range<u64>>,
) -> Result<Bytes, StoreError> {
    let chunks: Vec<Bytes> = store.get(key, None, range).await?.body.try_collect().await?;
    Ok(chunks.concat().into())
}

async fn is_listed(store: &Arc<dyn ObjectStore>, key: &Key) -> Result<(), StoreError> {
    let above = key.as_str().rsplit_once('/').and_then(|(above, _)| Key::parse(above).ok());
    for attempt in 0..LIST_ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(LIST_PAUSE).await;
        }
        let mut page = None;
        loop {
            let listed = store.list(above.as_ref(), page.as_deref()).await?;
            if listed.objects.iter().any(|(listed, _)| listed == key) {
                return Ok(());
            }
            page = match listed.next {
                Some(next) => Some(next),
                None => break,
            };
        }
    }
    Err(broken(store, "an object that was stored is not listed"))
}

fn broken(store: &Arc<dyn ObjectStore>, what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unsupported, "probe", store.url(), what)
}
