//! The objects that commands name: `backup/orders-1`, and what all of them can be asked. Pure.

use std::fmt;
use std::str::FromStr;

use kube::ResourceExt;
use kube::core::ObjectMeta;
use serde_json::{Value, json};

use crate::api::{
    Backup, BackupPhase, BackupSchedule, BackupStore, Condition, Failure, Kind, ProcessStatus, Progress,
    Restore, RestorePhase, RunStatus,
};

/// `KIND/NAME`, or a name alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) kind: Option<Kind>,
    pub(super) name: String,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            None => (None, text),
            Some((word, name)) => {
                let kind = kind(word).ok_or_else(|| {
                    format!(
                        "{word:?} is no kind: write store/NAME, schedule/NAME, backup/NAME or restore/NAME"
                    )
                })?;
                (Some(kind), name)
            }
        };
        if name.is_empty() || name.contains('/') {
            return Err("write KIND/NAME, such as backup/orders-1, or the name alone".to_owned());
        }
        Ok(Self { kind, name: name.to_owned() })
    }
}

/// The kind that a word means: its short name, kind, plural, with the group or without, as kubectl takes them.
fn kind(word: &str) -> Option<Kind> {
    let word = word.to_ascii_lowercase();
    let word = word.strip_suffix(".vouchsafe.dev").unwrap_or(&word);
    match word {
        "backupstore" | "backupstores" | "store" | "stores" | "vbks" => Some(Kind::BackupStore),
        "backupschedule" | "backupschedules" | "schedule" | "schedules" | "vbsch" => {
            Some(Kind::BackupSchedule)
        }
        "backup" | "backups" | "vbk" => Some(Kind::Backup),
        "restore" | "restores" | "vrs" => Some(Kind::Restore),
        _ => None,
    }
}

/// The word by which commands name a kind.
pub(super) const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::BackupStore => "store",
        Kind::BackupSchedule => "schedule",
        Kind::Backup => "backup",
        Kind::Restore => "restore",
    }
}

/// One of the four resources, as it is in the cluster.
#[derive(Clone, Debug)]
pub(super) enum Object {
    Store(Box<BackupStore>),
    Schedule(Box<BackupSchedule>),
    Backup(Box<Backup>),
    Restore(Box<Restore>),
}

impl Object {
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Store(_) => Kind::BackupStore,
            Self::Schedule(_) => Kind::BackupSchedule,
            Self::Backup(_) => Kind::Backup,
            Self::Restore(_) => Kind::Restore,
        }
    }

    pub(super) fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Store(object) => &object.metadata,
            Self::Schedule(object) => &object.metadata,
            Self::Backup(object) => &object.metadata,
            Self::Restore(object) => &object.metadata,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    pub(super) fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    /// The run that it is, if it is one.
    pub(super) fn run(&self) -> Option<&dyn Run> {
        match self {
            Self::Store(_) | Self::Schedule(_) => None,
            Self::Backup(object) => Some(&**object),
            Self::Restore(object) => Some(&**object),
        }
    }

    /// Whether its spec says that nothing is to be done for now.
    pub(super) fn suspended(&self) -> bool {
        match self {
            Self::Store(_) => false,
            Self::Schedule(object) => object.spec.suspend == Some(true),
            Self::Backup(object) => object.spec.suspend == Some(true),
            Self::Restore(object) => object.spec.suspend == Some(true),
        }
    }

    /// The status as JSON; null before there is any.
    pub(super) fn status(&self) -> Value {
        match self {
            Self::Store(object) => json!(object.status),
            Self::Schedule(object) => json!(object.status),
            Self::Backup(object) => json!(object.status),
            Self::Restore(object) => json!(object.status),
        }
    }

    pub(super) fn conditions(&self) -> &[Condition] {
        match self {
            Self::Store(object) => object.status.as_ref().map_or(&[], |status| &status.conditions),
            Self::Schedule(object) => object.status.as_ref().map_or(&[], |status| &status.conditions),
            Self::Backup(object) => object.status.as_ref().map_or(&[], |status| &status.conditions),
            Self::Restore(object) => object.status.as_ref().map_or(&[], |status| &status.conditions),
        }
    }

    /// Whether a controller has written anything about it.
    pub(super) fn observed(&self) -> bool {
        let generation = match self {
            Self::Store(object) => object.status.as_ref().and_then(|status| status.observed_generation),
            Self::Schedule(object) => object.status.as_ref().and_then(|status| status.observed_generation),
            Self::Backup(object) => object.status.as_ref().and_then(|status| status.observed_generation),
            Self::Restore(object) => object.status.as_ref().and_then(|status| status.observed_generation),
        };
        generation.is_some_and(|generation| generation >= 0)
    }
}

/// `backup/orders-1`
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", word(self.kind()), self.name())
    }
}

/// What a Backup and a Restore both can be asked.
pub(super) trait Run {
    /// `backup/orders-1`
    fn title(&self) -> String;
    fn uid(&self) -> &str;
    /// The furthest that it has come: the phase's word.
    fn phase(&self) -> String;
    /// Whether it has ended, however.
    fn is_over(&self) -> bool;
    /// Whether it has ended well: proven.
    fn succeeded(&self) -> bool;
    fn canceled(&self) -> bool;
    fn failure(&self) -> Option<&Failure>;
    fn progress(&self) -> Option<&Progress>;
    fn attempt(&self) -> Option<&RunStatus>;
    fn processes(&self) -> &[ProcessStatus];

    /// How it ended, where that is no success.
    fn ended_badly(&self) -> Option<Failure> {
        if !self.is_over() || self.succeeded() {
            return None;
        }
        Some(self.failure().cloned().unwrap_or_else(|| Failure {
            reason: if self.phase() == "Canceled" { "Canceled" } else { "OutcomeUnknown" }.to_owned(),
            message: format!("{} is {}", self.title(), self.phase()),
            hint: format!("kubectl vouchsafe logs {} may say more", self.title()),
        }))
    }

    /// Phase and percent in a few words.
    fn brief(&self) -> String {
        match self.progress().and_then(|progress| progress.percent).filter(|_| !self.is_over()) {
            Some(percent) => format!("{}, {percent} %", self.phase()),
            None => self.phase(),
        }
    }
}

impl Run for Backup {
    fn title(&self) -> String {
        format!("{}/{}", word(Kind::Backup), self.name_any())
    }

    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn phase(&self) -> String {
        let phase = self.status.as_ref().and_then(|status| status.phase);
        format!("{:?}", phase.unwrap_or(BackupPhase::Pending))
    }

    fn is_over(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase);
        matches!(phase, Some(BackupPhase::Succeeded | BackupPhase::Failed | BackupPhase::Canceled))
    }

    fn succeeded(&self) -> bool {
        self.status.as_ref().and_then(|status| status.phase) == Some(BackupPhase::Succeeded)
    }

    fn canceled(&self) -> bool {
        self.spec.cancel == Some(true)
    }

    fn failure(&self) -> Option<&Failure> {
        self.status.as_ref()?.failure.as_ref()
    }

    fn progress(&self) -> Option<&Progress> {
        self.status.as_ref()?.progress.as_ref()
    }

    fn attempt(&self) -> Option<&RunStatus> {
        self.status.as_ref()?.run.as_ref()
    }

    fn processes(&self) -> &[ProcessStatus] {
        self.status.as_ref().map_or(&[], |status| &status.processes)
    }
}

impl Run for Restore {
    fn title(&self) -> String {
        format!("{}/{}", word(Kind::Restore), self.name_any())
    }

    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn phase(&self) -> String {
        let phase = self.status.as_ref().and_then(|status| status.phase);
        format!("{:?}", phase.unwrap_or(RestorePhase::Pending))
    }

    fn is_over(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase);
        matches!(phase, Some(RestorePhase::Succeeded | RestorePhase::Failed | RestorePhase::Canceled))
    }

    fn succeeded(&self) -> bool {
        self.status.as_ref().and_then(|status| status.phase) == Some(RestorePhase::Succeeded)
    }

    fn canceled(&self) -> bool {
        self.spec.cancel == Some(true)
    }

    fn failure(&self) -> Option<&Failure> {
        self.status.as_ref()?.failure.as_ref()
    }

    fn progress(&self) -> Option<&Progress> {
        self.status.as_ref()?.progress.as_ref()
    }

    fn attempt(&self) -> Option<&RunStatus> {
        self.status.as_ref()?.run.as_ref()
    }

    fn processes(&self) -> &[ProcessStatus] {
        self.status.as_ref().map_or(&[], |status| &status.processes)
    }
}
