//! The processes of a run, and the Jobs that they are.

use std::fmt;

use crate::format::Sha256Digest;

/// Most bytes of a resource's name in a Job's: the rest is for the role and the hash, of 63 that a label has.
const NAME_BYTES: usize = 30;

/// One process of a run. Text: `coordinator`, `worker-eu`, `verifier-eu`, `restorer`, `prober-eu`,
/// `pruner`, `deleter`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Process {
    /// Plans, and decides.
    Coordinator,
    /// Exports to one destination.
    Worker(String),
    /// Reads one destination back.
    Verifier(String),
    /// Brings a backup into a database.
    Restorer,
    /// Tries out what one destination can do.
    Prober(String),
    /// Retires what retention lets go.
    Pruner,
    /// Deletes what a Backup has stored.
    Deleter,
}

impl Process {
    /// The role alone.
    #[must_use]
    pub const fn role(&self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Worker(_) => "worker",
            Self::Verifier(_) => "verifier",
            Self::Restorer => "restorer",
            Self::Prober(_) => "prober",
            Self::Pruner => "pruner",
            Self::Deleter => "deleter",
        }
    }

    /// Whether it writes its resource's progress, and so has an API token: no other process has one.
    #[must_use]
    pub const fn publishes(&self) -> bool {
        matches!(self, Self::Coordinator | Self::Restorer)
    }

    /// The name of a Job: the same for the same process, order and attempt of the same resource, so that one whose
    /// creation was not answered is found again, and never made twice.
    #[must_use]
    pub fn job_name(&self, resource: &str, uid: &str, order: &str, attempt: u32) -> String {
        let text = format!("{uid} {self} {order} {attempt}");
        let hash = &Sha256Digest::of(text.as_bytes()).to_string()[..10];
        let name: String = resource.chars().take(NAME_BYTES).collect();
        let name = name.trim_end_matches(['-', '.']).replace('.', "-");
        format!("{name}-{}-{hash}", self.role())
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator | Self::Restorer | Self::Pruner | Self::Deleter => f.write_str(self.role()),
            Self::Worker(destination) | Self::Verifier(destination) | Self::Prober(destination) => {
                write!(f, "{}-{destination}", self.role())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_jobs_are_stable_distinct_and_fit_a_label() {
        let long = "a.".repeat(126);
        let worker = Process::Worker("eu".into());
        let name = worker.job_name(&long, "uid", "plan", 1);
        assert_eq!(name, worker.job_name(&long, "uid", "plan", 1));
        assert!(name.len() <= 63 && !name.contains('.'), "{name}");
        for other in [
            worker.job_name(&long, "uid", "plan", 2),
            worker.job_name(&long, "uid", "other", 1),
            worker.job_name(&long, "other", "plan", 1),
            Process::Worker("us".into()).job_name(&long, "uid", "plan", 1),
            Process::Verifier("eu".into()).job_name(&long, "uid", "plan", 1),
        ] {
            assert_ne!(name, other);
        }
    }
}
