//! Writing: uploads in one request, and resumable ones.

use std::collections::{BTreeMap, HashMap};

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::Value;

use super::bucket::{Conditions, Declared, check_name, object_of};
use super::refusal::Refusal;
use super::{Service, Trouble};

/// "Upload the chunks in multiples of 256 KiB, except for the last":
/// <https://cloud.google.com/storage/docs/performing-resumable-uploads#chunked-upload>
const QUANTUM: u64 = 256 << 10;

const CONTENT_TYPE: &str = "application/octet-stream";

/// A resumable upload.
#[derive(Debug)]
pub(super) struct Upload {
    name: String,
    declared: Declared,
    content_type: String,
    kept: Vec<u8>,
    ended: Option<Ended>,
}

#[derive(Debug)]
enum Ended {
    /// The object resource, which every later question is answered with.
    Complete(Value),
    Canceled,
}

impl Upload {
    pub(super) fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    /// <https://cloud.google.com/storage/docs/performing-resumable-uploads#status-check>: without a byte there is no
    /// `Range`.
    fn incomplete(&self) -> Response {
        let mut answer = Response::builder().status(308).header(header::CONTENT_LENGTH, 0);
        if !self.kept.is_empty() {
            answer = answer.header(header::RANGE, format!("bytes=0-{}", self.kept.len() - 1));
        }
        answer.body(Body::empty()).unwrap_or_else(|cause| panic!("an answer can't be made: {cause}"))
    }
}

type Parameters = HashMap<String, String>;

pub(super) fn conditions(parameters: &Parameters) -> Result<Conditions, Refusal> {
    let number = |name: &str| match parameters.get(name).map(|text| text.parse()) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(Refusal::invalid(format!("Invalid value for {name}"))),
    };
    Ok(Conditions {
        generation: number("ifGenerationMatch")?,
        not_generation: number("ifGenerationNotMatch")?,
        metageneration: number("ifMetagenerationMatch")?,
        not_metageneration: number("ifMetagenerationNotMatch")?,
    })
}

/// The name stands in the query or in the metadata: <https://cloud.google.com/storage/docs/json_api/v1/objects/insert>
fn name_of(parameters: &Parameters, metadata: &Value) -> Result<String, Refusal> {
    let named = (parameters.get("name").map(String::as_str), metadata.get("name").and_then(Value::as_str));
    let name = match named {
        (Some(one), Some(other)) if one != other => {
            return Err(Refusal::invalid(format!("Value '{one}' in query does not match '{other}' in body")));
        }
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => return Err(Refusal::invalid("Required object name")),
    };
    check_name(name).map(|()| name.to_owned())
}

fn declared_in(metadata: &Value) -> Result<Declared, Refusal> {
    let text = |field: &str| metadata.get(field).and_then(Value::as_str);
    Declared::parse(text("crc32c"), text("md5Hash"))
}

fn type_in(metadata: &Value) -> Option<String> {
    metadata.get("contentType").and_then(Value::as_str).map(str::to_owned)
}

/// `POST /upload/storage/v1/b/{bucket}/o`
pub(super) async fn insert(
    State(service): State<Service>,
    Path(bucket): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    service.authorize(&headers)?;
    match parameters.get("uploadType").map(String::as_str) {
        Some("multipart") => single(&service, &bucket, &parameters, &headers, &body),
        Some("resumable") => begin(&service, &bucket, &parameters, &body),
        Some("media") => Err(Refusal::not_here("uploads of media alone")),
        _ => Err(Refusal::invalid("Invalid or missing uploadType")),
    }
}

fn single(
    service: &Service,
    bucket: &str,
    parameters: &Parameters,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Refusal> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let parts = parts_of(content_type, body)?;
    // "The first part contains metadata, the second the media"; the third, checksums that were not known before the
    // media, is what Google's own library sends.
    let (metadata, (media_type, media), trailing) = match parts.as_slice() {
        [metadata, media] => (metadata, media, None),
        [metadata, media, trailing] => (metadata, media, Some(trailing)),
        _ => return Err(Refusal::invalid("Malformed multipart body.")),
    };
    let json = |(kind, content): &(String, Bytes)| match kind.starts_with("application/json") {
        true => serde_json::from_slice::<Value>(content).map_err(|_| Refusal::invalid("Parse Error")),
        false => Err(Refusal::invalid(format!("Bad content type of metadata: {kind:?}"))),
    };
    let metadata = json(metadata)?;
    let name = name_of(parameters, &metadata)?;
    let mut declared = declared_in(&metadata)?;
    if let Some(trailing) = trailing {
        declared = declared.or(declared_in(&json(trailing)?)?);
    }
    let kind = type_in(&metadata).unwrap_or_else(|| media_type.clone());
    let object = object_of(media.clone(), &declared, if kind.is_empty() { CONTENT_TYPE } else { &kind })?;
    let conditions = conditions(parameters)?;
    service.bucket(bucket, |content| {
        let resource = object.resource(bucket, &name);
        content.insert(&name, object, &conditions)?;
        Ok(resource.to_string().into_response())
    })
}

/// Parts of `multipart/related`, each with its type.
fn parts_of(content_type: &str, body: &Bytes) -> Result<Vec<(String, Bytes)>, Refusal> {
    let malformed = || Refusal::invalid("Malformed multipart body.");
    let (kind, rest) = content_type.split_once(';').ok_or_else(malformed)?;
    let boundary = rest.trim().strip_prefix("boundary=").ok_or_else(malformed)?.trim_matches('"');
    if kind.trim() != "multipart/related" || boundary.is_empty() {
        return Err(malformed());
    }
    let mut parts = Vec::new();
    let opening = format!("--{boundary}\r\n");
    let divider = format!("\r\n--{boundary}");
    let mut at = opening.len();
    if !body.starts_with(opening.as_bytes()) {
        return Err(malformed());
    }
    loop {
        let length = find(&body[at..], divider.as_bytes()).ok_or_else(malformed)?;
        let part = body.slice(at..at + length);
        // A part may have no headers, and then begins with the empty line.
        let (head, content) = match part.starts_with(b"\r\n") {
            true => (0, 2),
            false => find(&part, b"\r\n\r\n").map(|at| (at, at + 4)).ok_or_else(malformed)?,
        };
        let text = String::from_utf8_lossy(&part[..head]).into_owned();
        let kind = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-type").then(|| value.trim().to_owned())
        });
        parts.push((kind.unwrap_or_default(), part.slice(content..)));
        at += length + divider.len();
        match body.get(at..at + 2) {
            Some(b"\r\n") => at += 2,
            Some(b"--") => return Ok(parts),
            _ => return Err(malformed()),
        }
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// <https://cloud.google.com/storage/docs/performing-resumable-uploads#initiate-session>. Conditions are not looked at
/// before the upload is complete (<https://github.com/googleapis/google-cloud-java/issues/201>); they are given back
/// in the URL, and each request brings them.
fn begin(
    service: &Service,
    bucket: &str,
    parameters: &Parameters,
    body: &Bytes,
) -> Result<Response, Refusal> {
    let metadata: Value = match body.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(body).map_err(|_| Refusal::invalid("Parse Error"))?,
    };
    let name = name_of(parameters, &metadata)?;
    conditions(parameters)?;
    let upload = Upload {
        name,
        declared: declared_in(&metadata)?,
        content_type: type_in(&metadata).unwrap_or_else(|| CONTENT_TYPE.to_owned()),
        kept: Vec::new(),
        ended: None,
    };
    let id = service.new_id();
    service.bucket(bucket, |content| {
        content.uploads.insert(id.clone(), upload);
        Ok(())
    })?;
    let sorted: BTreeMap<_, _> = parameters.iter().collect();
    let given: String =
        sorted.into_iter().map(|(name, value)| format!("{name}={}&", escaped(value))).collect();
    let location =
        format!("{}/upload/storage/v1/b/{bucket}/o?{given}upload_id={id}", service.address_for_uploads());
    Ok((StatusCode::OK, [(header::LOCATION, location)]).into_response())
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

/// What `Content-Range` says of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    /// `bytes */*`, `bytes */42`
    Ask { total: Option<u64> },
    /// `bytes 0-41/*`, `bytes 0-41/42`
    Bytes { first: u64, last: u64, total: Option<u64> },
}

fn range_of(headers: &HeaderMap, length: u64) -> Result<Range, Refusal> {
    let wrong = || Refusal::invalid("Failed to parse Content-Range header.");
    let Some(text) = headers.get(header::CONTENT_RANGE) else {
        // All of the object in one request.
        return Ok(match length {
            0 => Range::Ask { total: Some(0) },
            _ => Range::Bytes { first: 0, last: length - 1, total: Some(length) },
        });
    };
    let (range, total) =
        text.to_str().ok().and_then(|it| it.strip_prefix("bytes ")?.split_once('/')).ok_or_else(wrong)?;
    let total = match total {
        "*" => None,
        total => Some(total.parse().map_err(|_| wrong())?),
    };
    if range == "*" {
        return if length == 0 { Ok(Range::Ask { total }) } else { Err(wrong()) };
    }
    let (first, last) = range.split_once('-').ok_or_else(wrong)?;
    let (first, last): (u64, u64) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
    if last < first || last - first + 1 != length || total.is_some_and(|total| last >= total) {
        return Err(wrong());
    }
    Ok(Range::Bytes { first, last, total })
}

/// `PUT /upload/storage/v1/b/{bucket}/o?upload_id=…`
pub(super) async fn resume(
    State(service): State<Service>,
    Path(bucket): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    // "A session URI acts as an authentication token": no other is asked for.
    // https://cloud.google.com/storage/docs/resumable-uploads#session-uris
    let range = range_of(&headers, body.len() as u64)?;
    let conditions = conditions(&parameters)?;
    let hash = match headers.get("x-goog-hash").map(|it| it.to_str().unwrap_or_default()) {
        Some(text) => Declared::of_header(text)?,
        None => Declared::default(),
    };
    let trouble = service.trouble(&bucket, "PUT");
    service.bucket(&bucket, |content| {
        let id = parameters.get("upload_id").ok_or_else(|| Refusal::invalid("Invalid upload request"))?;
        let upload = content.uploads.get_mut(id).ok_or_else(Refusal::no_upload)?;
        match &upload.ended {
            None => {}
            Some(Ended::Complete(resource)) => return Ok(resource.to_string().into_response()),
            // "Future attempts to query or resume the upload result in a 4xx response."
            Some(Ended::Canceled) => return Err(Refusal::no_upload()),
        }
        let kept = upload.kept.len() as u64;
        let complete = match range {
            Range::Ask { total } => total == Some(kept),
            Range::Bytes { first, last, total } => {
                if first > kept {
                    return Err(Refusal::invalid(format!(
                        "Invalid request.  According to the Content-Range header, the upload offset is {first} \
                         byte(s), which exceeds already uploaded size of {kept} byte(s)."
                    )));
                }
                let complete = total == Some(last + 1);
                if !complete && (last - first + 1) % QUANTUM != 0 {
                    return Err(Refusal::invalid(format!(
                        "Invalid request.  The number of bytes uploaded is required to be equal or greater than \
                         {QUANTUM}, except for the final request (it's recommended to be the exact multiple of \
                         {QUANTUM})."
                    )));
                }
                // "Cloud Storage ignores any bytes you send at an offset that Cloud Storage has already persisted."
                let known = usize::try_from(kept - first).unwrap_or(usize::MAX).min(body.len());
                let mut new = body.slice(known..);
                // "The service may not have persisted all bytes of the request": the `Range` of a 308 says how many.
                let partly = trouble == Some(Trouble::KeepAQuantum) && new.len() as u64 > QUANTUM;
                if partly {
                    new.truncate(256 << 10);
                }
                upload.kept.extend_from_slice(&new);
                complete && !partly
            }
        };
        if !complete {
            return Ok(upload.incomplete());
        }
        let (name, whole) = (upload.name.clone(), Bytes::from(upload.kept.clone()));
        let object = object_of(whole, &hash.or(upload.declared.clone()), &upload.content_type)?;
        let resource = object.resource(&bucket, &name);
        content.insert(&name, object, &conditions)?;
        let ended = Some(Ended::Complete(resource.clone()));
        content.uploads.get_mut(id).ok_or_else(Refusal::no_upload)?.ended = ended;
        Ok(resource.to_string().into_response())
    })
}

/// `DELETE /upload/storage/v1/b/{bucket}/o?upload_id=…`: 499 if all goes well.
/// <https://cloud.google.com/storage/docs/performing-resumable-uploads#cancel-upload>
pub(super) async fn cancel(
    State(service): State<Service>,
    Path(bucket): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Refusal> {
    service.bucket(&bucket, |content| {
        let id = parameters.get("upload_id").ok_or_else(|| Refusal::invalid("Invalid upload request"))?;
        let upload = content.uploads.get_mut(id).ok_or_else(Refusal::no_upload)?;
        if !upload.is_open() {
            return Err(Refusal::no_upload());
        }
        upload.ended = Some(Ended::Canceled);
        upload.kept = Vec::new();
        let answer = Response::builder().status(499).body(Body::empty());
        Ok(answer.unwrap_or_else(|cause| panic!("an answer can't be made: {cause}")))
    })
}
