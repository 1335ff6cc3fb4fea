//! What an answer, or the lack of one, means to a caller. The one place where errors of Google Cloud Storage are
//! classified, those of its SDK and those of the requests that are sent without it.
//!
//! Messages are made of codes, texts and causes as they print; never of `{:?}`, which shows whole requests with their
//! tokens. URLs are left out: that of an upload is as good as a password for it.

use std::error::Error;
use std::time::Duration;

use google_cloud_gax::error::CredentialsError;
use google_cloud_gax::error::rpc::Code;
use google_cloud_storage::error::{ReadError, WriteError};
use serde::Deserialize;

use crate::store::told::{causes, chain, shown};
use crate::store::{StoreError, StoreErrorKind};

/// What the request asked to be true, and so what a 412 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Nothing.
    None,
    /// That nothing has the name.
    Absent,
}

/// A request, as errors name it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) operation: &'static str,
    pub(super) object: String,
    pub(super) condition: Condition,
}

/// The error document of the JSON API.
#[derive(Deserialize)]
struct Document {
    error: Described,
}

#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    message: String,
}

impl Request {
    pub(super) fn error(&self, kind: StoreErrorKind, message: impl Into<String>) -> StoreError {
        StoreError::new(kind, self.operation, self.object.clone(), message)
    }

    /// Waits for `sent` at most `limit`: the SDK itself knows no limit for an attempt that moves data.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        sent: impl Future<Output = google_cloud_storage::Result<T>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(limit, sent).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.classify(&error)),
            Err(_) => Err(self.late()),
        }
    }

    pub(super) fn late(&self) -> StoreError {
        self.error(StoreErrorKind::Unavailable, "no answer within the time limit")
    }

    pub(super) fn classify(&self, error: &google_cloud_storage::Error) -> StoreError {
        if let Some(status) = error.http_status_code() {
            return match (error.status(), error.http_payload()) {
                (Some(described), _) => self.answered(status, &described.message),
                (None, Some(body)) => self.answered_with(status, body),
                (None, None) => self.answered(status, ""),
            };
        }
        if let Some(status) = error.status() {
            let kind = self.answered(of_code(status.code), &status.message).kind();
            return self.error(kind, format!("gRPC {}, {}", status.code.name(), shown(&status.message)));
        }
        let (kind, message) = unsent(error);
        self.error(kind, message)
    }

    /// An answer of the JSON API, or of something that stands in between.
    pub(super) fn answered_with(&self, status: u16, body: &[u8]) -> StoreError {
        if let Ok(document) = serde_json::from_slice::<Document>(body) {
            return self.answered(status, &document.error.message);
        }
        let text = String::from_utf8_lossy(body);
        // Answers about media are plain texts. A page is none of the service's, unless of the machines before it,
        // which say so by their status.
        if text.trim_start().starts_with('<') && !of_status(status).retryable() {
            let message = format!("HTTP {status} with a page: this is no answer of Google Cloud Storage");
            return self.error(StoreErrorKind::Protocol, message);
        }
        self.answered(status, if text.trim_start().starts_with('<') { "" } else { &text })
    }

    fn answered(&self, status: u16, text: &str) -> StoreError {
        let kind = match of_text(status, text).unwrap_or_else(|| of_status(status)) {
            StoreErrorKind::Changed if self.condition == Condition::Absent => StoreErrorKind::AlreadyExists,
            // No other condition is ever sent: generations are asked for by number.
            StoreErrorKind::Changed => StoreErrorKind::Protocol,
            kind => kind,
        };
        let text = shown(text);
        let mut message = format!("HTTP {status}");
        if !text.is_empty() {
            message = format!("{message}, {text}");
        }
        if kind == StoreErrorKind::Protocol {
            message = format!("{message}: this is no answer of Google Cloud Storage");
        }
        self.error(kind, message)
    }
}

/// <https://cloud.google.com/storage/docs/json_api/v1/status-codes>
fn of_status(status: u16) -> StoreErrorKind {
    match status {
        401 => StoreErrorKind::Unauthenticated,
        403 => StoreErrorKind::Forbidden,
        404 => StoreErrorKind::NotFound,
        410 | 499 => StoreErrorKind::NoSuchUpload,
        412 => StoreErrorKind::Changed,
        429 => StoreErrorKind::Throttled,
        501 => StoreErrorKind::Unsupported,
        // A conflicting operation under way: later it is decided, one way or the other.
        408 | 409 | 500 | 502..=599 => StoreErrorKind::Unavailable,
        400 | 405 | 411 | 413 | 416 => StoreErrorKind::Invalid,
        _ => StoreErrorKind::Protocol,
    }
}

/// Codes of gRPC as the statuses that the JSON API answers with for the same reasons:
/// <https://cloud.google.com/apis/design/errors#handling_errors>
const fn of_code(code: Code) -> u16 {
    match code {
        Code::InvalidArgument => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::FailedPrecondition => 412,
        Code::Aborted => 409,
        Code::OutOfRange => 416,
        Code::ResourceExhausted => 429,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded | Code::Cancelled => 504,
        _ => 500,
    }
}

/// What the service says by its text alone: the status is the same for several reasons.
fn of_text(status: u16, text: &str) -> Option<StoreErrorKind> {
    let text = text.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    match status {
        // "Provided CRC32C \"…\" doesn't match calculated CRC32C \"…\"."
        400 if says(&["doesn't match calculated"]) => Some(StoreErrorKind::ChecksumMismatch),
        400 | 401 if says(&["reasonable timeframe"]) => Some(StoreErrorKind::ClockSkew),
        404 if says(&["bucket does not exist", "no such bucket"]) => Some(StoreErrorKind::NoSuchBucket),
        403 | 412
            if says(&[
                "retention policy",
                "object retention",
                "active temporary hold",
                "event-based hold",
            ]) =>
        {
            Some(StoreErrorKind::Locked)
        }
        403 if says(&["rate limit", "ratelimitexceeded"]) => Some(StoreErrorKind::Throttled),
        403 | 429 if says(&["storage quota", "quota exceeded for storage"]) => Some(StoreErrorKind::NoSpace),
        _ => None,
    }
}

/// No answer that could be read: the connection, TLS, a token that can't be had, or another protocol.
fn unsent(error: &google_cloud_storage::Error) -> (StoreErrorKind, String) {
    let text = chain(error);
    for cause in causes(error) {
        if let Some(credentials) = cause.downcast_ref::<CredentialsError>() {
            // The service that gives them is out of reach, which passes.
            let kind = match credentials.is_transient() {
                true => StoreErrorKind::Unavailable,
                false => StoreErrorKind::Unauthenticated,
            };
            return (kind, format!("no credentials: {text}"));
        }
        if let Some(WriteError::ChecksumMismatch { mismatch, .. }) = cause.downcast_ref() {
            return (
                StoreErrorKind::ChecksumMismatch,
                format!("the store stored something else: {mismatch}"),
            );
        }
        if let Some(read) = cause.downcast_ref::<ReadError>() {
            return match read {
                ReadError::ChecksumMismatch(mismatch) => {
                    (StoreErrorKind::ChecksumMismatch, format!("what came is not what is stored: {mismatch}"))
                }
                ReadError::ShortRead(_) => (StoreErrorKind::Truncated, text),
                // Whatever it is, it is about no object; another answer may be.
                ReadError::MissingHeader(header) => {
                    (StoreErrorKind::Unavailable, format!("answered 200 without {header}: no object"))
                }
                _ => (StoreErrorKind::Protocol, format!("this is no answer of Google Cloud Storage: {read}")),
            };
        }
        if let Some(json) = cause.downcast_ref::<serde_json::Error>() {
            let kind = if json.is_eof() { StoreErrorKind::Unavailable } else { StoreErrorKind::Protocol };
            return (kind, format!("an answer that is no JSON: {text}"));
        }
        if let Some(status) = cause.downcast_ref::<tonic::Status>()
            && text.contains("content-type")
        {
            // A page, of a machine before the service or of something else.
            let kind = match status.code() {
                tonic::Code::Unavailable | tonic::Code::Internal => StoreErrorKind::Unavailable,
                _ => StoreErrorKind::Protocol,
            };
            return (kind, format!("this is no gRPC: {text}"));
        }
        if is_about_a_certificate(cause) {
            return (StoreErrorKind::Protocol, format!("the server's certificate is not trusted: {text}"));
        }
    }
    (StoreErrorKind::Unavailable, text)
}

/// An error of a request that was sent without the SDK.
pub(super) fn of_transport(request: &Request, error: reqwest::Error) -> StoreError {
    // The URL of an upload is a secret.
    let error = error.without_url();
    let text = chain(&error);
    if causes(&error).any(is_about_a_certificate) {
        return request
            .error(StoreErrorKind::Protocol, format!("the server's certificate is not trusted: {text}"));
    }
    request.error(StoreErrorKind::Unavailable, text)
}

fn is_about_a_certificate(cause: &(dyn Error + 'static)) -> bool {
    let tls = cause
        .downcast_ref::<rustls::Error>()
        .or_else(|| cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(condition: Condition, status: u16, body: &str) -> StoreError {
        Request { operation: "get", object: "gs://b/k".into(), condition }
            .answered_with(status, body.as_bytes())
    }

    #[test]
    fn a_failed_condition_means_what_was_asked() {
        let body = r#"{"error":{"code":412,"message":"At least one of the pre-conditions you specified did not hold."}}"#;
        assert_eq!(of(Condition::Absent, 412, body).kind(), StoreErrorKind::AlreadyExists);
        assert_eq!(of(Condition::None, 412, body).kind(), StoreErrorKind::Protocol);
    }

    #[test]
    fn texts_tell_what_statuses_do_not() {
        use StoreErrorKind as Kind;
        for (status, text, kind) in [
            (
                400,
                "Provided CRC32C \"AAAAAA==\" doesn't match calculated CRC32C \"2HvlZg==\".",
                Kind::ChecksumMismatch,
            ),
            (400, "Provided MD5 hash \"x\" doesn't match calculated MD5 hash \"y\".", Kind::ChecksumMismatch),
            (400, "Invalid page token", Kind::Invalid),
            (401, "Invalid Credentials", Kind::Unauthenticated),
            (403, "x does not have storage.objects.create access", Kind::Forbidden),
            (403, "Object 'b/k' is subject to bucket's retention policy and cannot be deleted", Kind::Locked),
            (403, "Object 'b/k' is under active Temporary hold and cannot be deleted", Kind::Locked),
            (404, "No such object: b/k", Kind::NotFound),
            (404, "The specified bucket does not exist.", Kind::NoSuchBucket),
            (410, "", Kind::NoSuchUpload),
            (416, "Requested range not satisfiable", Kind::Invalid),
            (429, "The rate of change requests to the object b/k exceeds the rate limit.", Kind::Throttled),
            (500, "Backend Error", Kind::Unavailable),
            (503, "Service Unavailable", Kind::Unavailable),
            (302, "", Kind::Protocol),
        ] {
            assert_eq!(of(Condition::None, status, text).kind(), kind, "{status} {text}");
            let document = serde_json::json!({"error": {"code": status, "message": text}}).to_string();
            assert_eq!(of(Condition::None, status, &document).kind(), kind, "{status} {text}");
        }
    }

    #[test]
    fn a_page_is_no_answer_that_something_is_absent() {
        assert_eq!(of(Condition::None, 404, "<html>Not found</html>").kind(), StoreErrorKind::Protocol);
        assert_eq!(of(Condition::None, 502, " <!DOCTYPE html>").kind(), StoreErrorKind::Unavailable);
    }

    #[test]
    fn an_upload_s_id_is_not_repeated() {
        let error =
            std::io::Error::other("error for url (http://h/upload/storage/v1/b/b/o?upload_id=canary)");
        assert!(!chain(&error).contains("canary"), "{}", chain(&error));
    }
}
