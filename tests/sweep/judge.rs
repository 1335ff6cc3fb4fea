//! What lies in a bucket, seen by curl, sha256sum and nothing of ours.

use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use super::world::{World, blocking};

/// How a run ended, as its register says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No run was claimed.
    NoRun,
    Open,
    Void {
        reason: String,
    },
    Sealed {
        plan: String,
    },
}

fn json(world: &World, keys: &[String]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    world.server.fetch(keys, folder.path());
    let read = |position: usize| std::fs::read(folder.path().join(position.to_string())).unwrap();
    (0..keys.len()).map(|position| serde_json::from_slice(&read(position)).unwrap()).collect()
}

/// How run `run` of the collection below `prefix` ended.
pub async fn outcome(world: &Arc<World>, prefix: &str, run: u32) -> Outcome {
    let (world, prefix) = (Arc::clone(world), format!("{prefix}/runs/{run:08}"));
    blocking(move || {
        let keys = world.server.list(&prefix);
        let has = |name: &str| keys.contains(&format!("{prefix}/{name}"));
        if !has("outcome.json") {
            return if has("run.json") { Outcome::Open } else { Outcome::NoRun };
        }
        let document = json(&world, &[format!("{prefix}/outcome.json")]).remove(0);
        let text = |of: &Value, name: &str| find(of, name).and_then(Value::as_str).map(str::to_owned);
        match (text(&document, "plan"), text(&document, "reason")) {
            (Some(plan), None) => Outcome::Sealed { plan },
            (None, Some(reason)) => Outcome::Void { reason },
            _ => panic!("an outcome is sealed or void: {document}"),
        }
    })
    .await
}

/// The first value under `name`, however deep.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => {
            fields.get(name).or_else(|| fields.values().find_map(|field| find(field, name)))
        }
        Value::Array(values) => values.iter().find_map(|value| find(value, name)),
        _ => None,
    }
}

/// Every receipt of the sealed plan names objects that lie there with the SHA-256 that it says. At least `objects`.
pub async fn objects_hold(
    world: &Arc<World>,
    prefixes: &[String],
    (run, plan): (u32, &str),
    objects: usize,
) -> Result<(), String> {
    let (world, plan, prefixes) = (Arc::clone(world), plan.to_owned(), prefixes.to_owned());
    blocking(move || {
        let mut expected: Vec<(String, String)> = Vec::new();
        for prefix in &prefixes {
            let keys = world.server.list(&format!("{prefix}/runs/{run:08}/{plan}/receipts"));
            for receipt in if keys.is_empty() { Vec::new() } else { json(&world, &keys) } {
                let Some(object) = find(&receipt, "object") else { continue };
                let text =
                    |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                let sha256 = text("sha256").trim_start_matches("sha256:").to_owned();
                expected.push((format!("{prefix}/{}", text("key")), sha256));
            }
        }
        if expected.len() < objects {
            return Err(format!("{} objects have a receipt: {expected:?}", expected.len()));
        }
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<String> = expected.iter().map(|(key, _)| key.clone()).collect();
        world.server.fetch(&keys, folder.path());
        let mut sums = Command::new("sha256sum");
        sums.args((0..keys.len()).map(|position| folder.path().join(position.to_string())));
        let sums = String::from_utf8(sums.output().unwrap().stdout).unwrap();
        let differing =
            sums.lines().zip(&expected).find(|(line, (_, sha256))| !line.starts_with(sha256.as_str()));
        match differing {
            None if sums.lines().count() == expected.len() => Ok(()),
            None => Err("sha256sum read fewer objects".to_owned()),
            Some((line, (key, sha256))) => Err(format!("{key} is {line}, and its receipt says {sha256}")),
        }
    })
    .await
}
