//! Reading an object's bytes. <https://cloud.google.com/storage/docs/json_api/v1/objects/get>

use std::collections::HashMap;
use std::ops::Range;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;

use super::Service;
use super::refusal::Refusal;
use super::upload::conditions;

/// `GET /storage/v1/b/{bucket}/o/{object}?alt=media`
pub(super) async fn get(
    State(service): State<Service>,
    Path((bucket, name)): Path<(String, String)>,
    Query(parameters): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let asked = || {
        service.authorize(&headers)?;
        if parameters.get("alt").map(String::as_str) != Some("media") {
            return Err(Refusal::not_here("metadata over JSON: they are asked for over gRPC"));
        }
        let generation = match parameters.get("generation").map(|text| text.parse()) {
            None => None,
            Some(Ok(generation)) => Some(generation),
            Some(Err(_)) => return Err(Refusal::invalid("Invalid value for generation")),
        };
        let conditions = conditions(&parameters)?;
        service.bucket(&bucket, |content| {
            let found = content.find(&name, generation).ok_or_else(|| Refusal::no_object(&bucket, &name))?;
            conditions.check(Some(found))?;
            Ok(found.clone())
        })
    };
    let object = match asked() {
        Ok(object) => object,
        Err(refusal) => return refusal.as_text(),
    };
    let length = object.content.len();
    let range = headers.get(header::RANGE).and_then(|it| range_of(it.to_str().ok()?, length));
    let answer = Response::builder()
        .header(header::CONTENT_TYPE, &object.content_type)
        .header(header::ETAG, object.etag())
        .header(header::LAST_MODIFIED, httpdate::fmt_http_date(object.created))
        .header(header::ACCEPT_RANGES, "bytes")
        .header("x-goog-generation", object.generation)
        .header("x-goog-metageneration", object.metageneration)
        .header("x-goog-stored-content-length", length)
        .header("x-goog-stored-content-encoding", "identity")
        .header("x-goog-storage-class", "STANDARD")
        // Of the whole object, also with a range: https://cloud.google.com/storage/docs/hashes-etags
        .header("x-goog-hash", format!("crc32c={},md5={}", object.crc32c_base64(), object.md5_base64()));
    let answer = match range {
        None => answer.status(200).body(Body::from(object.content)),
        Some(Ok(range)) => {
            let told = format!("bytes {}-{}/{length}", range.start, range.end - 1);
            let body = object.content.slice(range);
            answer.status(206).header(header::CONTENT_RANGE, told).body(Body::from(body))
        }
        Some(Err(refusal)) => return refusal.as_text(),
    };
    answer.unwrap_or_else(|cause| panic!("an answer can't be made: {cause}"))
}

/// One range of bytes; what can't be read is as if it weren't there. <https://www.rfc-editor.org/rfc/rfc9110#section-14.2>
fn range_of(text: &str, length: usize) -> Option<Result<Range<usize>, Refusal>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first, last) {
        ("", suffix) => length.saturating_sub(suffix.parse().ok()?)..length,
        (first, "") => first.parse().ok()?..length,
        (first, last) => {
            let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(length)
        }
    };
    Some(if range.start < range.end { Ok(range) } else { Err(Refusal::range()) })
}
