//! Voiding an open run that nobody is at.

use super::error::{EngineError, describe};
use super::register::{Register, whereabouts};

/// What [`unlock`] says of a run that was not open.
pub const DECIDED_BEFORE: &str = "it was decided before";

/// The reason of a run that was voided by [`unlock`].
pub const UNLOCKED: &str = "Unlocked";

/// What became of a run that was to be unlocked.
#[derive(Clone, Debug)]
pub struct Unlocked {
    /// The run; absent if there is none at all.
    pub run: Option<u32>,
    /// How it is decided now.
    pub outcome: String,
    /// Why that is right.
    pub evidence: String,
}

/// Voids an open run that nobody is at. Safe in any case: a wrongly voided run just can't seal. If no run is open,
/// there is nothing to do, and it says so.
///
/// # Errors
/// [`EngineError::CollectionIsCopy`] in a copy; [`EngineError::Busy`] if somebody is at it and `force` is not set;
/// [`EngineError::NoBackup`] if the run that was asked for is not there; [`EngineError::RegisterGap`] if a later run
/// shows that it was decided, and its outcome is gone.
pub async fn unlock(register: &Register, run: Option<u32>, force: bool) -> Result<Unlocked, EngineError> {
    register.must_not_be_copy().await?;
    let newest = register.newest().await?;
    let run = match run {
        None if newest == 0 => {
            let evidence = format!("there is no run at {}", register.store().url());
            return Ok(Unlocked { run: None, outcome: "none".into(), evidence });
        }
        None => newest,
        Some(run) if run == 0 || run > newest => {
            return Err(EngineError::NoBackup(format!(
                "there is no run {run} in {}",
                register.store().url()
            )));
        }
        Some(run) => run,
    };
    if let Some(decided) = register.outcome(run).await? {
        let outcome = describe(&decided.outcome.decision);
        return Ok(Unlocked { run: Some(run), outcome, evidence: DECIDED_BEFORE.into() });
    }
    if run < newest {
        register.must_be_open(run, newest).await?;
    }
    let owner = match register.run(run).await {
        Ok(claim) => claim.owner,
        // Nobody goes on with it, and nobody can claim a number after it.
        Err(EngineError::Missing { .. } | EngineError::Format { .. }) => "an unknown owner".to_owned(),
        Err(error) => return Err(error),
    };
    let attempts = match register.attempts(run).await {
        // Who made them can't be told, so nobody can be watched.
        Err(EngineError::Format { .. }) if force => Vec::new(),
        attempts => attempts?,
    };
    let last = attempts.last().map(|held| &held.document);
    let alive = !force && register.is_alive(run, last).await?;
    if alive {
        let process = last.map(|attempt| attempt.process.clone());
        return Err(EngineError::Busy { run, owner, process });
    }
    let evidence = if force {
        "voided by force".to_owned()
    } else {
        format!("nobody is at it: {}", whereabouts(last.map(|attempt| &attempt.process)))
    };
    let decided = register.void(run, UNLOCKED, evidence.clone()).await?;
    Ok(Unlocked { run: Some(run), outcome: describe(&decided.outcome.decision), evidence })
}
