//! Reading: objects by their generation, and lists.

use std::ops::Range;

use futures::{StreamExt, stream};
use google_cloud_storage::model::{ListObjectsResponse, Object};
use google_cloud_storage::model_ext::ReadRange;
use jiff::Timestamp;

use super::Shared;
use super::error::{Condition, Request};
use crate::format::Key;
use crate::store::exact::{Broken, body, out_of_range};
use crate::store::{Download, FolderPage, ListPage, ObjectHead, ObjectVersion, StoreError, StoreErrorKind};

/// Most names of one page, which is also the most that the service sends:
/// <https://cloud.google.com/storage/docs/json_api/v1/objects/list>
const PAGE: i32 = 1_000;

/// The generation of a recorded version; absent if none was recorded.
pub(super) fn generation(
    request: &Request,
    version: Option<&ObjectVersion>,
) -> Result<Option<i64>, StoreError> {
    let Some(text) = version.and_then(|version| version.version.as_deref()) else { return Ok(None) };
    match text.parse() {
        Ok(generation) if generation > 0 => Ok(Some(generation)),
        _ => Err(request.error(StoreErrorKind::Invalid, format!("{text:?} is no generation of an object"))),
    }
}

fn version_of(generation: i64) -> ObjectVersion {
    ObjectVersion { etag: None, version: Some(generation.to_string()) }
}

fn head_of(request: &Request, object: &Object) -> Result<ObjectHead, StoreError> {
    let Ok(length) = u64::try_from(object.size) else {
        return Err(request.error(StoreErrorKind::Protocol, format!("an object of {} bytes", object.size)));
    };
    if object.generation <= 0 {
        return Err(request.error(StoreErrorKind::Protocol, "an object without a generation"));
    }
    let modified = object.create_time.as_ref().and_then(|it| Timestamp::new(it.seconds(), it.nanos()).ok());
    Ok(ObjectHead { length, version: version_of(object.generation), modified })
}

/// Metadata of the generation that is asked for, or of the current one.
async fn look(
    shared: &Shared,
    request: &Request,
    path: &str,
    generation: Option<i64>,
) -> Result<ObjectHead, StoreError> {
    let asked = shared
        .clients
        .control
        .get_object()
        .set_bucket(&shared.parent)
        .set_object(path)
        .set_generation(generation.unwrap_or_default())
        .send();
    let found = shared.within(request, shared.limits.attempt, asked).await?;
    if generation.is_some_and(|generation| generation != found.generation) {
        let message = format!("generation {} came, not the recorded one", found.generation);
        return Err(request.error(StoreErrorKind::Changed, message));
    }
    head_of(request, &found)
}

/// That a recorded generation is not there means that it is gone, or that another has its name.
pub(super) async fn gone_or_changed(
    shared: &Shared,
    request: &Request,
    key: &Key,
    generation: i64,
    gone: StoreError,
) -> StoreError {
    match look(shared, request, &shared.path(key), None).await {
        // Found by one way and not by the other: what is read is not there.
        Ok(current) if current.version == version_of(generation) => gone,
        Ok(current) => {
            let current = current.version.version.unwrap_or_default();
            let message = format!("its generation is {current}, recorded was {generation}");
            request.error(StoreErrorKind::Changed, message)
        }
        Err(error) if error.kind() == StoreErrorKind::NotFound => gone,
        Err(error) => error,
    }
}

pub(super) async fn head(
    shared: &Shared,
    operation: &'static str,
    key: &Key,
    version: Option<&ObjectVersion>,
) -> Result<ObjectHead, StoreError> {
    let request = shared.request(operation, key, Condition::None);
    let generation = generation(&request, version)?;
    match (look(shared, &request, &shared.path(key), generation).await, generation) {
        (Err(error), Some(generation)) if error.kind() == StoreErrorKind::NotFound => {
            Err(gone_or_changed(shared, &request, key, generation, error).await)
        }
        (found, _) => found,
    }
}

pub(super) async fn get(
    shared: &Shared,
    key: &Key,
    version: Option<&ObjectVersion>,
    range: Option<Range<u64>>,
) -> Result<Download, StoreError> {
    let request = shared.request("get", key, Condition::None);
    let generation = generation(&request, version)?;
    // HTTP has no way to ask for no bytes.
    if let Some(range) = range.as_ref().filter(|range| range.start >= range.end) {
        let head = head(shared, "get", key, version).await?;
        return if range.start == range.end && range.end <= head.length {
            Ok(Download { head, body: stream::empty().boxed() })
        } else {
            Err(request.error(StoreErrorKind::Invalid, out_of_range(range, head.length)))
        };
    }
    let asked = shared.clients.data.read_object(&shared.parent, shared.path(key));
    let asked = match generation {
        Some(generation) => asked.set_generation(generation),
        None => asked,
    };
    let asked = match &range {
        Some(range) => asked.set_read_range(ReadRange::segment(range.start, range.end - range.start)),
        None => asked,
    };
    let found = match (shared.within(&request, shared.limits.attempt, asked.send()).await, generation) {
        (Ok(found), _) => found,
        (Err(error), Some(generation)) if error.kind() == StoreErrorKind::NotFound => {
            return Err(gone_or_changed(shared, &request, key, generation, error).await);
        }
        (Err(error), _) => return Err(error),
    };
    let told = found.object();
    if generation.is_some_and(|generation| generation != told.generation) {
        let message = format!("generation {} came, not the recorded one", told.generation);
        return Err(request.error(StoreErrorKind::Changed, message));
    }
    let length = u64::try_from(told.size)
        .map_err(|_| request.error(StoreErrorKind::Protocol, format!("an object of {} bytes", told.size)))?;
    if let Some(range) = range.as_ref().filter(|range| range.end > length) {
        return Err(request.error(StoreErrorKind::Invalid, out_of_range(range, length)));
    }
    // The SDK does not tell when it was stored.
    let head = ObjectHead { length, version: version_of(told.generation), modified: None };
    let expected = range.map_or(length, |range| range.end - range.start);
    let told = request.clone();
    let pieces = stream::unfold((found, told), |(mut found, request)| async move {
        let piece = found.next().await?.map_err(|error| {
            let error = request.classify(&error);
            // Between two bytes a failure is a cut, whatever it is called.
            if error.kind().retryable() {
                Broken::Cut(error.message().to_owned())
            } else {
                Broken::Failed(error)
            }
        });
        Some((piece, (found, request)))
    });
    let stall = Some(shared.limits.stall);
    // A whole object's CRC-32C is compared by the SDK.
    let body = body(pieces, expected, stall, move |kind, message| request.error(kind, message));
    Ok(Download { head, body })
}

/// One page of what lies below `below`; with `delimiter`, of the folders there.
async fn page_of(
    shared: &Shared,
    below: &str,
    delimiter: &str,
    page: Option<&str>,
) -> Result<ListObjectsResponse, StoreError> {
    let object = format!("gs://{}/{below}", shared.bucket);
    let request = Request { operation: "list", object, condition: Condition::None };
    let asked = shared
        .clients
        .control
        .list_objects()
        .set_parent(&shared.parent)
        .set_prefix(below)
        .set_delimiter(delimiter)
        .set_page_size(PAGE)
        .set_page_token(page.unwrap_or_default())
        .send();
    shared.within(&request, shared.limits.attempt, asked).await
}

pub(super) async fn list(
    shared: &Shared,
    prefix: Option<&Key>,
    page: Option<&str>,
) -> Result<ListPage, StoreError> {
    let below = match prefix {
        Some(prefix) => format!("{}{prefix}/", shared.prefix),
        None => shared.prefix.clone(),
    };
    let found = page_of(shared, &below, "", page).await?;
    let objects = found.objects.into_iter().filter_map(|object| {
        let key = Key::parse(object.name.strip_prefix(&shared.prefix)?).ok()?;
        Some((key, u64::try_from(object.size).ok()?))
    });
    Ok(ListPage { objects: objects.collect(), next: next_page(found.next_page_token) })
}

pub(super) async fn list_folders(
    shared: &Shared,
    prefix: &Key,
    page: Option<&str>,
) -> Result<FolderPage, StoreError> {
    let below = format!("{}{prefix}/", shared.prefix);
    let found = page_of(shared, &below, "/", page).await?;
    let folders = found
        .prefixes
        .into_iter()
        .filter_map(|folder| Key::parse(folder.strip_prefix(&shared.prefix)?.strip_suffix('/')?).ok());
    Ok(FolderPage { folders: folders.collect(), next: next_page(found.next_page_token) })
}

fn next_page(token: String) -> Option<String> {
    Some(token).filter(|token| !token.is_empty())
}
