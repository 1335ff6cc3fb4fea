//! Waiting for an object to be as wanted: by watching, so that nothing between two looks is missed and a state that
//! is there already counts.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};

/// Watches the object `name` until `look` finds in it what is wanted; `look` gets none while there is no such object.
///
/// # Errors
/// After `limit`, with what was `wanted` and the state that was seen last.
pub async fn wait_until<K, T>(
    api: Api<K>,
    name: &str,
    wanted: &str,
    limit: Duration,
    mut look: impl FnMut(Option<&K>) -> Option<T>,
) -> Result<T>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + DeserializeOwned + Serialize + 'static,
{
    let deadline = Instant::now() + limit;
    // A watch that breaks is begun again; how often is not counted, the deadline is what counts.
    let mut seen = pin!(watch_object(api, name).default_backoff());
    let mut last = "nothing was seen of it".to_owned();
    while let Ok(Some(state)) = timeout_at(deadline, seen.next()).await {
        match state {
            Ok(object) => match look(object.as_ref()) {
                Some(found) => return Ok(found),
                None => last = object.map_or_else(|| "it was not there".to_owned(), |object| text(&object)),
            },
            Err(error) => last = format!("{last}; watching it failed: {error}"),
        }
    }
    bail!("{} {name} is not {wanted} after {limit:?}; last seen: {last}", K::kind(&()));
}

/// Between two looks at what nobody tells of.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Looks again and again until there is what is `wanted`: for what can't be watched, as what a proxy has seen.
///
/// # Errors
/// After `limit`, with what was wanted.
pub async fn until<T>(wanted: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("not {wanted} after {limit:?}");
        }
        sleep(BETWEEN_LOOKS).await;
    }
}

/// An object as a failure shows it: without what is long and says nothing.
fn text<K: Serialize>(object: &K) -> String {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = value.get_mut("metadata").and_then(|metadata| metadata.as_object_mut()) {
        metadata.remove("managedFields");
    }
    let shown = value.get("status").filter(|status| !status.is_null()).unwrap_or(&value);
    serde_json::to_string_pretty(shown).unwrap_or_default()
}
