//! The stable words of failures that only a Restore has.

use crate::api::Failure;

/// Why a Restore waits or failed, where no process of it said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreReason {
    /// There is no such Backup.
    BackupNotFound,
    /// The Backup has not ended yet.
    BackupUnfinished,
    /// The Backup holds nothing that could be restored.
    BackupFailed,
    /// There is no such BackupSchedule.
    ScheduleNotFound,
    /// The schedule has no proven backup yet.
    NoBackup,
    /// A restorer says that it restored another backup than it was given.
    ManifestUnexpected,
    /// A person asked for its end.
    Canceled,
}

impl RestoreReason {
    reasons! {
        /// The stable CamelCase word; each has an entry in docs/troubleshooting.md.
        pub words {
            Self::BackupNotFound => "BackupNotFound",
            Self::BackupUnfinished => "BackupUnfinished",
            Self::BackupFailed => "BackupFailed",
            Self::ScheduleNotFound => "ScheduleNotFound",
            Self::NoBackup => "NoBackup",
            Self::ManifestUnexpected => "ManifestUnexpected",
            Self::Canceled => "Canceled",
        }
        passed_on {}
    }

    /// This reason, with what happened and what the reader can do.
    #[must_use]
    pub fn failure(self, message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure { reason: self.reason().to_owned(), message: message.into(), hint: hint.into() }
    }
}
