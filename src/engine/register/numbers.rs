//! Which numbers of a collection are taken, and which of them must be decided.

use std::collections::BTreeSet;

use super::super::error::EngineError;
use super::{Decided, Register};
use crate::format::Key;
use crate::store::StoreErrorKind;

/// How far back a run of the same owner is looked for: others may have made runs since, but not as many while one
/// process of a cluster was started anew.
const OWN_RUNS: usize = 64;

impl Register {
    /// The number of the newest run, 0 if there is none. A listing gives the hint and reads decide, so a
    /// stale listing is harmless. Any object below a number shows that it is taken: a claim that was lost must
    /// neither hide its run nor have its number given to another.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn newest(&self) -> Result<u32, EngineError> {
        let mut newest = 0;
        for run in self.numbers().await?.into_iter().rev() {
            if self.exists(&Key::run(run)).await? || self.holds_something(run).await? {
                newest = run;
                break;
            }
        }
        while self.exists(&Key::run(newest + 1)).await? {
            newest += 1;
        }
        Ok(newest)
    }

    /// Numbers that a listing shows. Of the folders alone: the objects of a year's runs are millions.
    async fn numbers(&self) -> Result<BTreeSet<u32>, EngineError> {
        let (mut numbers, mut page) = (BTreeSet::new(), None);
        loop {
            let listed = self.store.list_folders(&Key::runs(), page.as_deref()).await?;
            numbers.extend(listed.folders.iter().filter_map(|folder| {
                let name = folder.as_str().strip_prefix("runs/")?;
                let number = name.parse().ok()?;
                (Key::run_prefix(number) == *folder).then_some(number)
            }));
            page = match listed.next {
                Some(next) => Some(next),
                None => return Ok(numbers),
            };
        }
    }

    /// Whether there is any object of the run: one that a listing shows, and that is there.
    async fn holds_something(&self, run: u32) -> Result<bool, EngineError> {
        for (key, _) in self.store.list(Some(&Key::run_prefix(run)), None).await?.objects {
            if self.exists(&key).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The newest run of `owner`, if it is decided: for a process that may have been killed between deciding a run
    /// and saying so. Looks at [`OWN_RUNS`] runs at most.
    ///
    /// # Errors
    /// If a claim or the outcome can't be read.
    pub async fn decided_of(&self, owner: &str) -> Result<Option<(u32, Decided)>, EngineError> {
        let Some(run) = self.newest_of(owner).await? else { return Ok(None) };
        Ok(self.outcome(run).await?.map(|decided| (run, decided)))
    }

    /// Ends what `owner` has left open: its newest run gets an outcome, unless it has one, and that is what comes
    /// back. `None` if it has claimed no run. Looks at [`OWN_RUNS`] runs at most.
    ///
    /// # Errors
    /// If the runs can't be read; as [`void`](Self::void).
    pub async fn void_of(
        &self,
        owner: &str,
        reason: &str,
        message: &str,
    ) -> Result<Option<(u32, Decided)>, EngineError> {
        let Some(run) = self.newest_of(owner).await? else { return Ok(None) };
        if let Some(decided) = self.outcome(run).await? {
            return Ok(Some((run, decided)));
        }
        let message = message.chars().take(2000).collect();
        Ok(Some((run, self.void(run, reason, message).await?)))
    }

    async fn newest_of(&self, owner: &str) -> Result<Option<u32>, EngineError> {
        let newest = self.newest().await?;
        for run in (1..=newest).rev().take(OWN_RUNS) {
            if self.run(run).await?.owner == owner {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    /// Of a run without an outcome: fails if it must have had one, or has lost its claim. Otherwise it is open,
    /// and the newest.
    ///
    /// # Errors
    /// [`EngineError::RegisterGap`], or if the store can't be read.
    pub(crate) async fn must_be_open(&self, run: u32, newest: u32) -> Result<(), EngineError> {
        let gap = |key: Key, why: String| {
            Err(EngineError::RegisterGap { store: self.store.url().to_owned(), key, run, why })
        };
        if run < newest {
            let next = run + 1;
            return gap(Key::outcome(run), format!("run {next} was claimed after it, so it was decided"));
        }
        if !self.exists(&Key::run(run)).await? {
            return gap(Key::run(run), "other objects of its run are there, and no outcome".into());
        }
        Ok(())
    }

    pub(super) async fn exists(&self, key: &Key) -> Result<bool, EngineError> {
        match self.store.head(key, None).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
