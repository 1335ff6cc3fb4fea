//! Resumable uploads, as the JSON API has them: a session that takes an object's bytes in order.
//! <https://cloud.google.com/storage/docs/performing-resumable-uploads>
//!
//! Spoken by us, because the SDK's own is one call for a whole object: it retries by a policy of its own, has no time
//! limit for an attempt, sends no checksum once it had to resume, believes a service that says "complete" to a query
//! without looking at what was stored, and of a request that was kept in part it sends other bytes than the rest
//! (`handle_partial` in 1.21).

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, RANGE};
use reqwest::{Body, Method, Response, Url};
use serde::Deserialize;

use super::error::{Request, of_transport};
use crate::store::told::chain;
use crate::store::{Limits, StoreError, StoreErrorKind};

/// Longest answer that is read. An object's metadata make about one kilobyte.
const MAX_ANSWER: usize = 64 << 10;

/// Size that every request's body but the last must be a multiple of:
/// <https://cloud.google.com/storage/docs/performing-resumable-uploads#chunked-upload>
pub(super) const QUANTUM: usize = 256 << 10;

/// "Resume Incomplete": this much is kept, go on.
const INCOMPLETE: u16 = 308;

/// What an object's checksum is sent as: <https://cloud.google.com/storage/docs/data-validation>
const HASH: HeaderName = HeaderName::from_static("x-goog-hash");

/// Sends uploads.
pub(super) struct Uploads {
    http: reqwest::Client,
    credentials: Credentials,
    endpoint: Url,
}

/// Where one upload goes on. Whoever knows it can write there, so it is never printed.
#[derive(Clone)]
pub(super) struct SessionUrl(Url);

impl fmt::Debug for SessionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionUrl(…)")
    }
}

/// What the service says of an upload.
#[derive(Debug)]
pub(super) enum Progress {
    /// It has this many bytes, from the start.
    Kept(u64),
    /// The object exists.
    Done(Stored),
}

/// What the service says of a stored object.
#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    pub(super) generation: String,
    pub(super) size: String,
    /// In Base64, of the big-endian bytes.
    pub(super) crc32c: String,
}

/// Bytes to send, and where they lie in the object.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<Bytes>,
    pub(super) start: u64,
    pub(super) length: usize,
    /// Length and CRC-32C in Base64 of the whole object: only with its last bytes.
    pub(super) last: Option<(u64, String)>,
}

impl Chunk {
    fn content_range(&self) -> String {
        let total = self.last.as_ref().map_or_else(|| "*".to_owned(), |(total, _)| total.to_string());
        match self.length as u64 {
            0 => format!("bytes */{total}"),
            length => format!("bytes {}-{}/{total}", self.start, self.start + length - 1),
        }
    }
}

/// Sends requests. Follows no redirect: an answer that sends elsewhere is none of the service's, and the token stays here.
pub(super) fn http_client(limits: &Limits) -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .http1_only()
        .connect_timeout(limits.connect)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| format!("TLS can't be set up: {}", chain(&error)))
}

impl Uploads {
    pub(super) fn new(
        http: reqwest::Client,
        endpoint: &str,
        credentials: Credentials,
    ) -> Result<Self, String> {
        let endpoint =
            Url::parse(endpoint).map_err(|error| format!("the endpoint {endpoint:?} is no URL: {error}"))?;
        Ok(Self { http, credentials, endpoint })
    }

    /// Who asks, as headers of a request. The SDK keeps the token as long as it is good.
    pub(super) async fn identity(&self, request: &Request, limit: Duration) -> Result<HeaderMap, StoreError> {
        match tokio::time::timeout(limit, self.credentials.headers(http::Extensions::new())).await {
            Ok(Ok(CacheableResource::New { data, .. })) => Ok(data),
            // Only for who names an earlier answer.
            Ok(Ok(CacheableResource::NotModified)) => Ok(HeaderMap::new()),
            Ok(Err(error)) => Err(request.classify(&google_cloud_storage::Error::authentication(error))),
            Err(_) => {
                let message = "no credentials: whoever gives them does not answer within the time limit";
                Err(request.error(StoreErrorKind::Unavailable, message))
            }
        }
    }

    /// Sends one request; what came is its status, its headers and its body.
    async fn send(
        &self,
        request: &Request,
        limit: Duration,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Body,
    ) -> Result<(u16, HeaderMap, Vec<u8>), StoreError> {
        let identity = self.identity(request, limit).await?;
        let sent = async {
            let answer = self
                .http
                .request(method, url)
                .headers(headers)
                .headers(identity)
                .body(body)
                .send()
                .await
                .map_err(|error| of_transport(request, error))?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            Ok((status, headers, read(request, answer).await?))
        };
        tokio::time::timeout(limit, sent).await.unwrap_or_else(|_| Err(request.late()))
    }

    /// Begins the upload of an object that must not exist.
    pub(super) async fn begin(
        &self,
        request: &Request,
        limit: Duration,
        bucket: &str,
        name: &str,
    ) -> Result<SessionUrl, StoreError> {
        let mut url = self.endpoint.clone();
        url.set_path(&format!("/upload/storage/v1/b/{bucket}/o"));
        url.query_pairs_mut()
            .append_pair("uploadType", "resumable")
            .append_pair("name", name)
            .append_pair("ifGenerationMatch", "0");
        let metadata = r#"{"contentType":"application/octet-stream"}"#;
        let headers = header(CONTENT_TYPE, "application/json; charset=UTF-8");
        let (status, headers, body) =
            self.send(request, limit, Method::POST, url, headers, Body::from(metadata)).await?;
        if !(200..300).contains(&status) {
            return Err(request.answered_with(status, &body));
        }
        let location = headers.get(LOCATION).and_then(|it| it.to_str().ok());
        let Some(location) = location.and_then(|it| self.endpoint.join(it).ok()) else {
            return Err(request
                .error(StoreErrorKind::Unavailable, "answered 200 without saying where the upload goes on"));
        };
        Ok(SessionUrl(self.below_the_endpoint(&location)))
    }

    /// Path and parameters as the service gives them, at the endpoint that was asked: an answer can't send data
    /// and token elsewhere, and a service behind another name or port is met where it is.
    fn below_the_endpoint(&self, location: &Url) -> Url {
        let mut url = self.endpoint.clone();
        url.set_path(location.path());
        url.set_query(location.query());
        // The condition travels with each request, as the service gives it back; without it an object would be
        // overwritten, so its absence is not left to chance.
        if !location.query_pairs().any(|(name, _)| name == "ifGenerationMatch") {
            url.query_pairs_mut().append_pair("ifGenerationMatch", "0");
        }
        url
    }

    /// Sends bytes that follow those that are kept.
    pub(super) async fn put(
        &self,
        request: &Request,
        limit: Duration,
        session: &SessionUrl,
        chunk: Chunk,
    ) -> Result<Progress, StoreError> {
        let mut headers = header(CONTENT_RANGE, &chunk.content_range());
        headers.extend(header(CONTENT_LENGTH, &chunk.length.to_string()));
        if let Some((_, crc32c)) = &chunk.last {
            headers.extend(header(HASH, &format!("crc32c={crc32c}")));
        }
        let body = Body::wrap_stream(stream::iter(chunk.bytes.into_iter().map(Ok::<_, Infallible>)));
        let body = if chunk.length == 0 { Body::from("") } else { body };
        self.progress(request, limit, session, headers, body).await
    }

    /// Asks how much is kept: <https://cloud.google.com/storage/docs/performing-resumable-uploads#status-check>
    pub(super) async fn ask(
        &self,
        request: &Request,
        limit: Duration,
        session: &SessionUrl,
    ) -> Result<Progress, StoreError> {
        let headers = header(CONTENT_RANGE, "bytes */*");
        self.progress(request, limit, session, headers, Body::from("")).await
    }

    async fn progress(
        &self,
        request: &Request,
        limit: Duration,
        session: &SessionUrl,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Progress, StoreError> {
        let url = session.0.clone();
        let (status, headers, body) = self.send(request, limit, Method::PUT, url, headers, body).await?;
        match status {
            200 | 201 => stored(request, status, &body).map(Progress::Done),
            INCOMPLETE => {
                let range = headers.get(RANGE).map(|it| it.to_str().unwrap_or_default());
                kept(range).map(Progress::Kept).ok_or_else(|| {
                    request.error(StoreErrorKind::Protocol, "HTTP 308 with a range that can't be read")
                })
            }
            404 => {
                let gone = request.answered_with(status, &body);
                Err(request.error(StoreErrorKind::NoSuchUpload, gone.message()))
            }
            _ => Err(request.answered_with(status, &body)),
        }
    }

    /// Has the service forget an upload; one that it doesn't know is success.
    pub(super) async fn forget(
        &self,
        request: &Request,
        limit: Duration,
        session: &SessionUrl,
    ) -> Result<(), StoreError> {
        let headers = header(CONTENT_LENGTH, "0");
        let url = session.0.clone();
        let (status, _, body) =
            self.send(request, limit, Method::DELETE, url, headers, Body::from("")).await?;
        match status {
            // 499 is what the service answers if all went well.
            200..300 | 404 | 410 | 499 => Ok(()),
            _ => Err(request.answered_with(status, &body)),
        }
    }
}

fn header(name: HeaderName, value: &str) -> HeaderMap {
    // Numbers, Base64 and words of ours: never a byte that a header can't hold.
    value.parse().into_iter().map(|value| (name.clone(), value)).collect()
}

async fn read(request: &Request, mut answer: Response) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::new();
    while let Some(bytes) = answer.chunk().await.map_err(|error| of_transport(request, error))? {
        body.extend_from_slice(&bytes);
        if body.len() > MAX_ANSWER {
            return Err(request.error(StoreErrorKind::Protocol, "an answer without end"));
        }
    }
    Ok(body)
}

fn stored(request: &Request, status: u16, body: &[u8]) -> Result<Stored, StoreError> {
    serde_json::from_slice(body).map_err(|_| {
        // Something else than an object may stand there; what is none of the protocol's is not asked again.
        let kind = match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None | Some(b'{') => StoreErrorKind::Unavailable,
            Some(_) => StoreErrorKind::Protocol,
        };
        request.error(kind, format!("answered {status} without an object: not stored"))
    })
}

/// `bytes=0-41` is 42 bytes; no header is none.
fn kept(range: Option<&str>) -> Option<u64> {
    let Some(range) = range else { return Some(0) };
    range.strip_prefix("bytes=0-")?.parse::<u64>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_exactly() {
        assert_eq!(kept(None), Some(0));
        assert_eq!(kept(Some("bytes=0-0")), Some(1));
        assert_eq!(kept(Some("bytes=0-524287")), Some(524_288));
        for range in ["", "bytes=1-2", "bytes=0-", "bytes 0-1", "bytes=0-18446744073709551615"] {
            assert_eq!(kept(Some(range)), None, "{range}");
        }
    }

    #[test]
    fn ranges_are_those_of_the_documentation() {
        let chunk = |start, length, last| Chunk { bytes: vec![], start, length, last };
        assert_eq!(chunk(0, 524_288, None).content_range(), "bytes 0-524287/*");
        assert_eq!(
            chunk(524_288, 10, Some((524_298, "x".into()))).content_range(),
            "bytes 524288-524297/524298"
        );
        assert_eq!(chunk(0, 0, Some((0, "x".into()))).content_range(), "bytes */0");
    }

    #[tokio::test]
    async fn an_upload_goes_on_where_it_was_begun() {
        let credentials = google_cloud_auth::credentials::anonymous::Builder::new().build();
        let uploads = Uploads::new(reqwest::Client::new(), "http://127.0.0.1:7", credentials).unwrap();
        let elsewhere =
            Url::parse("http://169.254.169.254/upload/storage/v1/b/b/o?upload_id=canary").unwrap();
        let session = SessionUrl(uploads.below_the_endpoint(&elsewhere));
        let expected = "http://127.0.0.1:7/upload/storage/v1/b/b/o?upload_id=canary&ifGenerationMatch=0";
        assert_eq!(session.0.as_str(), expected);
        assert!(!format!("{session:?}").contains("canary"));
    }
}
