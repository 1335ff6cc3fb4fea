//! What a case leaves in its namespace, so that two namespaces can be compared: whole objects, without times, and with
//! names that say what an object is of instead of what the API server has called it.

use std::collections::BTreeMap;

use kube::api::ListParams;
use serde_json::{Value, json};

use super::cluster::{Cluster, dynamic};
use super::writes::{owner, process};

/// Every kind of object that a controller could leave, and those that it looks after.
const KINDS: [(&str, &str, &str, &str); 11] = [
    ("vouchsafe.dev", "v1alpha1", "Backup", "backups"),
    ("vouchsafe.dev", "v1alpha1", "BackupSchedule", "backupschedules"),
    ("vouchsafe.dev", "v1alpha1", "BackupStore", "backupstores"),
    ("vouchsafe.dev", "v1alpha1", "Restore", "restores"),
    ("batch", "v1", "Job", "jobs"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "Secret", "secrets"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
];

/// Fields that tell when, or which write it was.
const VOLATILE: [&str; 10] = [
    "creationTimestamp",
    "deletionTimestamp",
    "finishedAt",
    "generation",
    "lastProbeTime",
    "lastTransitionTime",
    "managedFields",
    "observedGeneration",
    "resourceVersion",
    "startedAt",
];

/// What is left: a line for each field of each object, and for each Job that was ever made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left(Vec<String>);

impl Left {
    /// What is there now. An error for a Job that was made twice.
    pub async fn of(cluster: &Cluster) -> Result<Self, String> {
        let mut objects: Vec<(String, Value)> = Vec::new();
        for kind in KINDS {
            let listed =
                dynamic(&cluster.client, &cluster.namespace, kind).list(&ListParams::default()).await;
            let found = listed.unwrap().items;
            objects.extend(found.into_iter().map(|object| (kind.2.to_owned(), json!(object))));
        }
        let ever: Vec<Value> = cluster.seen.borrow().ever.values().cloned().collect();
        let mut made = BTreeMap::new();
        for job in &ever {
            *made.entry(format!("{} for {}", process(job), order(job))).or_insert(0) += 1;
        }
        if let Some((job, times)) = made.iter().find(|(_, times)| **times > 1) {
            return Err(format!("{job} was made {times} times"));
        }
        let jobs_there: Vec<(String, Value)> = ever.into_iter().map(|job| ("Job".to_owned(), job)).collect();
        let names = names(cluster, objects.iter().chain(&jobs_there));
        let mut lines: Vec<String> = made.keys().map(|job| format!("made: {job}")).collect();
        for (kind, mut object) in objects {
            // Kubernetes' own controllers tell of them when they come to it, and a pod is what its Job says.
            if kind == "Job" || kind == "Pod" {
                object["status"] = Value::Null;
                object["metadata"]["finalizers"] = Value::Null;
            }
            if kind == "Pod" {
                object["spec"] = Value::Null;
            }
            strip(&mut object);
            let name = format!("{kind} {}", object["metadata"]["name"].as_str().unwrap_or_default());
            flatten(&name, &object, &mut lines);
        }
        let mut lines: Vec<String> = lines.iter().map(|line| renamed(line, &names)).collect();
        lines.sort();
        Ok(Self(lines))
    }

    /// What one has and the other has not, in lines; empty if they are equal.
    pub fn difference(&self, other: &Self) -> Vec<String> {
        let without = |one: &Self, other: &Self, sign: char| -> Vec<String> {
            let only = one.0.iter().filter(|line| !other.0.contains(line));
            only.map(|line| format!("{sign} {line}")).collect()
        };
        [without(self, other, '-'), without(other, self, '+')].concat()
    }

    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

/// What a Job is for. A probe's time is not told.
fn order(job: &Value) -> String {
    let order = job["metadata"]["annotations"]["vouchsafe.dev/order"].as_str().unwrap_or_default();
    timeless(order)
}

/// `1 2026-01-01T00:00:00Z`, the order of a probe, without its time.
fn timeless(text: &str) -> String {
    let is_time = |word: &&str| word.parse::<jiff::Timestamp>().is_ok();
    match text.split_once(' ').filter(|(_, time)| is_time(time)) {
        Some((generation, _)) => format!("{generation} (a time)"),
        None => text.to_owned(),
    }
}

/// What the API server, or a hash, has called something, with what it is called in every namespace; the longest
/// first.
fn names<'a>(cluster: &Cluster, objects: impl Iterator<Item = &'a (String, Value)>) -> Vec<(String, String)> {
    let mut names = vec![(cluster.namespace.clone(), "(namespace)".to_owned())];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for (kind, object) in objects {
        let metadata = &object["metadata"];
        let (name, uid) = (text(&metadata["name"]), text(&metadata["uid"]));
        let is = match kind.as_str() {
            "Job" => format!("(Job {})", process(object)),
            "Pod" => format!("(pod of {})", process(object)),
            "ConfigMap" | "ServiceAccount" | "Role" | "RoleBinding" => format!("(of {})", owner(object)),
            _ => name.clone(),
        };
        // A name that a user has given is short, and part of other words.
        if is != name {
            names.push((name, is.clone()));
        }
        names.push((uid, format!("(UID of {kind} {is})")));
    }
    names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    names.dedup();
    names
}

fn renamed(line: &str, names: &[(String, String)]) -> String {
    names.iter().fold(line.to_owned(), |line, (name, is)| line.replace(name.as_str(), is))
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !VOLATILE.contains(&name.as_str()));
            fields.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        Value::String(text) => *text = timeless(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn flatten(path: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| flatten(&format!("{path}.{name}"), field, lines));
        }
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(at, it)| flatten(&format!("{path}[{at}]"), it, lines));
        }
        Value::Null => {}
        _ => lines.push(format!("{path}: {value}")),
    }
}
