//! The stable words of what may be wrong with a schedule.

/// Why a schedule starts nothing, or a run of it was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleReason {
    /// The spec contradicts itself, or asks for what isn't built.
    SpecRefused,
    /// The spec asks for what isn't built.
    NotBuiltYet,
    /// A cron expression can't be read.
    CronMalformed,
    /// A cron expression that no moment fulfils.
    NeverDue,
    /// There is no such time zone.
    TimeZoneUnknown,
    /// The name of a Backup is somebody else's.
    BackupNameTaken,
    /// The API server does not take a Backup.
    BackupRefused,
    /// A run was not started in time.
    RunMissed,
    /// The schedule stands still since a run failed.
    RunFailed,
    /// The last proven backup is too old.
    RecoveryPointMissed,
    /// Nothing is pruned as long as the schedule is as it is.
    PruneHeld,
}

impl ScheduleReason {
    reasons! {
        /// The stable CamelCase word; each has an entry in docs/troubleshooting.md.
        pub words {
            Self::SpecRefused => "SpecRefused",
            Self::NotBuiltYet => "NotBuiltYet",
            Self::CronMalformed => "CronMalformed",
            Self::NeverDue => "NeverDue",
            Self::TimeZoneUnknown => "TimeZoneUnknown",
            Self::BackupNameTaken => "BackupNameTaken",
            Self::BackupRefused => "BackupRefused",
            Self::RunMissed => "RunMissed",
            Self::RunFailed => "RunFailed",
            Self::RecoveryPointMissed => "RecoveryPointMissed",
            Self::PruneHeld => "PruneHeld",
        }
        passed_on {}
    }
}
