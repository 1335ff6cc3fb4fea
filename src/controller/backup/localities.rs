//! Each locality's share of a run, and the versions of its servers: what the coordinator has published, beside what the
//! controller knows. Pure, and for people only.

use std::collections::BTreeSet;

use crate::api::{BackupPhase, BackupStatus, LocalityStatus, RunStatus};

/// What stands for no locality.
const NONE: &str = "default";

/// Sets what `run` says of servers and shares; what it doesn't say stays as it was.
pub(super) fn set(status: &mut BackupStatus, run: &RunStatus) {
    let Some(resolved) = &mut status.resolved else { return };
    for endpoint in &mut resolved.endpoints {
        if let Some(server) = run.servers.iter().find(|it| it.endpoint == endpoint.name) {
            endpoint.server_version = Some(server.version.clone());
        }
    }
    if run.orders.is_empty() {
        return;
    }
    let sealed = status.phase == Some(BackupPhase::Succeeded);
    let node_of = |process: String| {
        let process = status.processes.iter().find(|it| it.name == process);
        process.and_then(|it| it.node.clone())
    };
    let witnesses = status.proof.as_ref().map_or(&[][..], |proof| &proof.witnesses);
    let shares = run.orders.iter().map(|order| {
        let destination = resolved.destinations.iter().find(|it| it.name == order.destination);
        LocalityStatus {
            locality: destination.and_then(|it| it.locality.clone()).unwrap_or_else(|| NONE.to_owned()),
            node: node_of(format!("worker-{}", order.destination)),
            destination: Some(order.destination.clone()),
            tickets_planned: Some(order.tickets),
            tickets_settled: order.tickets_settled,
            bytes_stored: order.bytes_stored,
            verified: Some(sealed && witnesses.iter().any(|it| it.destination == order.destination)),
        }
    });
    // A list whose keys are localities: one twice would be refused, with all the rest of the status.
    let mut known = BTreeSet::new();
    status.localities = shares.filter(|it| known.insert(it.locality.clone())).collect();
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(more: &Value) -> BackupStatus {
        let digest = "0".repeat(64);
        let mut value = json!({
            "resolved": {
                "destinations": [{"name": "eu", "url": "s3://eu", "locality": "region=eu"}, {"name": "rest", "url": "s3://rest"}],
                "endpoints": [{"name": "main", "host": "pg"}, {"name": "other", "host": "pg2"}],
            },
            "processes": [{"name": "worker-eu", "job": "j", "order": "p", "attempt": 1, "state": "Done", "node": "n1"}],
            "proof": {"witnesses": [{"destination": "eu", "pod": "p", "nonce": "n", "verdictSha256": digest}]},
        });
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn order(destination: &str, settled: Option<i64>) -> Value {
        let digest = "0".repeat(64);
        json!({"destination": destination, "tickets": 4, "ticketsSha256": digest, "ticketsSettled": settled, "bytesStored": settled})
    }

    fn run(orders: &[Value]) -> RunStatus {
        let servers = [json!({"endpoint": "main", "version": "17.10"})];
        serde_json::from_value(json!({"orders": orders, "servers": servers})).unwrap()
    }

    #[test]
    fn each_destination_is_told_with_its_node_and_its_share() {
        let run = run(&[order("eu", Some(3)), order("rest", None)]);
        let mut goes_on = status(&json!({"phase": "Exporting"}));
        set(&mut goes_on, &run);
        let versions: Vec<_> = goes_on
            .resolved
            .as_ref()
            .unwrap()
            .endpoints
            .iter()
            .map(|it| it.server_version.as_deref())
            .collect();
        assert_eq!(versions, [Some("17.10"), None]);
        let [eu, rest] = &goes_on.localities[..] else { panic!("{:?}", goes_on.localities) };
        assert_eq!(
            (&*eu.locality, eu.node.as_deref(), eu.destination.as_deref()),
            ("region=eu", Some("n1"), Some("eu"))
        );
        assert_eq!((eu.tickets_planned, eu.tickets_settled, eu.bytes_stored), (Some(4), Some(3), Some(3)));
        assert_eq!((&*rest.locality, rest.node.as_deref(), rest.tickets_settled), ("default", None, None));
        assert_eq!((eu.verified, rest.verified), (Some(false), Some(false)), "nothing is before the seal");
        let mut sealed = status(&json!({"phase": "Succeeded"}));
        set(&mut sealed, &run);
        let verified: Vec<_> = sealed.localities.iter().map(|it| it.verified).collect();
        assert_eq!(verified, [Some(true), Some(false)]);
        // A later look finds the coordinator's words gone.
        let before = sealed.clone();
        set(&mut sealed, &RunStatus::default());
        assert_eq!(sealed, before);
    }

    #[test]
    fn no_locality_is_there_twice_and_nothing_is_said_before_it_is_resolved() {
        let mut twice = status(&json!({}));
        set(&mut twice, &run(&[order("unknown", None), order("rest", None)]));
        assert_eq!(twice.localities.len(), 1);
        let mut empty = BackupStatus::default();
        set(&mut empty, &run(&[order("eu", None)]));
        assert_eq!(empty, BackupStatus::default());
    }
}
