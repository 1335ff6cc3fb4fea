//! A Backup that is being deleted and says `deletionPolicy: Delete`: its data goes first, and then its finalizer.

mod build;
mod decide;

use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::{Api, Client, ResourceExt};

use super::{BackupError, Scope, finalizer, key, observe, status};
use crate::api::{Backup, BackupStore};
use crate::controller::make::{make_all, namespace_ends};
use crate::controller::pods::Owner;
use crate::controller::{events, jobs};
pub(in crate::controller) use decide::condition;
pub use decide::{LetGo, Next, Observed, Plan, decide};

/// Brings the deletion of one Backup a step further.
pub(super) async fn reconcile(backup: &Backup, scope: &Scope) -> Result<Action, BackupError> {
    let context = &scope.context;
    let (client, refusals, uid) = (&context.client, &context.refusals, key(backup));
    if !finalizer::is_held(backup) {
        refusals.forget(&uid);
        return Ok(Action::await_change());
    }
    // Needs the client, but for a Backup that is let go in any case: nothing that can't be read may hold it.
    let observed = match finalizer::is_meant(backup) {
        true => look(client, backup, refusals.of(&uid)).await?,
        false => Observed::default(),
    };
    // Pure.
    let plan = decide(backup, &observed, Timestamp::now());
    tracing::info!(%plan, "decided");
    let built = build::build(backup, &plan, &context.settings);
    // Needs the client.
    if let Next::LetGo(why) = plan.next {
        refusals.forget(&uid);
        finalizer::release(client, backup).await?;
        scope.failures.went_well(backup);
        events::tell_of_end(&context.recorder, backup, why).await;
        return Ok(Action::await_change());
    }
    let written = status::write(client, backup, &plan.status).await?;
    events::tell_of_deletion(&context.recorder, backup, &written).await;
    let owner = Owner::of(&written);
    jobs::stop_each(client, &owner.namespace, &plan.stop).await.map_err(BackupError::Stop)?;
    let made = make_all(client, &owner, built).await;
    let again = refusals.remember(&uid, made)?;
    scope.failures.went_well(backup);
    let again = [plan.again_after, again].into_iter().flatten().min();
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

async fn look(
    client: &Client,
    backup: &Backup,
    refused: Option<crate::api::Failure>,
) -> Result<Observed, BackupError> {
    let namespace = backup.namespace().unwrap_or_default();
    let namespace_ends = namespace_ends(client, &namespace).await.map_err(BackupError::Observe)?;
    let has_begun = observe::frozen(client, backup).await?.is_some();
    let jobs = jobs::of_resource(client, &namespace, &key(backup)).await.map_err(BackupError::Observe)?;
    // One that can't be read is a reason to wait, and to say so.
    let stores: Api<DeserializeGuard<BackupStore>> = Api::namespaced(client.clone(), &namespace);
    let store = stores.get_opt(&backup.spec.store_ref.name).await.map_err(BackupError::Observe)?;
    let store = store.and_then(|guarded| guarded.0.ok());
    Ok(Observed { namespace_ends, store, has_begun, jobs, refused })
}
