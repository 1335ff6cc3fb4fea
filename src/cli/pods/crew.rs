//! Workers and verifiers as pods. The coordinator publishes what they are to be given; the controller starts them,
//! and records what became of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::super::documented::reasons;
use super::publication::Publication;
use crate::api::{Backup, DestinationOrder, ProcessState, ProcessStatus};
use crate::engine::crew::{Crew, WorkOrder};
use crate::engine::interrupt::{Interrupt, Trigger};
use crate::engine::progress::{Report, Stage};
use crate::engine::verifier::Question;
use crate::engine::{BackupJob, EngineError};
use crate::ledger::Witness;
use crate::telemetry::logs;

/// Between two looks at how many receipts there are: a list of each destination, which clouds charge for.
const BETWEEN_LOOKS: Duration = Duration::from_secs(15);

/// Names of destinations: the engine's, which are those of a command line, to the BackupStore's.
pub(super) type Names = BTreeMap<String, String>;

/// Pods that the controller starts.
#[derive(Debug)]
pub(super) struct InPods {
    publication: Arc<Publication>,
    names: Names,
}

impl InPods {
    pub(super) fn new(publication: Arc<Publication>, names: Names) -> Self {
        Self { publication, names }
    }

    /// Shows how many tickets have a receipt, again and again: workers tell nobody but their bucket.
    async fn show_settled(&self, job: &BackupJob, orders: &[WorkOrder]) {
        let mut known = 0;
        loop {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            self.look_at_settled(job, orders, &mut known).await;
        }
    }

    /// Shows what lies in each destination. `known` tickets were shown to be settled.
    async fn look_at_settled(&self, job: &BackupJob, orders: &[WorkOrder], known: &mut u64) {
        let mut settled = 0;
        for order in orders {
            let looked = async {
                let tickets = order.settled(&job.destinations).await?;
                let bytes = order.stored(&job.destinations).await?;
                Ok::<_, EngineError>((tickets as u64, bytes))
            };
            match (looked.await, self.name(&order.tickets.destination)) {
                (Ok((tickets, bytes)), Ok(name)) => {
                    self.publication.stored(name, tickets, bytes);
                    settled += tickets;
                }
                // Shown for people; the ledger lists anew, and does not forgive.
                (Err(error), _) | (_, Err(error)) => tracing::debug!(%error, "receipts were not counted"),
            }
        }
        if settled > *known {
            job.progress.report(Report::Advanced { stage: Stage::Export, items: settled - *known, bytes: 0 });
            *known = settled;
        }
    }

    fn name<'a>(&'a self, destination: &str) -> Result<&'a str, EngineError> {
        let name = self.names.get(destination).map(String::as_str);
        name.ok_or_else(|| EngineError::DestinationMissing(destination.to_owned()))
    }
}

#[async_trait]
impl Crew for InPods {
    async fn export(
        &self,
        job: &BackupJob,
        orders: &[WorkOrder],
        interrupt: &Interrupt,
        _stop: &Trigger,
    ) -> Result<(), EngineError> {
        let Some(first) = orders.first() else { return Ok(()) };
        let (run, plan) = (first.tickets.run, first.tickets.plan.to_string());
        logs::about("run", run);
        let mut published = Vec::new();
        for order in orders {
            published.push(DestinationOrder {
                destination: self.name(&order.tickets.destination)?.to_owned(),
                tickets: i64::try_from(order.count()).unwrap_or(i64::MAX),
                tickets_sha256: order.sha256.to_string(),
                part_sha256: None,
                tickets_settled: None,
                bytes_stored: None,
            });
        }
        let workers: Vec<String> = (published.iter())
            .filter(|order| order.tickets > 0)
            .map(|order| format!("worker-{}", order.destination))
            .collect();
        let published = self.publication.publish(|status| {
            status.number = Some(i64::from(run));
            status.plan = Some(plan.clone());
            status.nonce = None;
            status.manifest_sha256 = None;
            status.step = Some("Exporting".into());
            status.orders = published;
        });
        interrupt.race(published).await?;
        let ended = |backup: &Backup| all_done(backup, &workers, &plan);
        let ended = interrupt.race(self.publication.wait_for(ended));
        tokio::select! {
            ended = ended => ended?,
            () = self.show_settled(job, orders) => unreachable!("it goes on for ever"),
        }
        // Once more, for those who read the numbers later. What was shown of tickets is the ledger's from here on.
        let mut shown = u64::MAX;
        let last = async {
            self.look_at_settled(job, orders, &mut shown).await;
            Ok(())
        };
        interrupt.race(last).await
    }

    async fn verify(&self, _job: &BackupJob, questions: Vec<Question>) -> Result<Vec<Witness>, EngineError> {
        let Some(first) = questions.first() else { return Ok(Vec::new()) };
        let (plan, nonce) = (first.plan.to_string(), first.nonce.to_string());
        let manifest = first.manifest.to_string();
        let run = first.run;
        logs::about("run", run);
        let mut parts = BTreeMap::new();
        for question in &questions {
            parts.insert(self.name(&question.destination)?.to_owned(), question.part.to_string());
        }
        let verifiers: Vec<String> = parts.keys().map(|name| format!("verifier-{name}")).collect();
        let published = self.publication.publish(|status| {
            status.number = Some(i64::from(run));
            status.plan = Some(plan.clone());
            status.nonce = Some(nonce.clone());
            status.manifest_sha256 = Some(manifest);
            status.step = Some("Verifying".into());
            // A coordinator that carries an earlier attempt's plan on has published no orders of its own.
            let known = std::mem::take(&mut status.orders);
            status.orders = (parts.iter())
                .map(|(destination, part)| {
                    let known = known.iter().find(|order| order.destination == *destination);
                    DestinationOrder {
                        destination: destination.clone(),
                        tickets: known.map_or(0, |order| order.tickets),
                        tickets_sha256: known
                            .map_or_else(|| "0".repeat(64), |order| order.tickets_sha256.clone()),
                        part_sha256: Some(part.clone()),
                        // There is no part before every ticket has its receipt.
                        tickets_settled: known.map(|order| order.tickets),
                        bytes_stored: known.and_then(|order| order.bytes_stored),
                    }
                })
                .collect();
        });
        published.await?;
        let order = format!("{plan} {nonce}");
        let answered = |backup: &Backup| match all_done(backup, &verifiers, &order) {
            Some(Ok(())) => witnesses(backup, &self.names, &nonce, questions.len()).map(Ok),
            Some(Err(error)) => Some(Err(error)),
            None => None,
        };
        self.publication.wait_for(answered).await
    }
}

/// Whether each process of `names` has done what `order` is about; the failure of one that never will.
fn all_done(backup: &Backup, names: &[String], order: &str) -> Option<Result<(), EngineError>> {
    let processes = backup.status.as_ref().map_or(&[][..], |status| &status.processes);
    let mut all = true;
    for name in names {
        match processes.iter().find(|process| process.name == *name && process.order == order) {
            Some(ProcessStatus { state: ProcessState::Failed, failure, .. }) => {
                let failure = failure.clone();
                let known = failure.as_ref().and_then(|failure| reasons().get(&*failure.reason).copied());
                let (message, hint) = failure.map(|it| (it.message, it.hint)).unwrap_or_default();
                return Some(Err(EngineError::Process {
                    process: name.clone(),
                    reason: known.unwrap_or("ProcessFailed"),
                    message,
                    hint,
                }));
            }
            Some(ProcessStatus { state: ProcessState::Done, .. }) => {}
            Some(_) | None => all = false,
        }
    }
    all.then_some(Ok(()))
}

/// What the controller recorded of the verifiers that were asked with `nonce`, once it has recorded all.
fn witnesses(backup: &Backup, names: &Names, nonce: &str, expected: usize) -> Option<Vec<Witness>> {
    let proof = backup.status.as_ref()?.proof.as_ref()?;
    let of_nonce = proof.witnesses.iter().filter(|witness| witness.nonce == nonce);
    let witnesses: Vec<Witness> = of_nonce
        .filter_map(|witness| {
            let (destination, _) = names.iter().find(|(_, name)| **name == witness.destination)?;
            Some(Witness { destination: destination.clone(), verdict: witness.verdict_sha256.parse().ok()? })
        })
        .collect();
    (witnesses.len() == expected).then_some(witnesses)
}
