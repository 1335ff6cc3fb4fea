//! What `suspend`, `resume` and `cancel` share: one field of a spec, and what follows from it.

use kube::api::{Patch, PatchParams};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::object::{Object, Wanted};
use super::{Asked, Cluster, ClusterArguments, ClusterReason, MANAGER};
use crate::api::{Backup, BackupSchedule, Kind, Restore};
use crate::cli::{Failure, OutputFormat, output};

/// How often the object is read again because it changed meanwhile: a run's status is written every two seconds, and
/// a read and a write take a fraction of one.
const TRIES: usize = 5;

/// Which command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Suspend,
    Resume,
    Cancel,
}

/// What they write.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct SwitchReport {
    kind: &'static str,
    namespace: String,
    name: String,
    changed: bool,
    effect: String,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
struct Decided {
    /// The field and its value, or that it goes; absent: it says so already.
    field: Option<(&'static str, Option<bool>)>,
    effect: &'static str,
}

impl Change {
    const fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Suspend | Self::Resume => &[Kind::BackupSchedule, Kind::Backup, Kind::Restore],
            Self::Cancel => &[Kind::Backup, Kind::Restore],
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Suspend => "suspended",
            Self::Resume => "resumed",
            Self::Cancel => "canceled",
        }
    }
}

/// Which field of `object` is to be changed, and what follows. Pure.
fn decide(change: Change, object: &Object) -> Result<Decided, Failure> {
    let suspended = object.suspended();
    let canceled = object.run().is_some_and(|run| run.canceled());
    if let Some(run) = object.run().filter(|run| run.is_over()) {
        let message = format!("{object} is over: it is {}, and can't be {}", run.phase(), change.done());
        let hint = match object.kind() {
            Kind::Restore => "make another Restore".to_owned(),
            _ => "another Backup is made by kubectl vouchsafe trigger SCHEDULE, or by a resource of another name"
                .to_owned(),
        };
        return Err(Failure::of_cluster(ClusterReason::ObjectOver, message, hint));
    }
    if canceled && change != Change::Cancel {
        let message = format!("{object} is being canceled, which can't be taken back");
        let hint = "wait for its end: kubectl vouchsafe status shows it";
        return Err(Failure::of_cluster(ClusterReason::ObjectOver, message, hint));
    }
    Ok(match change {
        Change::Suspend => Decided {
            field: (!suspended).then_some(("suspend", Some(true))),
            effect: match (suspended, object.kind()) {
                (true, _) => "was suspended already; nothing is changed",
                (false, Kind::BackupSchedule) => {
                    "starts no more Backups; one that is under way goes on, and trigger still makes one"
                }
                (false, Kind::Restore) => {
                    "its pod goes, and what it made so far; resume begins the restore anew"
                }
                (false, _) => {
                    "its pods go; what is uploaded stays, and counts after resume if the database's snapshot still \
                     lives by then, else the run plans anew; its deadline goes on"
                }
            },
        },
        Change::Resume => Decided {
            field: match (suspended, object) {
                (true, _) => Some(("suspend", Some(false))),
                // The field in its other way of saying the same: a changed spec is what the schedule waits for.
                (false, Object::Schedule(it)) if stopped_itself(it) => {
                    Some(("suspend", it.spec.suspend.is_none().then_some(false)))
                }
                (false, _) => None,
            },
            effect: match (suspended, object) {
                (false, Object::Schedule(schedule)) if stopped_itself(schedule) => {
                    "had stopped by itself after a failure (onFailure), and starts Backups again when they are due"
                }
                (false, _) => "was not suspended; nothing is changed",
                (true, Object::Schedule(_)) => {
                    "starts Backups again when they are due; missed ones are not made up for"
                }
                (true, _) => "gets its pods again, and goes on",
            },
        },
        Change::Cancel => Decided {
            field: (!canceled).then_some(("cancel", Some(true))),
            effect: match (canceled, object.kind()) {
                (true, _) => "is being canceled already; nothing is changed",
                (false, Kind::Restore) => "ends, and takes back what it has made; this can't be taken back",
                (false, _) => "ends, and its run is void: it is no backup; this can't be taken back",
            },
        },
    })
}

/// Whether a schedule stands still because a run failed, and not because its spec says so.
fn stopped_itself(schedule: &BackupSchedule) -> bool {
    schedule.status.as_ref().is_some_and(|it| it.suspended_because.is_some())
}

/// Finds the object, decides, writes, and says what follows.
pub(super) async fn switch(
    change: Change,
    wanted: &Wanted,
    arguments: &ClusterArguments,
    output: OutputFormat,
) -> Result<(), Failure> {
    let cluster = arguments.connect().await?;
    let mut tries = 1;
    let (object, decided) = loop {
        let object = cluster.find(wanted, change.kinds(), change.done()).await?;
        let decided = decide(change, &object)?;
        let Some((field, value)) = decided.field else { break (object, decided) };
        match write(&cluster, &object, field, value).await {
            Ok(()) => break (object, decided),
            // Somebody wrote in between: what was decided is decided again.
            Err(kube::Error::Api(status)) if status.code == 409 && tries < TRIES => tries += 1,
            Err(error) => {
                let asked = match object.kind() {
                    Kind::BackupSchedule => Asked::of::<BackupSchedule>("patch", Some(&cluster.namespace)),
                    Kind::Restore => Asked::of::<Restore>("patch", Some(&cluster.namespace)),
                    _ => Asked::of::<Backup>("patch", Some(&cluster.namespace)),
                };
                return Err(asked.failed(error));
            }
        }
    };
    let report = SwitchReport {
        kind: object.kind().as_str(),
        namespace: object.namespace().to_owned(),
        name: object.name().to_owned(),
        changed: decided.field.is_some(),
        effect: decided.effect.to_owned(),
    };
    output::write(output, &report, || {
        let done = if report.changed { format!(" is {}:", change.done()) } else { String::new() };
        format!("{object}{done} {}", report.effect)
    })
}

/// Sets one field of the spec of exactly the object that was looked at.
async fn write(
    cluster: &Cluster,
    object: &Object,
    field: &str,
    value: Option<bool>,
) -> Result<(), kube::Error> {
    let metadata = object.metadata();
    let patch = json!({
        "metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version},
        "spec": {field: value},
    });
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let (name, patch) = (object.name(), Patch::Merge(&patch));
    match object {
        Object::Store(_) => {}
        Object::Schedule(_) => {
            cluster.api::<BackupSchedule>().patch(name, &parameters, &patch).await?;
        }
        Object::Backup(_) => {
            cluster.api::<Backup>().patch(name, &parameters, &patch).await?;
        }
        Object::Restore(_) => {
            cluster.api::<Restore>().patch(name, &parameters, &patch).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn backup(spec: &Value, phase: &str) -> Object {
        let mut full =
            json!({"storeRef": {"name": "s"}, "source": {"postgres": {"database": "d", "endpoints": []}}});
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let value = json!({"apiVersion": crate::api::API_VERSION, "kind": "Backup",
            "metadata": {"name": "b", "namespace": "n"}, "spec": full, "status": {"phase": phase}});
        Object::Backup(Box::new(serde_json::from_value(value).unwrap()))
    }

    #[rstest]
    #[case::suspend(Change::Suspend, json!({}), Some(("suspend", Some(true))))]
    #[case::twice(Change::Suspend, json!({"suspend": true}), None)]
    #[case::resume(Change::Resume, json!({"suspend": true}), Some(("suspend", Some(false))))]
    #[case::not_suspended(Change::Resume, json!({}), None)]
    #[case::cancel(Change::Cancel, json!({"suspend": true}), Some(("cancel", Some(true))))]
    #[case::canceled(Change::Cancel, json!({"cancel": true}), None)]
    fn one_field_changes_or_none(
        #[case] change: Change,
        #[case] spec: Value,
        #[case] field: Option<(&'static str, Option<bool>)>,
    ) {
        assert_eq!(decide(change, &backup(&spec, "Exporting")).unwrap().field, field);
    }

    #[rstest]
    #[case::not_said(Value::Null, Some(false))]
    #[case::said(json!(false), None)]
    fn a_schedule_that_stopped_by_itself_is_changed(#[case] before: Value, #[case] after: Option<bool>) {
        let value = json!({
            "apiVersion": crate::api::API_VERSION, "kind": "BackupSchedule",
            "metadata": {"name": "s", "namespace": "n"},
            "spec": {"schedule": "@daily", "suspend": before, "template": {"spec": {"storeRef": {"name": "s"},
                "collection": "c", "source": {"postgres": {"database": "d", "endpoints": []}}}}},
            "status": {"suspendedBecause": {"reason": "RunFailed", "message": "m", "hint": "h"}},
        });
        let schedule = Object::Schedule(Box::new(serde_json::from_value(value).unwrap()));
        assert_eq!(decide(Change::Resume, &schedule).unwrap().field, Some(("suspend", after)));
    }

    #[rstest]
    fn what_is_over_stays_so(
        #[values(Change::Suspend, Change::Resume, Change::Cancel)] change: Change,
        #[values("Succeeded", "Failed", "Canceled")] phase: &str,
    ) {
        let failure = decide(change, &backup(&json!({"suspend": true}), phase)).unwrap_err();
        assert_eq!(failure.reason(), "ObjectOver");
        assert!(failure.message().contains(phase), "{}", failure.message());
    }

    #[test]
    fn what_is_being_canceled_is_not_resumed() {
        let failure = decide(Change::Resume, &backup(&json!({"cancel": true, "suspend": true}), "Exporting"));
        assert_eq!(failure.unwrap_err().reason(), "ObjectOver");
    }
}
