//! `vouchsafe prune`: of a collection here; of a schedule in a cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use jiff::tz::TimeZone;

use super::cluster::PruneArguments;
use super::options::{StoreArguments, ToolArguments, duration};
use super::output::{Reason, Work};
use super::prune_report::PruneReport;
use super::{Failure, OutputFormat, output, progress, signals};
use crate::api::ValidatedRetention;
use crate::engine::EngineError;
use crate::engine::job::owner_of;
use crate::engine::prune::{PruneJob, PruneRule, Pruned, consume, plan};
use crate::plan::cron;
use crate::store::StoreErrorKind;

/// Largest number of a rule: that of a BackupSchedule's fields.
const MOST: i64 = 100_000;

fn rule() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=MOST)
}

#[derive(Args, Debug)]
pub(super) struct Prune {
    #[command(flatten)]
    stores: StoreArguments,
    /// Keep the newest N backups
    #[arg(long, value_name = "N", value_parser = rule(), help_heading = "What stays")]
    keep_last: Option<u32>,
    /// Keep the newest backup of each of N days that have one
    #[arg(long, value_name = "N", value_parser = rule(), help_heading = "What stays")]
    keep_daily: Option<u32>,
    /// Of each of N weeks, from Monday on
    #[arg(long, value_name = "N", value_parser = rule(), help_heading = "What stays")]
    keep_weekly: Option<u32>,
    /// Of each of N months
    #[arg(long, value_name = "N", value_parser = rule(), help_heading = "What stays")]
    keep_monthly: Option<u32>,
    /// Of each of N years
    #[arg(long, value_name = "N", value_parser = rule(), help_heading = "What stays")]
    keep_yearly: Option<u32>,
    /// Where days begin: a name such as Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = zone, help_heading = "What stays")]
    time_zone: TimeZone,
    /// Backups that are left at least, the newest always among them: 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    #[arg(help_heading = "What stays")]
    minimum: u32,
    /// Retire this backup, instead of what the rules don't keep; may be repeated
    #[arg(long = "run", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(conflicts_with_all = ["keep_last", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly"])]
    runs: Vec<u32>,
    /// How long ago a backup was retired, or a run was void, before anything of it is deleted: longer than a restore
    /// takes
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    minimum_age: Duration,
    /// Do it. Without this it only shows what would go; in a cluster it asks, on a terminal
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Only show what would go, and ask nobody
    #[arg(long)]
    dry_run: bool,
    /// Objects read at once, to verify the newest backup: 1 to 64
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallelism: u16,
    #[command(flatten)]
    tools: ToolArguments,
    #[command(flatten)]
    cluster: PruneArguments,
}

/// An option of a prune here, or of one in a cluster, by whether a schedule is named.
pub(super) fn of_mode(argument: clap::Arg) -> clap::Arg {
    match argument.get_id().as_str() {
        "stores" => argument.required(false).required_unless_present("object").conflicts_with("object"),
        "heartbeat" | "store_attempts" | "store_ca" | "keep_last" | "keep_daily" | "keep_weekly"
        | "keep_monthly" | "keep_yearly" | "time_zone" | "minimum" | "runs" | "minimum_age"
        | "parallelism" | "folders" => argument.conflicts_with("object"),
        // Not only required: what conflicts with something that is there is not asked for.
        "wait" | "kubeconfig" | "context" | "namespace" => {
            argument.requires("object").conflicts_with("stores")
        }
        _ => argument,
    }
}

fn zone(name: &str) -> Result<TimeZone, String> {
    cron::zone(name).map_err(|error| error.to_string())
}

impl Prune {
    /// Whether it is carried out in a cluster, by others.
    pub(super) const fn is_in_a_cluster(&self) -> bool {
        self.cluster.is_given()
    }

    pub(super) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        if self.cluster.is_given() {
            return self.cluster.execute(self.yes, self.dry_run, output).await;
        }
        let interrupt = signals::interrupt()?;
        let opened = self.stores.open(None).await?;
        let job = PruneJob {
            owner: self.owner(),
            destinations: opened.destinations,
            register: opened.register,
            rule: self.rule(),
            minimum_age: self.minimum_age,
            parallelism: usize::from(self.parallelism),
            tools: self.tools.tools(),
            interrupt: interrupt.clone(),
            progress: progress::shown(output),
        };
        let of_work = |error: EngineError| Failure::of_work(error, Work::Prune, &interrupt);
        let shown = plan(&job).await.map_err(of_work)?;
        let pruned = match self.yes {
            true => Some(consume(&job, &shown).await.map_err(of_work)?),
            false => None,
        };
        let report = PruneReport::of(&shown, pruned.as_ref());
        output::write(output, &report, || report.text())?;
        pruned.as_ref().map_or(Ok(()), refused)
    }

    /// The same command is the same owner: it goes on with what it has left.
    fn owner(&self) -> String {
        let Self { keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly, minimum, runs, .. } = self;
        let keep = [keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly];
        let mut words = vec!["prune".to_owned(), format!("{keep:?} {minimum} {runs:?}")];
        words.extend(self.stores.identity());
        owner_of(&words)
    }

    fn rule(&self) -> PruneRule {
        let &Self { keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly, minimum, .. } = self;
        let retention =
            ValidatedRetention { keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly, minimum };
        let rules = [keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly];
        let runs: BTreeSet<u32> = self.runs.iter().copied().collect();
        PruneRule {
            runs: (!runs.is_empty()).then_some(runs),
            retention: rules.iter().any(Option::is_some).then_some(retention),
            zone: self.time_zone.clone(),
            minimum,
            owner: None,
        }
    }
}

/// What a lock holds back is for a later prune. What the identity may not delete, no later one will delete either.
pub(in crate::cli) fn refused(pruned: &Pruned) -> Result<(), Failure> {
    let forbidden = pruned.deleted.refused.iter().find(|it| it.reason != StoreErrorKind::Locked.name());
    let Some(first) = forbidden else { return Ok(()) };
    let message = format!(
        "{} objects could not be deleted, such as {}: {}",
        pruned.deleted.refused_objects, first.object, first.why
    );
    let hint = "give a prune credentials that may delete; vouchsafe prune says which objects are left";
    Err(Failure::failed_and_reported(Reason::DeleteRefused, message, hint))
}
