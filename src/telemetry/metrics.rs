//! What this process saw happen, in numbers. Each counter begins at zero with the process; what must survive it is
//! a gauge of [`super::levels`].

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::levels::{self, Levels, Sources};
use super::transition::{Transition, is_finding};
use crate::api::{BackupPhase, BackupStatus};

/// Bounds of durations of phases, in seconds: a small backup's are seconds, a large one's hours.
const PHASE_BOUNDS: [f64; 11] =
    [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 10_800.0, 28_800.0, 86_400.0];

/// Bounds of durations of reconciliations, in seconds: a few small requests each.
const RECONCILE_BOUNDS: [f64; 9] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Backups whose phases are timed at once. What is deleted on its way is noticed by nobody, so the oldest make room:
/// more than ever go on at once, at a hundred bytes each.
const TIMED: usize = 10_000;

/// The word for a reason that this release does not know: labels are of a set that is known before.
const OTHER: &str = "Other";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Finished {
    result: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfRole {
    process: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfPhase {
    phase: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reconciled {
    kind: &'static str,
    result: &'static str,
}

type Timed<L> = Family<L, Histogram, fn() -> Histogram>;

/// What this process saw happen.
pub struct Metrics {
    /// The reasons that may be labels.
    reasons: BTreeSet<&'static str>,
    registry: Registry,
    sources: Arc<Sources>,
    finished: Family<Finished, Counter>,
    phases: Timed<OfPhase>,
    restarted: Family<OfRole, Counter>,
    retried: Family<OfReason, Counter>,
    findings: Family<OfReason, Counter>,
    reconciled: Family<Reconciled, Counter>,
    reconcile_seconds: Timed<OfKind>,
    reconciling: Family<OfKind, Gauge>,
    watch_errors: Family<OfKind, Counter>,
    leader: Gauge,
    /// When each Backup's phase began, of those that were seen to begin; by UID.
    began: Mutex<HashMap<String, Instant>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Nothing seen yet. `reasons` are the words that may be labels; others are counted as `Other`.
    #[must_use]
    pub fn new(reasons: BTreeSet<&'static str>) -> Self {
        let mut metrics = Self {
            reasons,
            registry: Registry::default(),
            sources: Arc::default(),
            finished: Family::default(),
            phases: Family::new_with_constructor(|| Histogram::new(PHASE_BOUNDS)),
            restarted: Family::default(),
            retried: Family::default(),
            findings: Family::default(),
            reconciled: Family::default(),
            reconcile_seconds: Family::new_with_constructor(|| Histogram::new(RECONCILE_BOUNDS)),
            reconciling: Family::default(),
            watch_errors: Family::default(),
            leader: Gauge::default(),
            began: Mutex::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        // Names of counters get their `_total` when they are written.
        let Self { registry, .. } = self;
        registry.register("vouchsafe_backups_finished", "Backups that ended", self.finished.clone());
        registry.register(
            "vouchsafe_backup_phase_duration_seconds",
            "How long phases took that this process saw begin and end",
            self.phases.clone(),
        );
        registry.register(
            "vouchsafe_attempts_restarted",
            "Processes of runs that were begun anew, by why the attempt before ended",
            self.restarted.clone(),
        );
        registry.register(
            "vouchsafe_errors_retried",
            "Errors that runs met and overcame",
            self.retried.clone(),
        );
        registry.register(
            "vouchsafe_verification_findings",
            "Backups that failed because something stored or counted was not right",
            self.findings.clone(),
        );
        registry.register("vouchsafe_reconcile", "Reconciliations that ended", self.reconciled.clone());
        registry.register(
            "vouchsafe_reconcile_duration_seconds",
            "How long reconciliations took",
            self.reconcile_seconds.clone(),
        );
        registry.register(
            "vouchsafe_reconcile_running",
            "Reconciliations under way",
            self.reconciling.clone(),
        );
        registry.register("vouchsafe_watch_errors", "Errors of watches", self.watch_errors.clone());
        registry.register("vouchsafe_leader", "1 while this process works", self.leader.clone());
        registry.register_collector(Box::new(self.sources.clone()));
    }

    /// The page that Prometheus reads, in the OpenMetrics text format.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = String::new();
        encode(&mut page, &self.registry).expect("a String takes all that is written to it");
        page
    }

    /// Has `source` asked for what it holds at each reading, until [`Self::forget_levels`].
    pub fn levels_from(&self, source: impl Fn(&mut Levels) + Send + Sync + 'static) {
        self.sources.add(Box::new(source));
    }

    /// Shows no levels any more: a process that doesn't lead watches nothing.
    pub fn forget_levels(&self) {
        self.sources.clear();
    }

    /// Whether this process works.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Counts what happened to the Backup of this UID, whose status was written at `now`.
    pub fn happened(&self, uid: &str, transition: &Transition, status: &BackupStatus, now: Instant) {
        let failure = status.failure.as_ref();
        let reason = failure.map_or("", |failure| self.reason(&failure.reason));
        if let Some((before, _)) = transition.phase {
            self.time(uid, before, transition.ended().is_some(), now);
        }
        if let Some(phase) = transition.ended() {
            let reason = if phase == BackupPhase::Succeeded { "" } else { reason };
            self.finished.get_or_create(&Finished { result: word(phase), reason }).inc();
            if phase == BackupPhase::Failed && failure.is_some_and(is_finding) {
                self.findings.get_or_create(&OfReason { reason }).inc();
            }
        }
        for restarted in &transition.restarted {
            let process = match restarted.process.split('-').next() {
                Some("coordinator") => "coordinator",
                Some("worker") => "worker",
                Some("verifier") => "verifier",
                _ => OTHER,
            };
            let reason = restarted.failure.as_ref().map_or(OTHER, |it| self.reason(&it.reason));
            self.restarted.get_or_create(&OfRole { process, reason }).inc();
        }
        for (reason, count) in &transition.retried {
            self.retried.get_or_create(&OfReason { reason: self.reason(reason) }).inc_by(*count);
        }
    }

    fn time(&self, uid: &str, before: Option<BackupPhase>, over: bool, now: Instant) {
        let mut began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        // One whose beginning another process saw has no duration here.
        if let (Some(since), Some(before)) = (began.remove(uid), before) {
            let took = now.saturating_duration_since(since).as_secs_f64();
            self.phases.get_or_create(&OfPhase { phase: word(before) }).observe(took);
        }
        if over {
            return;
        }
        if began.len() >= TIMED
            && let Some(oldest) = began.iter().min_by_key(|(_, since)| **since).map(|(uid, _)| uid.clone())
        {
            began.remove(&oldest);
        }
        began.insert(uid.to_owned(), now);
    }

    fn reason(&self, word: &str) -> &'static str {
        self.reasons.get(word).copied().unwrap_or(OTHER)
    }

    /// A reconciliation of a `kind` begins; it is counted when what is returned is told how it ended, or dropped.
    #[must_use]
    pub fn reconciling(self: &Arc<Self>, kind: &'static str) -> Reconciling {
        self.reconciling.get_or_create(&OfKind { kind }).inc();
        Reconciling { metrics: self.clone(), kind, began: Instant::now(), result: "canceled" }
    }

    /// A watch failed, and is tried again.
    pub fn watch_failed(&self, kind: &'static str) {
        self.watch_errors.get_or_create(&OfKind { kind }).inc();
    }
}

/// The discriminant, as `kubectl get` shows it.
const fn word(phase: BackupPhase) -> &'static str {
    match phase {
        BackupPhase::Pending => "Pending",
        BackupPhase::Resolving => "Resolving",
        BackupPhase::Exporting => "Exporting",
        BackupPhase::WritingMetadata => "WritingMetadata",
        BackupPhase::Verifying => "Verifying",
        BackupPhase::Succeeded => "Succeeded",
        BackupPhase::Failed => "Failed",
        BackupPhase::Canceled => "Canceled",
    }
}

/// A reconciliation under way.
#[derive(Debug)]
pub struct Reconciling {
    metrics: Arc<Metrics>,
    kind: &'static str,
    began: Instant,
    result: &'static str,
}

impl Reconciling {
    /// It ended.
    pub fn ended(mut self, well: bool) {
        self.result = if well { "ok" } else { "error" };
    }
}

impl Drop for Reconciling {
    fn drop(&mut self) {
        let Self { metrics, kind, began, result } = self;
        metrics.reconciling.get_or_create(&OfKind { kind }).dec();
        metrics.reconciled.get_or_create(&Reconciled { kind, result }).inc();
        let took: Duration = began.elapsed();
        metrics.reconcile_seconds.get_or_create(&OfKind { kind }).observe(took.as_secs_f64());
    }
}

/// Names of everything that [`Metrics::page`] can show, as queries name it: with `_total`, of a histogram without
/// what follows. What docs/monitoring.md lists.
#[must_use]
pub fn names() -> BTreeSet<&'static str> {
    let happened = [
        "vouchsafe_attempts_restarted_total",
        "vouchsafe_backup_phase_duration_seconds",
        "vouchsafe_backups_finished_total",
        "vouchsafe_errors_retried_total",
        "vouchsafe_leader",
        "vouchsafe_reconcile_duration_seconds",
        "vouchsafe_reconcile_running",
        "vouchsafe_reconcile_total",
        "vouchsafe_verification_findings_total",
        "vouchsafe_watch_errors_total",
    ];
    happened.into_iter().chain(levels::names()).collect()
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
