//! The stable words of failures that the controller itself names.

use crate::api::Failure;

/// Why a resource waits or failed, where no process of its run said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerReason {
    /// There is no such BackupStore.
    StoreNotFound,
    /// The spec contradicts itself, or asks for what isn't built.
    SpecRefused,
    /// No node takes a pod.
    Unschedulable,
    /// An image can't be pulled.
    ImagePullFailed,
    /// A pod was not started.
    PodNotStarted,
    /// A pod was refused.
    PodRefused,
    /// A process ended again and again without a word.
    ProcessFailed,
    /// A coordinator claims a seal that the witnesses do not bear out.
    WitnessesDiffer,
    /// The time is over.
    DeadlineExceeded,
    /// Nobody knows how the run ended.
    OutcomeUnknown,
    /// A ResourceQuota has no room for an object of a run.
    QuotaExceeded,
    /// An admission policy or webhook, or the controller's own role, refused an object of a run.
    AdmissionRefused,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// The name of an object of a run is taken by somebody else's.
    NameTaken,
    /// The resource was run before, elsewhere or without a status that says so.
    HistoryLost,
    /// As many runs of the store are at work as it allows.
    Queued,
    /// The user has suspended it.
    Suspended,
    /// The user has canceled it before its run was begun.
    Canceled,
    /// The store has no credentials that may delete.
    DeleteCredentialsMissing,
    /// The store is another place than the one that the run was written to.
    StoreMoved,
    /// Its data is being deleted, and nothing stands in the way.
    DeletingData,
}

impl ControllerReason {
    reasons! {
        /// The stable CamelCase word; each has an entry in docs/troubleshooting.md.
        pub words {
            Self::StoreNotFound => "StoreNotFound",
            Self::SpecRefused => "SpecRefused",
            Self::Unschedulable => "Unschedulable",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::PodNotStarted => "PodNotStarted",
            Self::PodRefused => "PodRefused",
            Self::ProcessFailed => "ProcessFailed",
            Self::WitnessesDiffer => "WitnessesDiffer",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::OutcomeUnknown => "OutcomeUnknown",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::AdmissionRefused => "AdmissionRefused",
            Self::NamespaceTerminating => "NamespaceTerminating",
            Self::NameTaken => "NameTaken",
            Self::HistoryLost => "HistoryLost",
            Self::Queued => "Queued",
            Self::Suspended => "Suspended",
            Self::Canceled => "Canceled",
            Self::DeleteCredentialsMissing => "DeleteCredentialsMissing",
            Self::StoreMoved => "StoreMoved",
            Self::DeletingData => "DeletingData",
        }
        passed_on {}
    }

    /// This reason, with what happened and what the reader can do.
    #[must_use]
    pub fn failure(self, message: impl Into<String>, hint: impl Into<String>) -> Failure {
        let (message, hint) = (cut(message.into()), cut(hint.into()));
        Failure { reason: self.reason().to_owned(), message, hint }
    }
}

/// Most characters of a text in a status: what is longer the API server refuses, and then nothing is said at all.
const MAX_TEXT: usize = 2000;

/// A text that a status takes.
pub(in crate::controller) fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
