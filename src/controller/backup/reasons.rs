//! The stable words of failures that the controller itself names.

/// Why a Backup waits or failed, where no process of its run said so.
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
        }
        passed_on {}
    }
}
