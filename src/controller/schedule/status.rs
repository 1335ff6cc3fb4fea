//! Writing a schedule's status. Needs the client.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::ScheduleError;
use crate::api::{API_VERSION, BackupSchedule, BackupScheduleStatus};

/// The field manager of a schedule's status.
const MANAGER: &str = "vouchsafe-schedule";

/// Writes `status`, if it differs from what is there. The resource's version goes with it, so that a controller
/// that was deposed, or saw an older object, writes nothing, and starts nothing on the strength of it.
pub(super) async fn write(
    client: &Client,
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
) -> Result<BackupSchedule, ScheduleError> {
    if !differs(schedule, status) {
        return Ok(schedule.clone());
    }
    let api: Api<BackupSchedule> = Api::namespaced(client.clone(), &schedule.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": API_VERSION,
        "kind": "BackupSchedule",
        "metadata": {
            "name": schedule.name_any(),
            "uid": schedule.uid(),
            "resourceVersion": schedule.resource_version(),
        },
        "status": status,
    });
    let parameters = PatchParams::apply(MANAGER).force();
    api.patch_status(&schedule.name_any(), &parameters, &Patch::Apply(&patch))
        .await
        .map_err(ScheduleError::Status)
}

/// Whether `status` says something else than the resource, of what is this writer's to say: a test's result is not.
pub(super) fn differs(schedule: &BackupSchedule, status: &BackupScheduleStatus) -> bool {
    let mut known = schedule.status.clone().unwrap_or_default();
    known.restore_test = None;
    known != *status
}
