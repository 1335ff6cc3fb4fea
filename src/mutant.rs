//! The deliberate faults of the test build: each is a lie that a backup tool has told, and the suite shows
//! which guard catches it.
//!
//! A debug build reads the name of one mutant from `VOUCHSAFE_MUTANT`, or several with commas between; a
//! release build has none.

/// One deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// An upload checks one error variable and returns another.
    ReturnTheOtherError,
    /// An upload drops its last part and completes.
    SwallowTheFinalFlush,
    /// A worker leaves one ticket out.
    SkipATicket,
    /// The census is copied from the receipts instead of being asked of the database.
    CountFromReceipts,
    /// The coordinator takes receipts whatever plan they name.
    AcceptAnotherPlansReceipt,
    /// A worker exports the span before the one it was asked for.
    ExportTheNeighboursRange,
    /// A catalog is stored without its last entry, and its receipt counts what was stored.
    LoseACatalogsLastEntry,
    /// A verifier answers from the receipts without reading.
    VerifierThatEchoes,
    /// A verifier answers with the nonce of an earlier question.
    StaleVerdict,
    /// The coordinator seals when all verdicts but one are in.
    SealBeforeTheLastVerdict,
    /// "The name is taken" is read as "my own create worked".
    ConflictMeansMine,
    /// A verifier compares digests and does not decode.
    CheckOnlyDigests,
}

impl Mutant {
    /// Every mutant, for the test that runs them all.
    pub const ALL: [Self; 12] = [
        Self::ReturnTheOtherError,
        Self::SwallowTheFinalFlush,
        Self::SkipATicket,
        Self::CountFromReceipts,
        Self::AcceptAnotherPlansReceipt,
        Self::ExportTheNeighboursRange,
        Self::LoseACatalogsLastEntry,
        Self::VerifierThatEchoes,
        Self::StaleVerdict,
        Self::SealBeforeTheLastVerdict,
        Self::ConflictMeansMine,
        Self::CheckOnlyDigests,
    ];
}

/// Whether this process is that mutant.
#[cfg(debug_assertions)]
#[must_use]
pub fn is(mutant: Mutant) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var("VOUCHSAFE_MUTANT").ok());
    chosen.as_ref().is_some_and(|names| names.split(',').any(|name| name == format!("{mutant:?}")))
}

/// Whether this process is that mutant: a release build never is.
#[cfg(not(debug_assertions))]
#[must_use]
pub const fn is(_: Mutant) -> bool {
    false
}
