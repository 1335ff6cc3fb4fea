//! Restores that their user halts, and one into a database that another operator has made.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Controller, Shop, cluster};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testbed::{PASSWORD, WireFault, WireRule};
use vouchsafe::api::{ConditionStatus, Restore, RestorePhase, RestoreStatus};
use vouchsafe::controller::pods::PROCESS;

const LIMIT: Duration = Duration::from_secs(240);

/// Objects of rows are read once before anything is touched; this holds the reads that are loaded.
fn hold_loading(shop: &Shop) {
    let proven = Shop::PLACES.len() as u64;
    shop.wire.set(vec![WireRule::during(proven..u64::MAX, WireFault::Hold).only("GET ").only("/data/")]);
}

fn loads(status: &RestoreStatus) -> bool {
    status.run.as_ref().and_then(|run| run.step.as_deref()) == Some("Data")
}

fn holds(status: &RestoreStatus, type_: &str) -> bool {
    status.conditions.iter().any(|it| it.type_ == type_ && it.status == ConditionStatus::True)
}

async fn patch(shop: &Shop, name: &str, spec: &Value) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": spec}));
    shop.namespace.api::<Restore>().patch(name, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Waits until no restorer is at work; the Job of one that has ended by itself stays to be looked at.
async fn no_restorer(shop: &Shop) -> Result<()> {
    let at_work = |job: &Job| {
        job.annotations().get(PROCESS).is_some_and(|it| it == "restorer")
            && job.status.as_ref().is_none_or(|status| status.completion_time.is_none())
    };
    shop.namespace
        .until_listed::<Job>("at work no more", LIMIT, |jobs| !jobs.iter().any(at_work))
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_resumed_canceled_and_into_a_database_of_another_operator() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("restores").await?).await?;
    let _controller = Controller::start(&shop.namespace)?;
    shop.namespace.create(&shop.backup("first", &json!({}))?).await?;
    shop.succeeded("first", LIMIT).await?;
    let from = json!({"backup": "first"});
    // Of this shop alone: its server has others, too.
    let own = format!("SELECT datname FROM pg_database WHERE datname ~ '^{}(_|$)' ORDER BY 1", shop.database);
    let databases = || shop.postgres.psql("postgres", &own);
    let before = databases()?;

    hold_loading(&shop);
    let canceled = format!("{}_canceled", shop.database);
    shop.namespace.create(&shop.restore("canceled", &from, &canceled)?).await?;
    shop.fired(LIMIT).await?;
    shop.restore_reaches("canceled", "loading", LIMIT, loads).await?;
    assert_ne!(databases()?, before, "nothing was begun");
    patch(&shop, "canceled", &json!({"cancel": true})).await?;
    shop.wire.heal();
    let over = |status: &RestoreStatus| status.phase == Some(RestorePhase::Canceled);
    shop.restore_reaches("canceled", "canceled", LIMIT, over).await?;
    no_restorer(&shop).await?;
    assert_eq!(databases()?, before, "what was begun is taken back");

    hold_loading(&shop);
    let database = format!("{}_resumed", shop.database);
    shop.namespace.create(&shop.restore("resumed", &from, &database)?).await?;
    shop.fired(LIMIT).await?;
    shop.restore_reaches("resumed", "loading", LIMIT, loads).await?;
    patch(&shop, "resumed", &json!({"suspend": true})).await?;
    shop.wire.heal();
    shop.restore_reaches("resumed", "suspended", LIMIT, |status| holds(status, "Suspended")).await?;
    no_restorer(&shop).await?;
    patch(&shop, "resumed", &json!({"suspend": false})).await?;
    shop.restored("resumed", &database, LIMIT).await?;
    let left = databases()?;
    assert_eq!(left.lines().count(), before.lines().count() + 1, "{left}");

    // As CloudNativePG leaves it: a database and a role that owns it and may nothing else.
    let (role, theirs) = (format!("{}_app", shop.database), format!("{}_theirs", shop.database));
    shop.postgres.psql("postgres", &format!("CREATE ROLE \"{role}\" LOGIN PASSWORD '{PASSWORD}'"))?;
    shop.postgres.psql("postgres", &format!("CREATE DATABASE \"{theirs}\" OWNER \"{role}\""))?;
    shop.postgres.psql(
        &theirs,
        &format!(
            "CREATE TABLE kept (id int); ALTER SCHEMA public OWNER TO \"{role}\"; \
        CREATE SCHEMA other; ALTER TABLE kept SET SCHEMA other"
        ),
    )?;
    shop.namespace.secret("app", &[("username", &role), ("password", PASSWORD)]).await?;
    let mut restore = serde_json::to_value(shop.restore("theirs", &from, &theirs)?)?;
    let spec = restore["spec"].as_object_mut().context("a spec")?;
    spec["target"]["postgres"]["credentialsSecret"]["name"] = json!("app");
    let more = json!({"createDatabase": false, "onExisting": "IntoEmptySchemas", "owner": role, "privileges": "Skip"});
    spec.extend(more.as_object().context("an object")?.clone());
    shop.namespace.create(&serde_json::from_value::<Restore>(restore)?).await?;
    shop.restored("theirs", &theirs, LIMIT).await?;
    let owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(shop.postgres.psql(&theirs, owners)?.trim(), role);
    let kept = "SELECT count(*) FROM other.kept; SELECT count(*) FROM pg_namespace WHERE nspname = 'vouchsafe_restore'";
    assert_eq!(shop.postgres.psql(&theirs, kept)?.trim(), "0\n0");
    Ok(())
}
