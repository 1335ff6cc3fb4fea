//! Failures that reach the coordinator as words alone, as those of pods do.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use testbed::{PgVersion, shared};
use vouchsafe::engine::crew::{Crew, InThisProcess, WorkOrder};
use vouchsafe::engine::interrupt::{Interrupt, Trigger};
use vouchsafe::engine::verifier::Question;
use vouchsafe::engine::{BackupJob, EngineError, back_up};
use vouchsafe::format::PlanId;
use vouchsafe::ledger::Witness;

use super::setup;

/// Workers of which the first is said to have failed; the others do their work.
#[derive(Debug)]
struct FirstFails {
    reason: &'static str,
    plans: Mutex<Vec<PlanId>>,
}

#[async_trait]
impl Crew for FirstFails {
    async fn export(
        &self,
        job: &BackupJob,
        orders: &[WorkOrder],
        interrupt: &Interrupt,
        stop: &Trigger,
    ) -> Result<(), EngineError> {
        let exports = {
            let mut plans = self.plans.lock().unwrap();
            plans.push(orders[0].tickets.plan);
            plans.len()
        };
        if exports == 1 {
            return Err(EngineError::Process {
                process: "worker-eu".into(),
                reason: self.reason,
                message: "so its pod said".into(),
                hint: String::new(),
            });
        }
        InThisProcess.export(job, orders, interrupt, stop).await
    }

    async fn verify(&self, job: &BackupJob, questions: Vec<Question>) -> Result<Vec<Witness>, EngineError> {
        InThisProcess.verify(job, questions).await
    }
}

/// A backup whose first worker fails with `reason`, and the plans that were exported.
async fn backed_up(reason: &'static str) -> (Result<PlanId, EngineError>, Vec<PlanId>) {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("replanned");
    server.psql(&database, "CREATE TABLE t AS SELECT generate_series(1, 100) x").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut job =
        setup::job(server, &database, setup::destinations(vec![("default", setup::folder(&folder).await)]));
    let crew = Arc::new(FirstFails { reason, plans: Mutex::default() });
    job.crew = crew.clone();
    let sealed = back_up(&job).await.map(|sealed| sealed.manifest.plan);
    let plans = crew.plans.lock().unwrap().clone();
    (sealed, plans)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_new_plan_mends_is_mended_though_a_pod_told_it() {
    for reason in ["SnapshotLost", "CatalogChanged", "RelationRewritten", "RelationMissing"] {
        let (sealed, plans) = backed_up(reason).await;
        assert_eq!(plans.len(), 2, "{reason}");
        assert_ne!(plans[0], plans[1], "{reason}");
        assert_eq!(sealed.unwrap(), plans[1], "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_does_not_mend_ends_the_run() {
    // Connections are tried for anew by a pod's successors, and not by the coordinator as well.
    for reason in ["ConnectionLost", "PermissionDenied", "Denied"] {
        let (sealed, plans) = backed_up(reason).await;
        assert_eq!(sealed.unwrap_err().reason(), reason);
        assert_eq!(plans.len(), 1, "{reason}");
    }
}
