//! Why a store refused or failed, in words that callers act on.

use std::fmt;

/// What went wrong, as far as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// No such object.
    NotFound,
    /// No such bucket, container or folder.
    NoSuchBucket,
    /// Something has that name already.
    AlreadyExists,
    /// The object is not the one that was recorded.
    Changed,
    /// Retention or a legal hold refuses.
    Locked,
    /// Credentials are missing, wrong or expired.
    Unauthenticated,
    /// The identity may not do this.
    Forbidden,
    /// The store asks to slow down.
    Throttled,
    /// A server error, a reset, a time-out: it may or may not have taken effect.
    Unavailable,
    /// Bytes were lost on the way back.
    Truncated,
    /// The store received other bytes than were sent, or returned others than it announced.
    ChecksumMismatch,
    /// The store does not do what is asked of it: conditional create, checksums.
    Unsupported,
    /// No space, or a quota is used up.
    NoSpace,
    /// The clocks differ by more than the store accepts.
    ClockSkew,
    /// The upload session is unknown: completed, aborted or expired.
    NoSuchUpload,
    /// An answer that is none of the protocol's, such as a proxy's page.
    Protocol,
    /// The request can't be right: a name, a size, an option.
    Invalid,
}

/// A failed operation on a store.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    operation: &'static str,
    object: String,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// An error of `operation` on `object` (a URL or key, no credential).
    pub fn new(
        kind: StoreErrorKind,
        operation: &'static str,
        object: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, operation, object: object.into(), message: message.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What callers act on.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// The operation that failed.
    #[must_use]
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// The object that it was about.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.object
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.operation, self.object, self.message)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}
