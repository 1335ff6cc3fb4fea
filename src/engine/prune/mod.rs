//! Retention: what goes is listed, then retired by a run of the protocol, and deleted a minimum age after that.
//!
//! Retiring is short and exclusive: the prune claims a number, writes `retired.json` for each run that goes, and is
//! sealed by an outcome that names those documents. From there on the runs are backups no more; no later run can
//! build on them, because every run has its place in the order. Deleting is long and holds nobody up: it may be killed
//! anywhere and begun again by any prune, and touches only what a sealed outcome gave up long enough ago.

mod choice;
mod deleting;
mod history;
mod leftovers;
mod owned;
mod retiring;

use std::collections::BTreeSet;
use std::time::Duration;

use self::choice::Choice;
pub use self::choice::PruneRule;
pub use self::deleting::{Deleted, Refused};
use self::history::History;
pub use self::history::SealedBackup;
pub use self::leftovers::{Leftover, Size, Why};
pub use self::owned::{BACKUP_DELETED, delete_of_owner};
use super::backups::{self, Verified};
use super::destinations::Destinations;
use super::error::EngineError;
use super::interrupt::Interrupt;
use super::progress::Progress;
use super::register::Register;
use super::told;
use crate::kill_point;
use crate::source::Tools;
use crate::telemetry::spans::part;

/// Time between a seal or void and the first deletion, unless set otherwise: longer than restores take.
pub const DEFAULT_MINIMUM_AGE: Duration = Duration::from_secs(24 * 3600);

/// One prune.
#[derive(Clone, Debug)]
pub struct PruneJob {
    /// Who goes on with it: never the owner of a backup.
    pub owner: String,
    /// Every destination of the collection.
    pub destinations: Destinations,
    /// The collection's register.
    pub register: Register,
    /// What may go.
    pub rule: PruneRule,
    /// Least time between the outcome that gives a run up and the deletion of what is in it, by the store's clock.
    pub minimum_age: Duration,
    /// Objects read at once.
    pub parallelism: usize,
    /// PostgreSQL's programs, for the verification.
    pub tools: Tools,
    /// Where it is asked to stop.
    pub interrupt: Interrupt,
    /// Where it shows how far it is.
    pub progress: Progress,
}

/// What a prune would do now.
#[derive(Clone, Debug)]
pub struct PrunePlan {
    /// Backups that would be retired, and what is in them.
    pub retire: Vec<(SealedBackup, Size)>,
    /// Backups that stay, and why.
    pub stay: Vec<(SealedBackup, String)>,
    /// What retired and void runs still hold, some of it old enough to be deleted.
    pub leftovers: Vec<Leftover>,
    /// The newest backup that stays: it is verified before anything goes.
    pub survivor: Option<u32>,
    /// Backups that there were: earlier prunes have retired them.
    pub retired: BTreeSet<u32>,
    choice: Choice,
}

impl PrunePlan {
    /// Whether a backup would go, or a part of one that was retired: then the survivor must be verified.
    fn takes_of_backups(&self) -> bool {
        let consumed = |it: &Leftover| it.due && matches!(it.why, Why::Retired { .. });
        !self.retire.is_empty() || self.leftovers.iter().any(consumed)
    }
}

/// What a prune has done.
#[derive(Debug)]
pub struct Pruned {
    /// Its number; absent if nothing was to be retired.
    pub run: Option<u32>,
    /// The runs that it has retired.
    pub retired: Vec<u32>,
    /// The verification of the survivor; absent if nothing of a backup went.
    pub verified: Option<Verified>,
    /// What was deleted, and what was not.
    pub deleted: Deleted,
}

/// What would go, and what stays. Changes nothing but one small object that tells the store's time.
///
/// # Errors
/// Damage to the register, a rule that would leave too little, or a store that does not answer.
pub async fn plan(job: &PruneJob) -> Result<PrunePlan, EngineError> {
    told(part!("plan"), job.interrupt.race(look(job))).await
}

async fn look(job: &PruneJob) -> Result<PrunePlan, EngineError> {
    let history = History::read(&job.register).await?;
    let choice = job.rule.choose(&history)?;
    let mut retire = Vec::new();
    for backup in choice.goes.values() {
        retire.push((*backup, leftovers::size_of(&job.destinations, backup.run).await?));
    }
    let leftovers = leftovers::of(job, &history).await?;
    let stay = choice.stays.values().cloned().collect();
    let retired = history.retired.keys().copied().collect();
    Ok(PrunePlan { retire, stay, leftovers, survivor: history.newest(), retired, choice })
}

/// Consumes `plan`: verifies the newest backup that stays, retires what goes, and deletes what was given up long
/// enough ago.
///
/// # Errors
/// [`EngineError::SurvivorDamaged`] before anything has changed; [`EngineError::PruneOutdated`] if another prune came
/// between; what a claim fails with; a store that does not answer. Whatever it was, the same prune may be begun again.
pub async fn consume(job: &PruneJob, plan: &PrunePlan) -> Result<Pruned, EngineError> {
    kill_point::passed("planned", "prune");
    let needs_survivor = job.rule.owner.is_none() && plan.takes_of_backups();
    let verified = match plan.survivor.filter(|_| needs_survivor) {
        Some(survivor) => {
            let part = part!("verify", run = survivor);
            Some(told(part, job.interrupt.race(verify(job, survivor))).await?)
        }
        None => None,
    };
    kill_point::passed("verified", "survivor");
    let may_retire = !plan.retire.is_empty() && (verified.is_some() || job.rule.owner.is_some());
    let sealed = match may_retire {
        true => {
            let survivor = verified.as_ref().map(|it| it.run);
            Some(told(part!("retire"), retiring::retire(job, &plan.choice, survivor)).await?)
        }
        false => None,
    };
    let (run, retired) = sealed.map_or((None, Vec::new()), |sealed| (Some(sealed.run), sealed.retired));
    let deleting = job.interrupt.race(deleting::delete(job, verified.as_ref()));
    let deleted = told(part!("delete"), deleting).await?;
    Ok(Pruned { run, retired, verified, deleted })
}

/// The survivor, read to its last row as `vouchsafe verify` does.
async fn verify(job: &PruneJob, survivor: u32) -> Result<Verified, EngineError> {
    let PruneJob { destinations, register, tools, parallelism, progress, .. } = job;
    let verified =
        backups::verify(destinations, register, Some(survivor), tools, *parallelism, progress).await?;
    match verified.damages.first() {
        None => Ok(verified),
        Some((destination, damage)) => Err(EngineError::SurvivorDamaged {
            run: survivor,
            finding: format!("{} in {destination}: {}", damage.object, damage.finding),
        }),
    }
}
