//! The stable words of what only a BackupStore has.

/// Why a BackupStore is not ready, where no probe said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreReason {
    /// An older store has the same prefix.
    PrefixShared,
    /// No probe of this spec has ended yet.
    Probing,
}

impl StoreReason {
    reasons! {
        /// The stable CamelCase word; each has an entry in docs/troubleshooting.md.
        pub words {
            Self::PrefixShared => "PrefixShared",
            Self::Probing => "Probing",
        }
        passed_on {}
    }
}
