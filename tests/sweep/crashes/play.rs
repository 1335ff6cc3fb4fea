//! The scenarios: what a user does, and what pods say. One step at a time, each once the controller has noted the one
//! before, so that its writes are the same in every run.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vouchsafe::api::{Capabilities, Failure, LastWord, digest_of_verdicts};

use super::cluster::Cluster;
use super::writes::process;

const PLAN: &str = "0123456789abcdef";
const NONCE: &str = "fedcba9876543210";
const DESTINATIONS: [&str; 2] = ["eu", "us"];

/// Digests, each another one.
fn digest(of: &str) -> String {
    vouchsafe::format::Sha256Digest::of(of.as_bytes()).to_string()
}

/// One story of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A store is probed, a Backup succeeds, and a Restore of it succeeds.
    Whole,
    /// A Backup is suspended and resumed; then one of its workers fails for good, while the other is at work.
    Failing,
}

impl Scenario {
    /// Plays it to its end.
    pub async fn play(self, cluster: &Cluster) -> Result<(), String> {
        let play = Play { cluster };
        play.store().await?;
        match self {
            Self::Whole => {
                play.backup().await?;
                play.restore().await
            }
            Self::Failing => play.failing_backup().await,
        }
    }
}

struct Play<'a> {
    cluster: &'a Cluster,
}

impl Play<'_> {
    async fn create(&self, kind: &str, name: &str, spec: &Value) {
        let object = json!({
            "apiVersion": "vouchsafe.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
        });
        self.cluster.create(&object).await;
    }

    /// Waits until the status of a resource is as `look` wants it.
    async fn noted(
        &self,
        (kind, name): (&str, &str),
        what: &str,
        look: impl Fn(&Value) -> bool,
    ) -> Result<(), String> {
        let what = format!("{kind} {name}: {what}");
        self.cluster.until(&what, |seen| look(&seen.get(kind, name)?["status"]).then_some(())).await
    }

    async fn reaches(&self, of: (&str, &str), phase: &str) -> Result<(), String> {
        self.noted(of, phase, |status| status["phase"] == phase).await
    }

    async fn notes(&self, of: (&str, &str), process: &str, attempt: u32, state: &str) -> Result<(), String> {
        let is = |it: &Value| it["name"] == process && it["attempt"] == attempt && it["state"] == state;
        let what = format!("{process} {attempt} {state}");
        self.noted(of, &what, |status| status["processes"].as_array().is_some_and(|all| all.iter().any(is)))
            .await
    }

    /// The pod of a process, once its Job has one.
    async fn pod(&self, of: (&str, &str), name: &str, attempt: u32) -> Result<String, String> {
        let wanted = format!("{} {name}.{attempt}", of.0);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let look = |seen: &super::cluster::Seen| {
            let job = seen.all("Job").find(|job| process(job) == wanted)?;
            let owned = |pod: &&Value| pod["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"];
            text(&seen.all("Pod").find(owned)?["metadata"]["name"])
        };
        self.cluster.until(&format!("a pod of {wanted}"), look).await
    }

    /// Its pod runs, and the controller knows.
    async fn runs(&self, of: (&str, &str), name: &str, attempt: u32) -> Result<String, String> {
        let pod = self.pod(of, name, attempt).await?;
        self.cluster.run_pod(&pod, &format!("node-of-{name}")).await;
        self.notes(of, name, attempt, "Running").await?;
        Ok(pod)
    }

    /// All of these are made; then one after the other runs, and one after the other ends with its word.
    async fn work(&self, of: (&str, &str), words: &[(String, LastWord)]) -> Result<(), String> {
        for (name, _) in words {
            self.pod(of, name, 1).await?;
        }
        let mut pods = Vec::new();
        for (name, _) in words {
            pods.push(self.runs(of, name, 1).await?);
        }
        for ((name, word), pod) in words.iter().zip(pods) {
            self.cluster.end_pod(&pod, word).await;
            self.notes(of, name, 1, "Done").await?;
        }
        Ok(())
    }

    async fn store(&self) -> Result<(), String> {
        let destination = |(number, name): (usize, &str)| {
            json!({
                "name": name, "default": number == 0, "locality": format!("region={name}"),
                "s3": {"bucket": format!("orders-{name}"), "region": name},
                "credentialsSecret": {"name": format!("orders-{name}")},
            })
        };
        let destinations: Vec<Value> = DESTINATIONS.into_iter().enumerate().map(destination).collect();
        self.create("BackupStore", "orders", &json!({"destinations": destinations})).await;
        let capabilities = Capabilities {
            conditional_create: Some(true),
            checksum: Some("sha256".into()),
            object_lock: None,
        };
        let probed = LastWord::Probed { capabilities, note: String::new() };
        let probers = DESTINATIONS.map(|name| (format!("prober-{name}"), probed.clone()));
        let of = ("BackupStore", "orders");
        self.work(of, &probers).await?;
        self.noted(of, "ready", |status| status["readyDestinations"] == "2/2").await
    }

    async fn begin(&self) -> Result<(), String> {
        let endpoint = |name: &str| {
            json!({
                "name": name, "host": format!("pg-{name}"), "locality": format!("region={name}"),
                "credentialsSecret": {"name": "pg"},
            })
        };
        let endpoints = DESTINATIONS.map(endpoint);
        let source = json!({"postgres": {"database": "shop", "endpoints": endpoints}});
        let spec = json!({"storeRef": {"name": "orders"}, "collection": "shop", "source": source});
        self.create("Backup", "first", &spec).await;
        Ok(())
    }

    /// What the coordinator has published by `step`.
    async fn publish(&self, attempt: u32, step: &str) {
        let mut run = json!({"attempt": attempt, "step": step});
        let asked = step == "Verifying";
        if step != "Resolving" {
            let order = |name: &str| {
                let mut order = json!({"destination": name, "tickets": 3, "ticketsSha256": digest(&format!("tickets {name}"))});
                if asked {
                    order["partSha256"] = digest(&format!("part {name}")).into();
                }
                order
            };
            run["number"] = 1.into();
            run["plan"] = PLAN.into();
            run["orders"] = DESTINATIONS.map(order).to_vec().into();
        }
        if asked {
            run["nonce"] = NONCE.into();
            run["manifestSha256"] = digest("manifest").into();
        }
        self.cluster.publish("Backup", "first", "vouchsafe-coordinator", &run).await;
    }

    async fn backup(&self) -> Result<(), String> {
        let of = ("Backup", "first");
        self.begin().await?;
        let coordinator = self.runs(of, "coordinator", 1).await?;
        self.publish(1, "Resolving").await;
        self.reaches(of, "Resolving").await?;
        self.publish(1, "Exporting").await;
        self.work(of, &DESTINATIONS.map(|name| (format!("worker-{name}"), LastWord::Settled))).await?;
        self.publish(1, "WritingMetadata").await;
        self.reaches(of, "WritingMetadata").await?;
        self.publish(1, "Verifying").await;
        let verdict = |name: &str| digest(&format!("verdict {name}"));
        let verified = |name: &str| {
            (format!("verifier-{name}"), LastWord::Verdict { nonce: NONCE.into(), sha256: verdict(name) })
        };
        self.work(of, &DESTINATIONS.map(verified)).await?;
        let verdicts = DESTINATIONS.map(|name| (name, verdict(name)));
        let sealed = LastWord::Sealed {
            run: 1,
            manifest_sha256: digest("manifest"),
            verdicts_sha256: digest_of_verdicts(verdicts.iter().map(|(name, digest)| (*name, &**digest))),
            objects_read: 6,
            bytes_read: 1000,
            rows: 12,
            bytes_stored: 1000,
            sealed_at: "2026-01-01T00:00:01Z".into(),
            taken: "2026-01-01T00:00:00Z".into(),
            errors: BTreeMap::new(),
        };
        self.cluster.end_pod(&coordinator, &sealed).await;
        self.reaches(of, "Succeeded").await
    }

    async fn restore(&self) -> Result<(), String> {
        let of = ("Restore", "back");
        let target = json!({"postgres":
            {"host": "pg-eu", "database": "shop_back", "credentialsSecret": {"name": "pg"}}});
        self.create(of.0, of.1, &json!({"from": {"backup": "first"}, "target": target})).await;
        let pod = self.runs(of, "restorer", 1).await?;
        for step in ["Resolving", "Data", "Verifying"] {
            let run = json!({"attempt": 1, "step": step, "number": 1, "manifestSha256": digest("manifest")});
            self.cluster.publish(of.0, of.1, "vouchsafe-restorer", &run).await;
            self.reaches(of, step).await?;
        }
        let restored =
            LastWord::Restored { run: 1, manifest_sha256: digest("manifest"), tables: 2, rows: 12 };
        self.cluster.end_pod(&pod, &restored).await;
        self.reaches(of, "Succeeded").await
    }

    async fn failing_backup(&self) -> Result<(), String> {
        let of = ("Backup", "first");
        self.begin().await?;
        self.runs(of, "coordinator", 1).await?;
        self.publish(1, "Resolving").await;
        self.reaches(of, "Resolving").await?;
        self.cluster.change(of.0, of.1, &json!({"spec": {"suspend": true}})).await;
        self.notes(of, "coordinator", 1, "Suspended").await?;
        self.cluster.until("its Job is gone", |seen| gone(seen, "Backup coordinator.1")).await?;
        self.cluster.change(of.0, of.1, &json!({"spec": {"suspend": false}})).await;
        let coordinator = self.runs(of, "coordinator", 2).await?;
        self.publish(2, "Exporting").await;
        let [first, second] = DESTINATIONS.map(|name| format!("worker-{name}"));
        self.pod(of, &second, 1).await?;
        let failing = self.runs(of, &first, 1).await?;
        self.runs(of, &second, 1).await?;
        let failure = Failure {
            reason: "PermissionDenied".into(),
            message: "it may not read public.orders".into(),
            hint: "grant it".into(),
        };
        let failed = LastWord::Failed { failure: failure.clone(), again: false };
        self.cluster.end_pod(&failing, &failed).await;
        self.notes(of, &first, 1, "Failed").await?;
        let void = LastWord::Void { run: Some(1), failure, canceled: false };
        self.cluster.end_pod(&coordinator, &void).await;
        self.reaches(of, "Failed").await?;
        self.cluster.until("the other worker is gone", |seen| gone(seen, "Backup worker-us.1")).await
    }
}

/// Whether a Job that was made is gone.
fn gone(seen: &super::cluster::Seen, name: &str) -> Option<()> {
    (!seen.all("Job").any(|job| process(job) == name)).then_some(())
}
