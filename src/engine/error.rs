//! Why a run, a verification or a restore ended, in words that a person can act on.

use crate::codec::CodecError;
use crate::format::{Decision, FormatError, Key, Outcome, ProcessIdentity, Sha256Digest};
use crate::hint::{Hint, WayIn};
use crate::ledger::LedgerError;
use crate::source::target::{Finding, TargetError};
use crate::source::{Recovery, SourceError};
use crate::store::StoreError;

use super::register::whereabouts;

/// An engine's failure. [`reason`](Self::reason) is its stable word, [`hint`](Self::hint) what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// PostgreSQL refused or failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The server to restore into refused or failed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The target lacks what the backup needs; nothing was touched.
    #[error("the target is not fit: {}", said(findings))]
    TargetUnfit {
        /// Everything that keeps the restore from beginning.
        findings: Vec<Finding>,
    },
    /// The books don't agree.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A stream of rows is not what it should be.
    #[error("{what}: {source}")]
    Codec {
        /// What was read.
        what: String,
        /// Why.
        source: CodecError,
    },
    /// A document is not what it should be.
    #[error("{store}/{key}: {source}")]
    Format {
        /// The destination.
        store: String,
        /// The object.
        key: Key,
        /// Why.
        source: FormatError,
    },
    /// An object that must be there is not.
    #[error("{store}/{key} is missing")]
    Missing {
        /// The destination.
        store: String,
        /// The object.
        key: Key,
    },
    /// The register lacks a document that it must have had.
    #[error("{store}/{key} is missing: {why}")]
    RegisterGap {
        /// The default destination.
        store: String,
        /// The object.
        key: Key,
        /// The run.
        run: u32,
        /// Why it must have been there.
        why: String,
    },
    /// A document is not the one that another document names.
    #[error(
        "{store}/{key} is another object than the one that was recorded: its SHA-256 is {found}, and {expected} was written"
    )]
    Digest {
        /// The destination.
        store: String,
        /// The object.
        key: Key,
        /// The recorded digest.
        expected: Sha256Digest,
        /// The digest found.
        found: Sha256Digest,
    },
    /// A document larger than any that we write.
    #[error("{store}/{key} holds {length} bytes, more than any document of ours")]
    DocumentTooLarge {
        /// The destination.
        store: String,
        /// The object.
        key: Key,
        /// Its length.
        length: u64,
    },
    /// What was asked for can't be done so.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Hint,
    },
    /// A backup's destination was not given.
    #[error("destination {0} of the backup was not given")]
    DestinationMissing(String),
    /// The collection is another database's.
    #[error("the collection at {store} holds backups of {theirs}, and the source is {ours}")]
    CollectionIdentityChanged {
        /// The default destination.
        store: String,
        /// Identity of the collection.
        theirs: String,
        /// Identity of the source.
        ours: String,
    },
    /// No run is claimed or decided where a collection was copied to.
    #[error("what lies in {store} was copied from elsewhere, and takes no runs of its own")]
    CollectionIsCopy {
        /// The default destination.
        store: String,
    },
    /// Somebody is at the collection.
    #[error("run {run} of {owner} is under way in {}", whereabouts(process.as_ref()))]
    Busy {
        /// The run.
        run: u32,
        /// Its owner.
        owner: String,
        /// Where it runs.
        process: Option<ProcessIdentity>,
    },
    /// A dead run of another owner is in the way.
    #[error("run {run} of another command ({owner}) was left open, and nobody is at it")]
    HeldByAnother {
        /// The run.
        run: u32,
        /// Its owner.
        owner: String,
    },
    /// A newer attempt of the same run took over.
    #[error("attempt {attempt} of run {run} was taken over by a newer attempt")]
    LostTurn {
        /// The run.
        run: u32,
        /// This attempt.
        attempt: u32,
    },
    /// The run was decided by somebody else.
    #[error("run {run} was decided elsewhere: {}", describe(&outcome.decision))]
    DecidedElsewhere {
        /// The run.
        run: u32,
        /// The outcome.
        outcome: Box<Outcome>,
    },
    /// The store does not say how the run ended.
    #[error("how run {run} ended is not known: {source}")]
    OutcomeUnknown {
        /// The run.
        run: u32,
        /// Why.
        source: Box<EngineError>,
    },
    /// The run is sealed, and what the seal is bound to is damaged since.
    #[error("run {run} is sealed, and its backup can't be opened: {source}")]
    SealedDamaged {
        /// The run.
        run: u32,
        /// What is wrong.
        source: Box<EngineError>,
    },
    /// No such backup.
    #[error("{0}")]
    NoBackup(String),
    /// The backup was retired.
    #[error("run {run} is a backup no more: prune {prune} has retired it")]
    RunRetired {
        /// The run.
        run: u32,
        /// The prune.
        prune: u32,
    },
    /// A prune would leave too little.
    #[error("nothing was retired: {0}")]
    RetentionFloor(String),
    /// The backup that is to stay can't be believed, so nothing else may go.
    #[error("nothing was retired or deleted: run {run}, the newest backup that stays, is damaged: {finding}")]
    SurvivorDamaged {
        /// The run.
        run: u32,
        /// The first of what is wrong with it.
        finding: String,
    },
    /// Something changed between the list and the claim.
    #[error("nothing was retired: {0}")]
    PruneOutdated(String),
    /// What is stored is not what was proven.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// The restored database is not the backup.
    #[error("the restored database differs from the backup: {0}")]
    NotEqual(String),
    /// The manifest is another than the caller expects.
    #[error("run {run} has the manifest {found}, and {expected} is expected")]
    ManifestUnexpected {
        /// The run.
        run: u32,
        /// Digest found.
        found: Sha256Digest,
        /// Digest expected.
        expected: Sha256Digest,
    },
    /// The deadline has passed.
    #[error("not done within {}", crate::api::quantity::format_duration(*.0))]
    DeadlineExceeded(std::time::Duration),
    /// A person asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The process was asked to end, and its run is for the same command to go on with.
    #[error("interrupted; run {run} is left open")]
    LeftOpen {
        /// The run.
        run: u32,
    },
    /// A restore that was stopped, or has failed and left something.
    #[error("{source}; {}", what_is_left(left.as_deref()))]
    RestoreGivenUp {
        /// What ended it.
        source: Box<EngineError>,
        /// What of it is left on the target, and why; absent: nothing.
        left: Option<String>,
    },
    /// Another process of the run could not do its part, and no attempt is left.
    #[error("{process}: {message}")]
    Process {
        /// Which.
        process: String,
        /// The stable word of its failure.
        reason: &'static str,
        /// What happened there.
        message: String,
        /// What the reader can do.
        hint: String,
    },
    /// A task of this process ended in a manner that it must not.
    #[error("{0}")]
    Task(String),
    /// A local file could not be used.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

fn said(findings: &[Finding]) -> String {
    findings.iter().map(|finding| &*finding.message).collect::<Vec<_>>().join("; ")
}

/// A decision in a few words.
pub(crate) fn describe(decision: &Decision) -> String {
    match decision {
        Decision::Sealed { plan, .. } => format!("sealed with plan {plan}"),
        Decision::Pruned { retired, .. } => format!("sealed, a prune that retired {} runs", retired.len()),
        Decision::Void { reason, message } => format!("void ({reason}: {message})"),
    }
}

fn what_is_left(left: Option<&str>) -> String {
    left.map_or_else(
        || "nothing of the restore is left on the target (roles and extensions that it made stay)".to_owned(),
        |left| format!("left on the target: {left}"),
    )
}

impl EngineError {
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<Hint>) -> Self {
        Self::Usage { message: message.into(), hint: hint.into() }
    }

    pub(crate) fn format(store: &dyn crate::store::ObjectStore, key: &Key, source: FormatError) -> Self {
        Self::Format { store: store.url().to_owned(), key: key.clone(), source }
    }

    /// Whether it says that a stored document or object is not what it should be, and the store itself answers.
    pub(crate) const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged(_)
                | Self::Missing { .. }
                | Self::Digest { .. }
                | Self::DocumentTooLarge { .. }
                | Self::Format { .. }
        )
    }

    /// Whether another plan of the same run may come to a better end.
    pub(crate) fn calls_for_a_new_plan(&self) -> bool {
        match self {
            Self::Source(error) => error.recovery() != Recovery::GiveUp,
            // New connections were tried there, and all attempts at them are spent.
            Self::Process { reason, .. } => Recovery::of(reason) == Recovery::NewPlan,
            _ => false,
        }
    }

    pub(crate) fn codec(what: impl Into<String>, source: CodecError) -> Self {
        Self::Codec { what: what.into(), source }
    }

    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }

    reasons! {
        /// The stable CamelCase word of this failure; each has an entry in docs/troubleshooting.md.
        pub words {
            Self::Ledger(LedgerError::ForeignTickets { .. }) => "TicketsForeign",
            Self::Ledger(LedgerError::Coverage { .. } | LedgerError::Uncovered { .. }) => "CoverageIncomplete",
            Self::Ledger(LedgerError::Receipt { .. }) => "ReceiptRefused",
            Self::Ledger(LedgerError::Open { .. }) => "TicketsOpen",
            Self::Ledger(LedgerError::Counts { .. } | LedgerError::Entries { .. }) => "CountsDisagree",
            Self::Ledger(LedgerError::Census(_)) => "CensusRefused",
            Self::Ledger(LedgerError::CatalogChanged(_)) => "CatalogChanged",
            Self::Ledger(LedgerError::EqualSpans(..)) => "EqualSpans",
            Self::Ledger(LedgerError::Verdict { .. }) => "VerdictRefused",
            Self::Ledger(LedgerError::Damaged { .. }) => "DamageFound",
            Self::Codec { .. } => "StreamMalformed",
            Self::Format { source: FormatError::Version { .. }, .. } => "FormatVersion",
            Self::Format { .. } | Self::DocumentTooLarge { .. } => "DocumentDamaged",
            Self::Missing { .. } | Self::RegisterGap { .. } => "ObjectMissing",
            Self::Digest { .. } => "ObjectChanged",
            Self::TargetUnfit { .. } => "TargetUnfit",
            Self::Usage { .. } => "Usage",
            Self::DestinationMissing(_) => "DestinationMissing",
            Self::CollectionIdentityChanged { .. } => "CollectionIdentityChanged",
            Self::CollectionIsCopy { .. } => "CollectionIsCopy",
            Self::Busy { .. } => "CollectionBusy",
            Self::HeldByAnother { .. } => "RunHeldByAnother",
            Self::LostTurn { .. } => "TakenOver",
            Self::DecidedElsewhere { .. } => "DecidedElsewhere",
            Self::OutcomeUnknown { .. } => "OutcomeUnknown",
            Self::NoBackup(_) => "NoBackup",
            Self::RunRetired { .. } => "RunRetired",
            Self::RetentionFloor(_) => "RetentionFloor",
            Self::SurvivorDamaged { .. } => "SurvivorDamaged",
            Self::PruneOutdated(_) => "PruneOutdated",
            Self::Damaged(_) | Self::SealedDamaged { .. } => "DamageFound",
            Self::NotEqual(_) => "RestoreDiffers",
            Self::ManifestUnexpected { .. } => "ManifestUnexpected",
            Self::DeadlineExceeded(_) => "DeadlineExceeded",
            Self::Interrupted => "Canceled",
            Self::LeftOpen { .. } => "LeftOpen",
            Self::Task(_) => "Internal",
            Self::Io { .. } => "LocalFile",
        }
        passed_on {
            Self::Store(error) => error.kind().name(),
            Self::Source(error) => error.reason(),
            Self::Target(error) => error.reason(),
            Self::RestoreGivenUp { source, .. } => source.reason(),
            Self::Process { reason, .. } => reason,
        }
    }

    /// What the reader can do.
    #[must_use]
    pub fn hint(&self, way: WayIn) -> String {
        match self {
            Self::Store(error) => error.kind().hint(way).to_owned(),
            Self::Source(error) => error.hint(way).to_owned(),
            Self::Target(error) => error.hint(way).to_owned(),
            Self::Process { hint, .. } => hint.clone(),
            Self::TargetUnfit { findings } => {
                let mut hints: Vec<String> = Vec::new();
                for Finding { reason, hint, .. } in findings {
                    let hint = match findings.len() {
                        1 => hint.said(way).to_owned(),
                        _ => format!("{reason}: {}", hint.said(way)),
                    };
                    // Several tables of one role lack one GRANT.
                    if !hints.contains(&hint) {
                        hints.push(hint);
                    }
                }
                hints.join("; ")
            }
            Self::Usage { hint, .. } => hint.said(way).to_owned(),
            Self::Ledger(LedgerError::CatalogChanged(_)) => {
                "run the backup again when no migration is under way".into()
            }
            Self::Ledger(LedgerError::Damaged { .. }) | Self::Damaged(_) | Self::Missing { .. } | Self::Digest { .. } => {
                "what is stored is not what was written: look at the bucket's own log, and take a new backup".into()
            }
            Self::RegisterGap { key, run, .. } if *key == Key::run(*run) => format!(
                "look at the bucket's own log; an older backup is chosen by its number, and vouchsafe unlock --run {run} voids this run, so that others can follow"
            ),
            Self::RegisterGap { .. } => {
                "look at the bucket's own log; an older backup is chosen by its number, and a new one can be taken".into()
            }
            Self::SealedDamaged { run, .. } => {
                format!("vouchsafe verify {run} says what is damaged; take a new backup")
            }
            Self::Ledger(_) | Self::Task(_) => {
                "this must not happen: keep the log, and report it with the run's number".into()
            }
            Self::Codec { .. } => "the stream was cut or changed on its way: run it again".into(),
            Self::Format { source: FormatError::Version { .. }, .. } => "use the release that wrote it, or a newer one".into(),
            Self::Format { .. } | Self::DocumentTooLarge { .. } => {
                "the object is damaged, or not ours: vouchsafe verify says what else is".into()
            }
            Self::DestinationMissing(name) => match way {
                WayIn::Flags if name.contains('=') => format!("add --store {name}=URL"),
                WayIn::Flags => "add the --store without a locality".to_owned(),
                WayIn::Fields => format!("add destination {name} to spec.destinations of the BackupStore"),
            },
            Self::CollectionIdentityChanged { .. } => {
                way.says(
                    "a server that was restored or cloned, or a --source of another locality than before, needs a collection of its own: choose another prefix in the URL \
                     after --store",
                    "a server that was restored or cloned, or endpoints of other names than before, need a collection of their own: choose another spec.collection",
                )
                .into()
            }
            Self::CollectionIsCopy { .. } => {
                "back up and prune where it was copied from, or begin a new collection under another prefix".into()
            }
            Self::Busy { .. } => "wait until it ends; vouchsafe unlock voids it if it is dead".into(),
            Self::HeldByAnother { run, .. } => {
                format!("run the same command again to go on with it, or vouchsafe unlock --run {run} to void it")
            }
            Self::LostTurn { .. } | Self::DecidedElsewhere { .. } => "vouchsafe list says how it ended".into(),
            Self::OutcomeUnknown { .. } => {
                "the store was out of reach: the same command goes on when it is back, and the next run settles it".into()
            }
            Self::NoBackup(_) => "vouchsafe list shows what is there".into(),
            Self::RunRetired { .. } => "vouchsafe list shows which backups there are; a retired one is not brought back".into(),
            Self::RetentionFloor(_) => way.says(
                "keep the newest backup, and as many as --minimum says",
                "keep the newest backup, and as many as spec.retention.minimum says",
            )
            .into(),
            Self::SurvivorDamaged { run, .. } => {
                format!("vouchsafe verify {run} names all of it; take a new backup, and prune then")
            }
            Self::PruneOutdated(_) => "run the same command again: it looks anew".into(),
            Self::NotEqual(_) => "the database was not renamed into place; keep the log, and report it".into(),
            Self::ManifestUnexpected { .. } => "do not restore it unless you know who replaced it".into(),
            Self::DeadlineExceeded(_) => {
                way.says("raise --deadline or --parallelism", "raise spec.deadline or spec.parallelism").into()
            }
            Self::Interrupted => {
                way.says("the same command begins anew", "make the resource anew, if it is wanted after all").into()
            }
            Self::LeftOpen { run } => format!(
                "the run is left open: the same command goes on with it, and vouchsafe unlock --run {run} voids it"
            ),
            Self::RestoreGivenUp { source, left } => {
                let again = match left {
                    None => "the same command begins anew",
                    Some(_) => "the same command drops what is left and begins anew; drop it yourself if you don't want that",
                };
                match **source {
                    Self::Interrupted => again.into(),
                    _ => format!("{}; {again}", source.hint(way)),
                }
            }
            Self::Io { .. } => "check space and permissions there; TMPDIR names another folder for temporary files".into(),
        }
    }
}
