//! Reading: objects by their recorded version, and lists.

use std::num::NonZero;
use std::ops::Range;

use azure_core::http::Etag;
use azure_core::http::pager::PagerOptions;
use azure_core::time::OffsetDateTime;
use azure_storage_blob::models::{
    BlobClientDownloadOptions, BlobClientGetPropertiesOptions, BlobClientGetPropertiesResultHeaders,
    BlobContainerClientListBlobsOptions, HttpRange,
};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Deserialize;

use super::Shared;
use super::error::{Condition, Request};
use super::request::Added;
use crate::format::Key;
use crate::store::exact::{Broken, body, content_range, out_of_range};
use crate::store::told::chain;
use crate::store::{Download, FolderPage, ListPage, ObjectHead, ObjectVersion, StoreError, StoreErrorKind};

/// Most names of one page: what other stores send, so that a page is no larger here.
const PAGE: i32 = 1_000;

/// What is said of an answer that the service, which names the state of all it has, can't have given.
const NO_ETAG: &str = "answered 200 without an ETag: no object";

/// A recorded version as the service's own parameters.
struct Recorded {
    version_id: Option<String>,
    if_match: Option<Etag>,
    condition: Condition,
}

impl Recorded {
    fn of(version: Option<&ObjectVersion>) -> Self {
        let version_id = version.and_then(|version| version.version.clone());
        let etag = version.and_then(|version| version.etag.clone()).map(Etag::from);
        let condition = if version.is_some() { Condition::Unchanged } else { Condition::None };
        Self { version_id, if_match: etag, condition }
    }
}

/// What the service says of an object, which must be the recorded one.
fn checked(
    request: &Request,
    length: u64,
    etag: Option<Etag>,
    version: Option<String>,
    modified: Option<OffsetDateTime>,
    recorded: Option<&ObjectVersion>,
) -> Result<ObjectHead, StoreError> {
    let Some(etag) = etag.map(|etag| etag.to_string()) else {
        return Err(request.error(StoreErrorKind::Unavailable, NO_ETAG));
    };
    if let Some(expected) = recorded.and_then(|recorded| recorded.etag.as_ref())
        && *expected != etag
    {
        let message = format!("its ETag is {etag}, recorded was {expected}");
        return Err(request.error(StoreErrorKind::Changed, message));
    }
    let modified = modified.and_then(|it| Timestamp::new(it.unix_timestamp(), 0).ok());
    Ok(ObjectHead { length, version: ObjectVersion { etag: Some(etag), version }, modified })
}

pub(super) async fn head(
    shared: &Shared,
    operation: &'static str,
    key: &Key,
    version: Option<&ObjectVersion>,
) -> Result<ObjectHead, StoreError> {
    let recorded = Recorded::of(version);
    let request = shared.request(operation, key, recorded.condition);
    let options = BlobClientGetPropertiesOptions {
        if_match: recorded.if_match,
        version_id: recorded.version_id,
        ..BlobClientGetPropertiesOptions::default()
    };
    let client = shared.blob(key);
    let found = request.within(shared.limits.attempt, client.get_properties(Some(options))).await?;
    let Some(length) = found.content_length().ok().flatten() else {
        return Err(request.error(StoreErrorKind::Protocol, "answered 200 without a length"));
    };
    let version_id = found
        .headers()
        .iter()
        .find(|it| it.0.as_str() == "x-ms-version-id")
        .map(|it| it.1.as_str().to_owned());
    checked(
        &request,
        length,
        found.etag().ok().flatten(),
        version_id,
        found.last_modified().ok().flatten(),
        version,
    )
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
    let options = BlobClientDownloadOptions {
        if_match: recorded.if_match,
        version_id: recorded.version_id,
        range: range.as_ref().map(|range| HttpRange::new(range.start, range.end - range.start)),
        // One request, streamed: the SDK's own cutting would hold whole pieces in memory.
        partition_size: Some(NonZero::<usize>::MAX),
        parallel: Some(NonZero::<usize>::MIN),
        ..BlobClientDownloadOptions::default()
    };
    let client = shared.blob(key);
    let found = request.within(shared.limits.attempt, client.download(Some(options))).await?;
    let header =
        |name: &str| found.headers.iter().find(|it| it.0.as_str() == name).map(|it| it.1.as_str().to_owned());
    if found.properties.etag.is_none() {
        return Err(request.error(StoreErrorKind::Unavailable, NO_ETAG));
    }
    let answered: Option<u64> = header("content-length").and_then(|text| text.parse().ok());
    let total = match (&range, header("content-range")) {
        (None, None) => answered,
        // The SDK asks for the whole as a range.
        (None, Some(text)) => match content_range(&text) {
            Some((whole, total)) if whole == (0..total) => Some(total),
            _ => {
                return Err(
                    request.error(StoreErrorKind::Protocol, "a part was sent, the whole was asked for")
                );
            }
        },
        (Some(range), Some(text)) => match content_range(&text) {
            Some((answered, total)) if answered == *range => Some(total),
            // The service cuts a range at the object's end without a word.
            Some((_, total)) => {
                return Err(request.error(StoreErrorKind::Invalid, out_of_range(range, total)));
            }
            None => return Err(request.error(StoreErrorKind::Protocol, "an unreadable Content-Range")),
        },
        (Some(range), None) if range.start == 0 && Some(range.end) == answered => answered,
        (Some(_), None) => {
            return Err(
                request.error(StoreErrorKind::Unsupported, "the store ignores the range that was asked for")
            );
        }
    };
    let Some(total) = total else {
        return Err(request.error(StoreErrorKind::Protocol, "answered 200 without a length"));
    };
    let (etag, modified) = (found.properties.etag.clone(), found.properties.last_modified);
    let head = checked(&request, total, etag, header("x-ms-version-id"), modified, version)?;
    let expected = range.map_or(head.length, |range| range.end - range.start);
    if answered != Some(expected) {
        let message = format!("{answered:?} bytes were announced, {expected} asked for");
        return Err(request.error(StoreErrorKind::Protocol, message));
    }
    let pieces = found.body.map_err(|error| Broken::Cut(chain(&error)));
    let stall = Some(shared.limits.stall);
    let body = body(pieces, expected, stall, move |kind, message| request.error(kind, message));
    Ok(Download { head, body })
}

/// One page of a listing as the service writes it: the SDK's own type has no folders.
#[derive(Deserialize)]
struct Page {
    #[serde(rename = "Blobs")]
    blobs: Blobs,
    #[serde(rename = "NextMarker", default)]
    next: Option<String>,
}

#[derive(Deserialize, Default)]
struct Blobs {
    #[serde(rename = "$value", default)]
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
enum Entry {
    Blob(Blob),
    BlobPrefix(Named),
}

#[derive(Deserialize)]
struct Blob {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Properties")]
    properties: Properties,
}

#[derive(Deserialize)]
struct Properties {
    #[serde(rename = "Content-Length")]
    length: Option<u64>,
    /// `directory`, in accounts with a hierarchical namespace, where folders are listed beside what is in them.
    #[serde(rename = "ResourceType")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "Name")]
    name: String,
}

async fn page_of(
    shared: &Shared,
    below: &str,
    delimiter: Option<&'static str>,
    marker: Option<&str>,
) -> Result<(Vec<Entry>, Option<String>), StoreError> {
    let request =
        Request { operation: "list", object: format!("{}/{below}", shared.root), condition: Condition::None };
    let context = Added { delimiter, ..Added::default() }.into_options().context;
    let options = BlobContainerClientListBlobsOptions {
        marker: marker.map(str::to_owned),
        maxresults: Some(PAGE),
        prefix: (!below.is_empty()).then(|| below.to_owned()),
        method_options: PagerOptions { context, ..PagerOptions::default() },
        ..BlobContainerClientListBlobsOptions::default()
    };
    let pager = shared.container.list_blobs(Some(options)).map_err(|error| request.classify(&error))?;
    let mut pages = pager.into_pages();
    let found = request.within(shared.limits.attempt, pages.try_next()).await?;
    let Some(found) = found else {
        return Err(request.error(StoreErrorKind::Protocol, "no page of the list came"));
    };
    let body = found.into_body();
    let page: Page =
        azure_core::xml::from_xml(&body).map_err(|error| request.unreadable(body.as_ref(), &error))?;
    Ok((page.blobs.entries, page.next.filter(|next| !next.is_empty())))
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
    let (entries, next) = page_of(shared, &below, None, page).await?;
    let objects = entries.into_iter().filter_map(|entry| match entry {
        Entry::Blob(blob) if blob.properties.kind.as_deref() == Some("directory") => None,
        Entry::Blob(blob) => {
            let key = Key::parse(blob.name.strip_prefix(&shared.prefix)?).ok()?;
            Some((key, blob.properties.length?))
        }
        Entry::BlobPrefix(_) => None,
    });
    Ok(ListPage { objects: objects.collect(), next })
}

pub(super) async fn list_folders(
    shared: &Shared,
    prefix: &Key,
    page: Option<&str>,
) -> Result<FolderPage, StoreError> {
    let below = format!("{}{prefix}/", shared.prefix);
    let (entries, next) = page_of(shared, &below, Some("/"), page).await?;
    let folders = entries.into_iter().filter_map(|entry| match entry {
        Entry::BlobPrefix(folder) => {
            Key::parse(folder.name.strip_prefix(&shared.prefix)?.strip_suffix('/')?).ok()
        }
        Entry::Blob(_) => None,
    });
    Ok(FolderPage { folders: folders.collect(), next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_objects_from_folders() {
        let xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"https://a/\" \
            ContainerName=\"c\"><Prefix>p/</Prefix><MaxResults>4</MaxResults><Blobs>\
            <Blob><Name>p/a</Name><Properties><Content-Length>7</Content-Length>\
            <ResourceType>file</ResourceType></Properties></Blob>\
            <BlobPrefix><Name>p/d/</Name></BlobPrefix>\
            <Blob><Name>p/d</Name><Properties><Content-Length>0</Content-Length>\
            <ResourceType>directory</ResourceType></Properties></Blob>\
            </Blobs><NextMarker>more</NextMarker></EnumerationResults>";
        let page: Page = azure_core::xml::from_xml(xml.as_bytes()).unwrap();
        let kinds = page.blobs.entries.iter().map(|entry| match entry {
            Entry::Blob(blob) => {
                (blob.name.as_str(), blob.properties.length, blob.properties.kind.as_deref())
            }
            Entry::BlobPrefix(folder) => (folder.name.as_str(), None, None),
        });
        let kinds: Vec<_> = kinds.collect();
        assert_eq!(
            kinds,
            [("p/a", Some(7), Some("file")), ("p/d/", None, None), ("p/d", Some(0), Some("directory"))]
        );
        assert_eq!(page.next.as_deref(), Some("more"));
        let empty: Page = azure_core::xml::from_xml("<E><Blobs/><NextMarker/></E>".as_bytes()).unwrap();
        assert!(empty.blobs.entries.is_empty());
    }
}
