//! Why a store refused or failed, in words that callers act on.

use std::fmt;
use std::sync::Arc;

use crate::hint::WayIn;

/// What went wrong, as far as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// The disk itself failed to write or read; nothing written since the last fsync is to be believed.
    Medium,
    /// The clocks differ by more than the store accepts.
    ClockSkew,
    /// The upload session is unknown: completed, aborted or expired.
    NoSuchUpload,
    /// An answer that is none of the protocol's, such as a proxy's page.
    Protocol,
    /// The request can't be right: a name, a size, an option.
    Invalid,
}

impl StoreErrorKind {
    /// Every kind, for tests and tables.
    pub const ALL: [Self; 18] = [
        Self::NotFound,
        Self::NoSuchBucket,
        Self::AlreadyExists,
        Self::Changed,
        Self::Locked,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Throttled,
        Self::Unavailable,
        Self::Truncated,
        Self::ChecksumMismatch,
        Self::Unsupported,
        Self::NoSpace,
        Self::Medium,
        Self::ClockSkew,
        Self::NoSuchUpload,
        Self::Protocol,
        Self::Invalid,
    ];

    /// Whether the same request may succeed if it is sent again, and what the reader can do if it does not.
    ///
    /// The one place that decides. Wrong credentials, a full disk and a damaged answer are not made better by
    /// waiting; a retried `Medium` would be worse than none, because a second fsync reports success for pages
    /// that the first one has dropped.
    #[must_use]
    pub const fn advice(self, way: WayIn) -> Advice {
        match self {
            Self::NotFound => Advice::give_up("something deleted it, or it was never stored: verify the run"),
            Self::NoSuchBucket => Advice::give_up(way.says(
                "create the bucket or folder, or correct the URL after --store; it is never created for you",
                "create the bucket or folder, or correct spec.destinations of the BackupStore; it is never created for \
                 you",
            )),
            Self::AlreadyExists => {
                Advice::give_up("another writer has this name; check for a second run on this collection")
            }
            Self::Changed => Advice::give_up(
                "something overwrote what was stored; verify the run, and find out who writes there",
            ),
            Self::Locked => Advice::give_up("a retention lock or legal hold protects it until it expires"),
            Self::Unauthenticated => Advice::give_up(way.says(
                "check the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AZURE_STORAGE_KEY or \
                 AZURE_STORAGE_SAS_TOKEN, GOOGLE_APPLICATION_CREDENTIALS, profile files, or the identity of the process",
                "check the keys (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AZURE_STORAGE_KEY or \
                 AZURE_STORAGE_SAS_TOKEN, credentials.json) of the Secret that spec.destinations[].credentialsSecret of \
                 the BackupStore names, or the identity of the process",
            )),
            Self::Forbidden => {
                Advice::give_up("grant this identity reading, writing and listing below the prefix")
            }
            Self::Throttled => Advice::retry(way.says(
                "the store asks to slow down: lower --parallelism or set --rate-limit",
                "the store asks to slow down: lower spec.parallelism or set spec.rateLimit",
            )),
            Self::Unavailable => {
                Advice::retry("the store or the way to it failed: check its status and the network")
            }
            Self::Truncated => Advice::retry("connections are cut midway: look for a proxy or its time-outs"),
            Self::ChecksumMismatch => {
                Advice::give_up("bytes were damaged on the way or at rest: suspect memory, a proxy, the disk")
            }
            Self::Unsupported => Advice::give_up(
                "this store can't prove what it stored: use one with conditional writes and checksums",
            ),
            Self::NoSpace => Advice::give_up("free space, or raise the quota"),
            Self::Medium => {
                Advice::give_up("the disk reports failed writes or reads: see the kernel's log, replace it")
            }
            Self::ClockSkew => Advice::give_up("set this machine's clock: the store refuses its signatures"),
            Self::NoSuchUpload => Advice::give_up(
                "the upload was aborted or expired: look for a lifecycle rule shorter than the run",
            ),
            Self::Protocol => Advice::give_up(way.says(
                "something else answers at this endpoint, or with a certificate that is not trusted: check its address \
                 and proxies in between; give an authority of your own by --store-ca",
                "something else answers at this endpoint, or with a certificate that is not trusted: check its address \
                 and proxies in between; give an authority of your own by caSecret of the destination",
            )),
            Self::Invalid => Advice::give_up("correct what is named"),
        }
    }

    /// Whether the same request may succeed if it is sent again.
    #[must_use]
    pub const fn retryable(self) -> bool {
        self.advice(WayIn::Flags).retry
    }

    /// What the person who reads the error can do.
    #[must_use]
    pub const fn hint(self, way: WayIn) -> &'static str {
        self.advice(way).hint
    }

    /// The kind as a stable word, for documents and metric labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::NoSuchBucket => "NoSuchBucket",
            Self::AlreadyExists => "AlreadyExists",
            Self::Changed => "Changed",
            Self::Locked => "Locked",
            Self::Unauthenticated => "Unauthenticated",
            Self::Forbidden => "Forbidden",
            Self::Throttled => "Throttled",
            Self::Unavailable => "Unavailable",
            Self::Truncated => "Truncated",
            Self::ChecksumMismatch => "ChecksumMismatch",
            Self::Unsupported => "Unsupported",
            Self::NoSpace => "NoSpace",
            Self::Medium => "Medium",
            Self::ClockSkew => "ClockSkew",
            Self::NoSuchUpload => "NoSuchUpload",
            Self::Protocol => "Protocol",
            Self::Invalid => "Invalid",
        }
    }
}

/// What follows from a [`StoreErrorKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The same request may succeed if it is sent again.
    pub retry: bool,
    /// What the person who reads the error can do.
    pub hint: &'static str,
}

impl Advice {
    const fn retry(hint: &'static str) -> Self {
        Self { retry: true, hint }
    }

    const fn give_up(hint: &'static str) -> Self {
        Self { retry: false, hint }
    }
}

/// A failed operation on a store. `Clone`, because an upload that has failed returns the same error ever after.
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    operation: &'static str,
    object: String,
    message: String,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
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
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Adds what else went wrong while the first error was dealt with. The first error stays the error.
    #[must_use]
    pub fn with_note(mut self, note: impl fmt::Display) -> Self {
        self.message = format!("{}; {note}", self.message);
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

    /// What happened, without operation and object.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_waiting_can_mend_is_retried() {
        let retried: Vec<_> = StoreErrorKind::ALL.into_iter().filter(|kind| kind.retryable()).collect();
        assert_eq!(
            retried,
            [StoreErrorKind::Throttled, StoreErrorKind::Unavailable, StoreErrorKind::Truncated]
        );
    }

    #[test]
    fn a_note_does_not_hide_the_first_error() {
        let error = StoreError::new(StoreErrorKind::NoSpace, "put_part", "a/b", "the disk is full")
            .with_note("the abort failed too");
        assert_eq!(error.kind(), StoreErrorKind::NoSpace);
        assert_eq!(error.to_string(), "put_part of a/b: the disk is full; the abort failed too");
    }
}
