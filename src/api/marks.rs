//! The labels and annotations by which a Backup says which schedule made it, and what for.

use kube::core::ObjectMeta;

use crate::format::Sha256Digest;

/// The label of a Backup with the schedule that made it: its name, or the name's digest where that is too long for a
/// label. It finds; only [`SCHEDULE_UID`] proves.
pub const SCHEDULE: &str = "vouchsafe.dev/schedule";
/// The annotation of a Backup with the UID of the schedule that made it. Backups without it are somebody else's.
pub const SCHEDULE_UID: &str = "vouchsafe.dev/schedule-uid";
/// The annotation of a Backup with the name of the schedule that made it, in full: what the label is for the eye.
pub const SCHEDULE_NAME: &str = "vouchsafe.dev/schedule-name";
/// The annotation of a Backup with the moment at which it was decided to start it (RFC 3339, UTC): a Backup that has
/// not begun long after it is history, and is not run.
pub const SCHEDULED_AT: &str = "vouchsafe.dev/scheduled-at";
/// The annotation of a Backup with the tick of the clock that it is for (RFC 3339, UTC).
pub const TICK: &str = "vouchsafe.dev/tick";

/// The longest value of a label, in bytes.
const MAX_LABEL: usize = 63;

/// Hexadecimal digits of a digest that stands for a name that is too long.
const DIGITS: usize = 32;

/// What stands for a name that is too long where it is wanted: 32 hexadecimal digits.
#[must_use]
pub fn digest_of_name(name: &str) -> String {
    Sha256Digest::of(name.as_bytes()).to_string()[..DIGITS].to_owned()
}

/// The value of [`SCHEDULE`] of the Backups of the schedule `name`.
#[must_use]
pub fn schedule_label(name: &str) -> String {
    if name.len() <= MAX_LABEL { name.to_owned() } else { digest_of_name(name) }
}

/// The name of the schedule that made the Backup with this metadata; `None`: a person did.
#[must_use]
pub fn schedule_of(metadata: &ObjectMeta) -> Option<&str> {
    let annotation = metadata.annotations.as_ref().and_then(|it| it.get(SCHEDULE_NAME));
    annotation.or_else(|| metadata.labels.as_ref()?.get(SCHEDULE)).map(String::as_str)
}
