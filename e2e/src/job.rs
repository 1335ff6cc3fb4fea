//! Jobs with the settings that Vouchsafe's own have.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::batch::v1;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use serde_json::json;

use crate::namespace::Namespace;
use crate::wait::wait_until;

/// A Job of one pod, as the `restricted` standard demands it and with a read-only root; `/tmp` can be written.
#[derive(Debug)]
pub struct Job {
    name: String,
    arguments: Vec<String>,
    command: Option<Vec<String>>,
    place: Vec<(String, String)>,
    secrets: Vec<String>,
}

/// How a Job ended.
#[derive(Debug)]
pub struct Ended {
    /// Whether its pod exited with 0.
    pub succeeded: bool,
    /// Its pod, as the API server has it.
    pub pod: Pod,
    /// What the pod wrote.
    pub log: String,
}

impl Job {
    /// Runs `vouchsafe` with these arguments.
    #[must_use]
    pub fn vouchsafe(name: &str, arguments: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            arguments: owned(arguments),
            command: None,
            place: vec![],
            secrets: vec![],
        }
    }

    /// Runs a shell script in the image instead.
    #[must_use]
    pub fn shell(name: &str, script: &str) -> Self {
        Self { command: Some(owned(&["sh", "-ec", script])), ..Self::vouchsafe(name, &[]) }
    }

    /// Only on nodes with these labels: required, not preferred.
    #[must_use]
    pub fn only_on(mut self, labels: &[(&str, &str)]) -> Self {
        self.place = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        self
    }

    /// With every entry of this Secret in its environment.
    #[must_use]
    pub fn environment_of(mut self, secret: &str) -> Self {
        self.secrets.push(secret.to_owned());
        self
    }

    /// Creates it in `namespace`, and waits for its end.
    ///
    /// # Errors
    /// What the API server says against it; after `limit`, what the namespace is like.
    pub async fn run(&self, namespace: &Namespace, limit: Duration) -> Result<Ended> {
        namespace.create(&self.object(namespace.cluster().image())?).await?;
        let wanted = "complete or failed";
        let succeeded = wait_until(namespace.api::<v1::Job>(), &self.name, wanted, limit, |job| {
            let conditions = job?.status.as_ref()?.conditions.as_ref()?;
            conditions.iter().filter(|condition| condition.status == "True").find_map(|condition| {
                match condition.type_.as_str() {
                    "Complete" => Some(true),
                    "Failed" => Some(false),
                    _ => None,
                }
            })
        });
        let succeeded = succeeded.await.with_context(|| namespace.state())?;
        let pods = namespace.api::<Pod>();
        let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={}", self.name));
        let found =
            pods.list(&of_job).await.with_context(|| format!("listing the pods of Job {}", self.name))?;
        let pod = found
            .items
            .into_iter()
            .next()
            .with_context(|| format!("Job {} ended without a pod:\n{}", self.name, namespace.state()))?;
        let name = pod.metadata.name.clone().unwrap_or_default();
        let log = pods.logs(&name, &LogParams::default()).await;
        let log =
            log.with_context(|| format!("the log of pod {name} can't be had:\n{}", namespace.state()))?;
        Ok(Ended { succeeded, pod, log })
    }

    fn object(&self, image: &str) -> Result<v1::Job> {
        let place: Vec<_> = self
            .place
            .iter()
            .map(|(label, value)| json!({"key": label, "operator": "In", "values": [value]}))
            .collect();
        let mut pod = json!({
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "tmp", "emptyDir": {}}],
            "containers": [{
                "name": "vouchsafe",
                "image": image,
                // On nodes of our own it was loaded, and is in no registry.
                "imagePullPolicy": "IfNotPresent",
                "command": self.command,
                "args": self.arguments,
                "envFrom": self.secrets.iter().map(|name| json!({"secretRef": {"name": name}})).collect::<Vec<_>>(),
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        });
        if !place.is_empty() {
            pod["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": place}]}}});
        }
        let job =
            json!({"metadata": {"name": self.name}, "spec": {"backoffLimit": 0, "template": {"spec": pod}}});
        serde_json::from_value(job).with_context(|| format!("Job {} is badly formed", self.name))
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
