//! Reading: objects by their recorded version, and lists.

use std::ops::Range;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::primitives::DateTime;
use futures::{StreamExt, stream};
use jiff::Timestamp;

use super::Shared;
use super::error::{Condition, Request};
use crate::format::Key;
use crate::store::exact::{Broken, body, content_range, out_of_range};
use crate::store::told::chain;
use crate::store::{Download, FolderPage, ListPage, ObjectHead, ObjectVersion, StoreError, StoreErrorKind};

/// A recorded version as S3's own parameters.
struct Recorded {
    version_id: Option<String>,
    if_match: Option<String>,
    condition: Condition,
}

impl Recorded {
    fn of(version: Option<&ObjectVersion>) -> Self {
        let version_id = version.and_then(|version| version.version.clone());
        let etag = version.and_then(|version| version.etag.clone());
        // A version id names one state; its ETag is compared by us, since not every store takes both.
        let if_match = if version_id.is_some() { None } else { etag };
        let condition = if version.is_some() { Condition::Unchanged } else { Condition::None };
        Self { version_id, if_match, condition }
    }
}

/// An answer without an ETag is not about an object, whatever its status.
fn no_object(request: &Request) -> StoreError {
    request.error(StoreErrorKind::Unavailable, "answered 200 without an ETag: no object")
}

/// What the store says of an object, which must be the recorded one.
fn checked(
    request: &Request,
    length: i64,
    etag: String,
    version_id: Option<String>,
    modified: Option<DateTime>,
    recorded: Option<&ObjectVersion>,
) -> Result<ObjectHead, StoreError> {
    let length = u64::try_from(length)
        .map_err(|_| request.error(StoreErrorKind::Protocol, format!("an object of {length} bytes")))?;
    if let Some(expected) = recorded.and_then(|recorded| recorded.etag.as_ref())
        && *expected != etag
    {
        let message = format!("its ETag is {etag}, recorded was {expected}");
        return Err(request.error(StoreErrorKind::Changed, message));
    }
    let modified = modified.and_then(|it| Timestamp::new(it.secs(), 0).ok());
    Ok(ObjectHead { length, version: ObjectVersion { etag: Some(etag), version: version_id }, modified })
}

pub(super) async fn head(
    shared: &Shared,
    operation: &'static str,
    key: &Key,
    version: Option<&ObjectVersion>,
) -> Result<ObjectHead, StoreError> {
    let recorded = Recorded::of(version);
    let request = shared.request(operation, key, recorded.condition);
    let found = shared
        .client
        .head_object()
        .bucket(&shared.bucket)
        .key(shared.path(key))
        .set_version_id(recorded.version_id)
        .set_if_match(recorded.if_match)
        .send()
        .await
        .map_err(|error| request.classify(error))?;
    let Some(etag) = found.e_tag else { return Err(no_object(&request)) };
    let (length, modified) = (found.content_length.unwrap_or(-1), found.last_modified);
    checked(&request, length, etag, found.version_id, modified, version)
}

pub(super) async fn get(
    shared: &Shared,
    key: &Key,
    version: Option<&ObjectVersion>,
    range: Option<Range<u64>>,
) -> Result<Download, StoreError> {
    let recorded = Recorded::of(version);
    let request = shared.request("get", key, recorded.condition);
    // HTTP has no way to ask for no bytes.
    if let Some(range) = range.as_ref().filter(|range| range.start >= range.end) {
        let head = head(shared, "get", key, version).await?;
        return if range.start == range.end && range.end <= head.length {
            Ok(Download { head, body: stream::empty().boxed() })
        } else {
            Err(request.error(StoreErrorKind::Invalid, out_of_range(range, head.length)))
        };
    }
    let found = shared
        .client
        .get_object()
        .bucket(&shared.bucket)
        .key(shared.path(key))
        .set_version_id(recorded.version_id)
        .set_if_match(recorded.if_match)
        .set_range(range.as_ref().map(|range| format!("bytes={}-{}", range.start, range.end - 1)))
        .send()
        .await
        .map_err(|error| request.classify(error))?;
    // First, because what is no answer about an object has no range either.
    let Some(etag) = found.e_tag else { return Err(no_object(&request)) };
    let answered = found.content_length.unwrap_or(-1);
    let total = match (&range, &found.content_range) {
        (None, None) => answered,
        (Some(range), Some(text)) => match content_range(text) {
            Some((answered, total)) if answered == *range => i64::try_from(total).unwrap_or(-1),
            // S3 cuts a range at the object's end without a word.
            Some((_, total)) => {
                return Err(request.error(StoreErrorKind::Invalid, out_of_range(range, total)));
            }
            None => return Err(request.error(StoreErrorKind::Protocol, "an unreadable Content-Range")),
        },
        (Some(range), None) if range.start == 0 && i64::try_from(range.end) == Ok(answered) => answered,
        (Some(_), None) => {
            return Err(
                request.error(StoreErrorKind::Unsupported, "the store ignores the range that was asked for")
            );
        }
        (None, Some(_)) => {
            return Err(request.error(StoreErrorKind::Protocol, "a part was sent, the whole was asked for"));
        }
    };
    let head = checked(&request, total, etag, found.version_id, found.last_modified, version)?;
    let expected = range.map_or(head.length, |range| range.end - range.start);
    if u64::try_from(answered) != Ok(expected) {
        let message = format!("{answered} bytes were announced, {expected} asked for");
        return Err(request.error(StoreErrorKind::Protocol, message));
    }
    let pieces = stream::unfold(found.body, |mut body| async move {
        let piece = body.next().await?;
        Some((piece.map_err(|error| Broken::Cut(chain(&error))), body))
    });
    // The client itself gives up where nothing comes.
    let body = body(pieces, expected, None, move |kind, message| request.error(kind, message));
    Ok(Download { head, body })
}

/// Where a listing goes on, if it does.
fn next_page(
    request: &Request,
    truncated: Option<bool>,
    token: Option<String>,
) -> Result<Option<String>, StoreError> {
    match (truncated, token) {
        (Some(true), None) => {
            Err(request.error(StoreErrorKind::Protocol, "the list goes on, but does not say where"))
        }
        (Some(true), token) => Ok(token),
        _ => Ok(None),
    }
}

fn listing(shared: &Shared, below: &str) -> Request {
    let object = format!("s3://{}/{below}", shared.bucket);
    Request { operation: "list", object, condition: Condition::None }
}

/// One page of what lies below `below`; with `delimiter`, of the folders there.
async fn page_of(
    shared: &Shared,
    below: &str,
    delimiter: Option<&str>,
    page: Option<&str>,
) -> Result<(ListObjectsV2Output, Option<String>), StoreError> {
    let request = listing(shared, below);
    let mut found = shared
        .client
        .list_objects_v2()
        .bucket(&shared.bucket)
        .prefix(below)
        .set_delimiter(delimiter.map(str::to_owned))
        .set_continuation_token(page.map(str::to_owned))
        .send()
        .await
        .map_err(|error| request.classify(error))?;
    let next = next_page(&request, found.is_truncated, found.next_continuation_token.take())?;
    Ok((found, next))
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
    let (found, next) = page_of(shared, &below, None, page).await?;
    let objects = found.contents.unwrap_or_default().into_iter().filter_map(|object| {
        let key = Key::parse(object.key?.strip_prefix(&shared.prefix)?).ok()?;
        Some((key, u64::try_from(object.size?).ok()?))
    });
    Ok(ListPage { objects: objects.collect(), next })
}

pub(super) async fn list_folders(
    shared: &Shared,
    prefix: &Key,
    page: Option<&str>,
) -> Result<FolderPage, StoreError> {
    let below = format!("{}{prefix}/", shared.prefix);
    let (found, next) = page_of(shared, &below, Some("/"), page).await?;
    let folders = found.common_prefixes.unwrap_or_default().into_iter().filter_map(|folder| {
        Key::parse(folder.prefix?.strip_prefix(&shared.prefix)?.strip_suffix('/')?).ok()
    });
    Ok(FolderPage { folders: folders.collect(), next })
}
