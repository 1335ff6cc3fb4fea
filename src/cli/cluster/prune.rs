//! `kubectl vouchsafe prune SCHEDULE`: what its retention takes, shown first; then the controller is asked for it.
//!
//! Who calls it needs no bucket: the question is an annotation of the schedule, and the controller answers it with the
//! same prune that it would start by itself.

use std::pin::pin;

use clap::Args;
use futures::StreamExt;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::confirm::{can_ask, confirm};
use super::object::{Object, Wanted};
use super::prune_plan::PrunePlanReport;
use super::{Asked, Cluster, ClusterArguments, MANAGER, follow};
use crate::api::marks::{SCHEDULE, schedule_label};
use crate::api::{Backup, BackupSchedule, ConditionStatus, Kind};
use crate::cli::{Failure, OutputFormat, output, signals};
use crate::controller::schedule::{PRUNE_REQUESTED, plan_of};
use crate::engine::interrupt::Interrupt;

/// What only a prune in a cluster is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct PruneArguments {
    /// In a cluster: schedule/NAME, or the name alone
    #[arg(value_name = "SCHEDULE")]
    object: Option<Wanted>,
    /// In a cluster: wait until the prune has ended, and exit as it did
    #[arg(long, help_heading = "Cluster")]
    wait: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

impl PruneArguments {
    /// Whether a cluster is meant.
    pub(in crate::cli) const fn is_given(&self) -> bool {
        self.object.is_some()
    }

    /// Shows the plan, and with a yes asks for it.
    pub(in crate::cli) async fn execute(
        self,
        yes: bool,
        dry_run: bool,
        output: OutputFormat,
    ) -> Result<(), Failure> {
        let interrupt = signals::interrupt()?;
        let Some(wanted) = &self.object else {
            return Err(Failure::usage("whose backups?", "name a schedule of the cluster, or give --store"));
        };
        let cluster = self.cluster.connect().await?;
        let Object::Schedule(schedule) =
            cluster.find(wanted, &[Kind::BackupSchedule], "pruned by itself").await?
        else {
            return Err(Failure::internal("a schedule was looked for, and something else found"));
        };
        let label = format!("{SCHEDULE}={}", schedule_label(&schedule.name_any()));
        let backups = cluster.list::<Backup>(false, Some(&label)).await?;
        let plan = plan_of(&schedule, &backups, Timestamp::now()).map_err(Failure::of_resource)?;
        let mut report = PrunePlanReport::of(&schedule, &plan);
        if output == OutputFormat::Text {
            output::print(&report.text())?;
        }
        let has_work = !plan.goes.is_empty() || plan.leftovers;
        if dry_run || !has_work || !(yes || can_ask(output)) {
            return output::write(output, &report, || match has_work {
                true => "nothing was changed: add --yes to have it pruned now".to_owned(),
                false => "there is nothing to prune".to_owned(),
            });
        }
        if let Some(held) = plan.held {
            return Err(Failure::of_resource(held));
        }
        let title = format!("schedule/{}", schedule.name_any());
        if !yes {
            confirm(&format!("Prune {title} now?"), "no prune was asked for", output)?;
        }
        let request = ask(&cluster, &schedule).await?;
        report.requested = Some(request.clone());
        let begun = format!("{title} is asked to prune");
        if !self.wait {
            return output::write(output, &report, || {
                format!("{begun}; kubectl vouchsafe status {title} shows what comes of it")
            });
        }
        let say = |text: &str| {
            if output == OutputFormat::Text {
                eprintln!("{text}");
            }
        };
        say(&begun);
        let answered = until_answered(&cluster, &schedule, &request, &interrupt, say).await?;
        let failure = report.ended(&answered);
        output::write(output, &report, || report.outcome_text())?;
        failure.map_or(Ok(()), |failure| Err(Failure::of_outcome(failure)))
    }
}

/// Asks exactly the schedule that was looked at; answers with the question.
async fn ask(cluster: &Cluster, schedule: &BackupSchedule) -> Result<String, Failure> {
    let request = Timestamp::now().to_string();
    let patch = json!({
        "metadata": {"uid": schedule.uid(), "annotations": {PRUNE_REQUESTED: request}},
    });
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let asked = Asked::of::<BackupSchedule>("patch", Some(&cluster.namespace));
    let api = cluster.api::<BackupSchedule>();
    let patched = api.patch(&schedule.name_any(), &parameters, &Patch::Merge(&patch)).await;
    patched.map(|_| request).map_err(|error| asked.failed(error))
}

/// The schedule, once a prune has answered `request`. What stands in the way meanwhile goes to `say`.
async fn until_answered(
    cluster: &Cluster,
    schedule: &BackupSchedule,
    request: &str,
    interrupt: &Interrupt,
    mut say: impl FnMut(&str),
) -> Result<BackupSchedule, Failure> {
    let (name, uid) = (schedule.name_any(), schedule.uid().unwrap_or_default());
    let mut states = pin!(follow::states::<BackupSchedule>(cluster, &name, &uid));
    let mut said = None;
    loop {
        let state = tokio::select! {
            state = states.next() => state,
            () = interrupt.wait() => {
                let message = format!("the prune of schedule/{name} was not waited for to its end; it goes on");
                let hint = format!("kubectl vouchsafe status schedule/{name} shows it");
                return Err(Failure::stopped_waiting(message, hint));
            }
        };
        let Some(state) = state else { return Err(Failure::internal("a watch without an end has ended")) };
        let state = state?;
        let status = state.status.clone().unwrap_or_default();
        if status.last_prune_request.as_deref() == Some(request) {
            return Ok(state);
        }
        let process = status.processes.first().map(|it| format!("{}: {:?}", it.name, it.state));
        let failed = |it: &&crate::api::Condition| {
            it.type_ == "RetentionApplied" && it.status == ConditionStatus::False
        };
        let hindered =
            status.conditions.iter().find(failed).map(|it| format!("{}: {}", it.reason, it.message));
        let step = hindered.or(process);
        if step.is_some() && step != said {
            say(step.as_deref().unwrap_or_default());
            said = step;
        }
    }
}
