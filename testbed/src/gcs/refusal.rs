//! How the service says no: one reason, in the words of both protocols.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tonic::{Code, Status};

/// A refused request. <https://cloud.google.com/storage/docs/json_api/v1/status-codes>
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: u16,
    reason: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid", message)
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, "authError", message)
    }

    pub(super) fn no_bucket() -> Self {
        Self::new(404, "notFound", "The specified bucket does not exist.")
    }

    pub(super) fn no_object(bucket: &str, name: &str) -> Self {
        Self::new(404, "notFound", format!("No such object: {bucket}/{name}"))
    }

    pub(super) fn no_upload() -> Self {
        Self::new(404, "notFound", "Not Found")
    }

    pub(super) fn condition() -> Self {
        Self::new(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
    }

    /// What a GET is answered whose negative condition does not hold.
    pub(super) fn not_modified() -> Self {
        Self::new(304, "notModified", "Not Modified")
    }

    pub(super) fn range() -> Self {
        Self::new(416, "requestedRangeNotSatisfiable", "Request range not satisfiable")
    }

    pub(super) fn throttled(name: &str) -> Self {
        let message = format!("The object {name} exceeded the rate limit for object mutation operations.");
        Self::new(429, "rateLimitExceeded", message)
    }

    pub(super) fn held(bucket: &str, name: &str) -> Self {
        let message =
            format!("Object '{bucket}/{name}' is under active Temporary hold and cannot be deleted.");
        Self::new(403, "forbidden", message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "forbidden", message)
    }

    pub(super) fn unavailable() -> Self {
        Self::new(503, "backendError", "We encountered an internal error. Please try again.")
    }

    /// What the fake does not have. The service would; a test that meets this asks for more than it may.
    pub(super) fn not_here(what: &str) -> Self {
        Self::new(501, "notImplemented", format!("this fake has no {what}"))
    }

    /// As plain text: what is answered to a request for media.
    pub(super) fn as_text(&self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, "text/html; charset=UTF-8")], self.message.clone()).into_response()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, reason, message } = self;
        let body = serde_json::json!({
            "error": {
                "code": status,
                "message": message,
                "errors": [{"message": message, "domain": "global", "reason": reason}],
            }
        });
        Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, "application/json; charset=UTF-8")
            .body(Body::from(body.to_string()))
            .unwrap_or_else(|cause| panic!("an answer can't be made: {cause}"))
    }
}

/// <https://cloud.google.com/apis/design/errors#handling_errors>
impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.status {
            304 => Code::Aborted,
            400 => Code::InvalidArgument,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::NotFound,
            412 => Code::FailedPrecondition,
            416 => Code::OutOfRange,
            429 => Code::ResourceExhausted,
            501 => Code::Unimplemented,
            503 => Code::Unavailable,
            _ => Code::Internal,
        };
        Self::new(code, refusal.message)
    }
}
