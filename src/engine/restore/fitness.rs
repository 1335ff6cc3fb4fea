//! What the target lacks, all of it at once and by name, before it is touched.

use super::super::error::EngineError;
use super::content::Content;
use super::{RestoreJob, large_objects, options};
use crate::source::roles::Role;
use crate::source::target::{self, Archive, Demands, Leftovers, RestorePlan};
use crate::source::{ServerFacts, Session};

/// Before the archive is even looked at: pg_restore itself depends on the target's version.
pub(super) fn check_major(target: &ServerFacts, content: &Content) -> Result<(), EngineError> {
    if target.major() >= content.server.major() {
        return Ok(());
    }
    Err(EngineError::usage(
        format!(
            "the target is PostgreSQL {}, and the backup is of PostgreSQL {}",
            target.version, content.server.version
        ),
        "restore into the same major version or a newer one",
    ))
}

/// What is about to be done to a target.
pub(super) struct Intention<'a> {
    pub(super) job: &'a RestoreJob,
    pub(super) content: &'a Content,
    pub(super) archive: &'a Archive,
    pub(super) plan: &'a RestorePlan,
    /// Roles that are made beforehand.
    pub(super) made_roles: &'a [&'a Role],
    /// Into schemas of a database: what a killed run of the same restore has left there. `None`: into a new one.
    pub(super) leftovers: Option<&'a Leftovers>,
}

impl Intention<'_> {
    /// Everything that the target lacks, at once and by name.
    pub(super) async fn check(&self, session: &Session) -> Result<(), EngineError> {
        let Self { job, content, archive, plan, made_roles, leftovers } = self;
        let options = options(job);
        let properties = content.properties.clone().map(|properties| properties.reduced(options));
        let roles: Vec<String> = match options.no_owner && options.no_privileges {
            true => Vec::new(),
            false => content.roles.iter().map(|role| role.name.clone()).collect(),
        };
        let objects = large_objects::chosen(job, content);
        let demands = Demands {
            toc: archive.toc(),
            plan,
            source: &content.server,
            extensions: &content.extensions,
            roles: &roles,
            properties: properties.as_ref().filter(|_| leftovers.is_none()),
            large_objects: &objects,
            made_roles,
            owner: job.policy.owner.as_deref(),
            no_owner: options.no_owner,
            no_tablespaces: false,
        };
        let destination = match leftovers {
            None => target::Destination::NewDatabase(&job.target.database),
            Some(leftovers) => target::Destination::Schemas(leftovers),
        };
        let findings = target::preflight(session, &demands, destination).await?;
        let (blocking, notes): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|finding| finding.severity == target::Severity::Blocks);
        for note in notes {
            job.progress.note(format!("note: {note}"));
        }
        if blocking.is_empty() { Ok(()) } else { Err(EngineError::TargetUnfit { findings: blocking }) }
    }
}
