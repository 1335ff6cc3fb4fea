//! What an answer, or the lack of one, means to a caller. The one place where S3's errors are classified.
//!
//! Messages are made of codes, texts and causes as they print; never of `{:?}`, which shows whole responses,
//! and those of a refused signature show what was signed.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::store::told::{causes, chain, shown};
use crate::store::{StoreError, StoreErrorKind};

/// What the request asked to be true, and so what a 412 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Nothing.
    None,
    /// That nothing has the name.
    Absent,
    /// That the object is the recorded one.
    Unchanged,
}

/// A request, as errors name it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) operation: &'static str,
    pub(super) object: String,
    pub(super) condition: Condition,
}

impl Request {
    pub(super) fn error(&self, kind: StoreErrorKind, message: impl Into<String>) -> StoreError {
        StoreError::new(kind, self.operation, self.object.clone(), message)
    }

    pub(super) fn classify<E>(&self, error: SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let (kind, message) = match &error {
            SdkError::TimeoutError(_) => {
                (StoreErrorKind::Unavailable, "no answer within the time limit".to_owned())
            }
            SdkError::ServiceError(answer) => {
                self.answered(answer.raw(), answer.err().code(), answer.err().message())
            }
            SdkError::ResponseError(answer) => unreadable(answer.raw(), &error),
            // DispatchFailure, ConstructionFailure, and whatever the SDK may add.
            _ => unsent(&error),
        };
        self.error(kind, message)
    }

    /// An answer of the protocol, or of something that stands in between.
    fn answered(
        &self,
        raw: &HttpResponse,
        code: Option<&str>,
        text: Option<&str>,
    ) -> (StoreErrorKind, String) {
        let status = raw.status().as_u16();
        let mut kind = match code {
            Some(code) => of_code(code).unwrap_or_else(|| of_status(status)),
            // HEAD's answers have no body, and so no code.
            None if self.operation == "head" || is_empty(raw) => of_status(status),
            None if of_status(status).retryable() => of_status(status),
            None => StoreErrorKind::Protocol,
        };
        if status == 412 || code == Some("PreconditionFailed") {
            kind = match self.condition {
                Condition::Absent => StoreErrorKind::AlreadyExists,
                Condition::Unchanged => StoreErrorKind::Changed,
                Condition::None => StoreErrorKind::Protocol,
            };
        }
        let text = text.map(shown).unwrap_or_default();
        if kind == StoreErrorKind::Forbidden && is_about_a_lock(&text) {
            kind = StoreErrorKind::Locked;
        }
        let mut message = format!("HTTP {status}");
        for part in [code.map(shown), (!text.is_empty()).then_some(text)].into_iter().flatten() {
            message = format!("{message}, {part}");
        }
        if let Some(region) = raw.headers().get("x-amz-bucket-region")
            && matches!(status, 301 | 307 | 400)
        {
            message = format!("{message}; the bucket is in region {}", shown(region));
        }
        if kind == StoreErrorKind::Protocol {
            message = format!("{message}: this is no answer of S3");
        }
        (kind, message)
    }
}

/// Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, and what MinIO, SeaweedFS and Ceph
/// add. Not exhaustive, because the list is theirs; an unknown code counts by its HTTP status.
fn of_code(code: &str) -> Option<StoreErrorKind> {
    use StoreErrorKind as Kind;
    Some(match code {
        "NoSuchKey" | "NoSuchVersion" | "NotFound" => Kind::NotFound,
        "NoSuchBucket" => Kind::NoSuchBucket,
        "NoSuchUpload" => Kind::NoSuchUpload,
        "PreconditionFailed" => Kind::Changed,
        "ObjectLocked" | "InvalidRetentionPeriod" => Kind::Locked,
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "InvalidSecurity"
        | "MissingSecurityHeader"
        | "CredentialsNotSupported"
        | "NotSignedUp"
        | "XMinioInvalidAccessKey" => Kind::Unauthenticated,
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "UnauthorizedAccess"
        | "MethodNotAllowed" => Kind::Forbidden,
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequests"
        | "BandwidthLimitExceeded"
        | "Busy" => Kind::Throttled,
        // A conflicting operation under way: later it is decided, one way or the other.
        "ConditionalRequestConflict" | "OperationAborted" => Kind::Unavailable,
        "InternalError"
        | "ServiceUnavailable"
        | "ServerNotInitialized"
        | "XMinioServerNotInitialized"
        | "RequestTimeout"
        | "IncompleteBody"
        | "TemporaryRedirect"
        | "BadGateway" => Kind::Unavailable,
        "BadDigest"
        | "InvalidDigest"
        | "XAmzContentSHA256Mismatch"
        | "XAmzContentChecksumMismatch"
        | "ContentChecksumMismatch"
        | "ChecksumMismatch" => Kind::ChecksumMismatch,
        "NotImplemented" | "InvalidObjectState" => Kind::Unsupported,
        "QuotaExceeded"
        | "XMinioAdminBucketQuotaExceeded"
        | "XMinioStorageFull"
        | "InsufficientStorage"
        | "ServiceQuotaExceeded"
        | "InsufficientCapacity" => Kind::NoSpace,
        "RequestTimeTooSkewed" | "RequestExpired" => Kind::ClockSkew,
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "InvalidBucketName"
        | "InvalidArgument"
        | "InvalidRequest"
        | "InvalidRange"
        | "InvalidPart"
        | "InvalidPartOrder"
        | "EntityTooLarge"
        | "EntityTooSmall"
        | "KeyTooLongError"
        | "InvalidURI"
        | "MalformedXML"
        | "InvalidStorageClass" => Kind::Invalid,
        _ => return None,
    })
}

fn of_status(status: u16) -> StoreErrorKind {
    match status {
        401 => StoreErrorKind::Unauthenticated,
        403 | 405 => StoreErrorKind::Forbidden,
        404 => StoreErrorKind::NotFound,
        408 => StoreErrorKind::Unavailable,
        409 => StoreErrorKind::Unavailable,
        412 => StoreErrorKind::Changed,
        416 => StoreErrorKind::Invalid,
        429 | 503 => StoreErrorKind::Throttled,
        501 => StoreErrorKind::Unsupported,
        507 => StoreErrorKind::NoSpace,
        500..=599 => StoreErrorKind::Unavailable,
        301 | 307 | 308 | 400 => StoreErrorKind::Invalid,
        _ => StoreErrorKind::Protocol,
    }
}

/// A 403 of a retention lock differs from others by its text alone.
fn is_about_a_lock(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["object lock", "worm", "retention", "legal hold"].iter().any(|word| text.contains(word))
}

/// An answer that could not be read to its end, or is none of the protocol's.
fn unreadable(raw: &HttpResponse, error: &(dyn Error + 'static)) -> (StoreErrorKind, String) {
    let status = raw.status().as_u16();
    let body = raw.body().bytes().unwrap_or_default();
    let start = body.iter().position(|byte| !byte.is_ascii_whitespace()).map_or(&body[..0], |at| &body[at..]);
    // An error where a result was announced: the store changed its mind after it had sent its 200.
    if let Some(code) = inner_code(start) {
        let kind = of_code(code).filter(|kind| *kind != StoreErrorKind::Changed);
        return (
            kind.unwrap_or(StoreErrorKind::Unavailable),
            format!("HTTP {status}, with the error {}", shown(code)),
        );
    }
    if !start.is_empty() && !start.starts_with(b"<?xml") {
        return (StoreErrorKind::Protocol, format!("HTTP {status} with a body that is no answer of S3"));
    }
    (StoreErrorKind::Unavailable, format!("HTTP {status}, and the answer broke off: {}", chain(error)))
}

/// The code of an `<Error>` document.
fn inner_code(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, inner) = text.split_once("<Error>")?;
    let (_, code) = inner.split_once("<Code>")?;
    code.split_once("</Code>").map(|(code, _)| code)
}

/// No answer at all: the connection, TLS, or credentials that can't be had.
fn unsent(error: &(dyn Error + 'static)) -> (StoreErrorKind, String) {
    let text = chain(error);
    for cause in causes(error) {
        if let Some(credentials) =
            cause.downcast_ref::<aws_credential_types::provider::error::CredentialsError>()
        {
            use aws_credential_types::provider::error::CredentialsError;
            return match credentials {
                // The service that gives them is out of reach, which passes.
                CredentialsError::ProviderTimedOut(_) => (StoreErrorKind::Unavailable, text),
                _ => (StoreErrorKind::Unauthenticated, format!("no credentials: {text}")),
            };
        }
        let tls = cause
            .downcast_ref::<rustls::Error>()
            .or_else(|| cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(_)) = tls {
            return (StoreErrorKind::Protocol, format!("the server's certificate is not trusted: {text}"));
        }
    }
    (StoreErrorKind::Unavailable, text)
}

fn is_empty(raw: &HttpResponse) -> bool {
    raw.body().bytes().is_none_or(<[u8]>::is_empty)
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    fn answer(status: u16, body: &str) -> HttpResponse {
        HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))
    }

    fn of(operation: &'static str, condition: Condition, status: u16, code: Option<&str>) -> StoreErrorKind {
        let request = Request { operation, object: "s3://b/k".into(), condition };
        request.answered(&answer(status, "<Error/>"), code, Some("text")).0
    }

    #[test]
    fn a_failed_condition_means_what_was_asked() {
        for code in [None, Some("PreconditionFailed")] {
            assert_eq!(of("create", Condition::Absent, 412, code), StoreErrorKind::AlreadyExists);
            assert_eq!(of("get", Condition::Unchanged, 412, code), StoreErrorKind::Changed);
            assert_eq!(of("list", Condition::None, 412, code), StoreErrorKind::Protocol);
        }
        let conflict = of("create", Condition::Absent, 409, Some("ConditionalRequestConflict"));
        assert_eq!(conflict, StoreErrorKind::Unavailable);
    }

    #[test]
    fn codes_count_before_statuses() {
        use StoreErrorKind as Kind;
        for (status, code, kind) in [
            (404, "NoSuchKey", Kind::NotFound),
            (404, "NoSuchBucket", Kind::NoSuchBucket),
            (404, "NoSuchUpload", Kind::NoSuchUpload),
            (403, "AccessDenied", Kind::Forbidden),
            (403, "InvalidAccessKeyId", Kind::Unauthenticated),
            (400, "ExpiredToken", Kind::Unauthenticated),
            (403, "RequestTimeTooSkewed", Kind::ClockSkew),
            (503, "SlowDown", Kind::Throttled),
            (503, "ServiceUnavailable", Kind::Unavailable),
            (400, "RequestTimeout", Kind::Unavailable),
            (500, "InternalError", Kind::Unavailable),
            (400, "BadDigest", Kind::ChecksumMismatch),
            (403, "QuotaExceeded", Kind::NoSpace),
            (507, "XMinioStorageFull", Kind::NoSpace),
            (501, "NotImplemented", Kind::Unsupported),
            (301, "PermanentRedirect", Kind::Invalid),
            (418, "NeverHeardOfIt", Kind::Protocol),
            (502, "NeverHeardOfIt", Kind::Unavailable),
        ] {
            assert_eq!(of("get", Condition::None, status, Some(code)), kind, "{status} {code}");
        }
    }

    #[test]
    fn a_page_is_no_answer_that_something_is_absent() {
        assert_eq!(of("get", Condition::None, 404, None), StoreErrorKind::Protocol);
        assert_eq!(of("head", Condition::None, 404, None), StoreErrorKind::NotFound);
        assert_eq!(of("get", Condition::None, 502, None), StoreErrorKind::Unavailable);
    }

    #[test]
    fn a_lock_and_a_wrong_region_are_told() {
        let request = Request { operation: "delete", object: "s3://b/k".into(), condition: Condition::None };
        let text = Some("Object is WORM protected and cannot be overwritten");
        let locked = request.answered(&answer(403, ""), Some("AccessDenied"), text);
        assert_eq!(locked.0, StoreErrorKind::Locked);
        let mut moved = answer(301, "");
        moved.headers_mut().insert("x-amz-bucket-region", "eu-west-1");
        let (_, message) = request.answered(&moved, Some("PermanentRedirect"), None);
        assert!(message.contains("the bucket is in region eu-west-1"), "{message}");
    }

    #[test]
    fn a_broken_answer_is_asked_again_and_a_foreign_one_is_not() {
        let cause = std::io::Error::other("x");
        for (body, kind) in [
            ("", StoreErrorKind::Unavailable),
            ("<?xml version=\"1.0\"?><ListBucketResult><Cont", StoreErrorKind::Unavailable),
            ("<?xml version=\"1.0\"?><Error><Code>InternalError</Code></Error>", StoreErrorKind::Unavailable),
            ("<Error><Code>NoSuchUpload</Code></Error>", StoreErrorKind::NoSuchUpload),
            ("<html>Please log in</html>", StoreErrorKind::Protocol),
        ] {
            assert_eq!(unreadable(&answer(200, body), &cause).0, kind, "{body}");
        }
    }
}
