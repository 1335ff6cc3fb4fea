//! Jobs that go on although what they are of is over: this process ended between the last status and the end of the
//! Jobs, or another controller that was deposed made one later.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::batch::v1::Job;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use super::Context;
use super::attempts::Stop;
use super::jobs::{self, JobState, ObservedJob};

/// The Jobs that have not ended, by the UID of the resource that they are of: as the watch of Jobs shows them, so that
/// nobody asks the API server about thousands of resources that are over.
#[derive(Debug, Default)]
pub(super) struct Leftovers(Mutex<HashMap<String, BTreeSet<String>>>);

impl Leftovers {
    /// Notes a Job as the watch shows it; says which resource of kind `K` it is of.
    pub(super) fn note<K>(&self, job: &Job) -> Option<ObjectRef<K>>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        let owners = job.owner_references().iter();
        let owner = owners.filter(|it| it.controller == Some(true)).find_map(|owner| {
            let found = ObjectRef::from_owner_ref(job.namespace().as_deref(), owner, Default::default())?;
            Some((owner.uid.clone(), found))
        });
        let (owner, found) = owner?;
        let job_uid = job.uid()?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs::is_over(job) || job.metadata.deletion_timestamp.is_some() {
            if let Some(known) = all.get_mut(&owner) {
                known.remove(&job_uid);
                if known.is_empty() {
                    all.remove(&owner);
                }
            }
        } else {
            all.entry(owner).or_default().insert(job_uid);
        }
        Some(found)
    }

    fn has(&self, owner: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(owner)
    }

    /// What is not among `there` is gone: a deletion is no event that tells itself from a change.
    fn keep(&self, owner: &str, there: &[ObservedJob]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get_mut(owner) {
            known.retain(|uid| there.iter().any(|job| job.uid == *uid));
            if known.is_empty() {
                all.remove(owner);
            }
        }
    }
}

/// Ends what goes on of a resource that is over. A Job whose pod has ended stays, with its logs.
///
/// # Errors
/// What the API server answers.
pub(super) async fn end<K>(context: &Context, object: &K) -> Result<(), kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    let uid = object.uid().unwrap_or_default();
    if !context.leftovers.has(&uid) {
        return Ok(());
    }
    let namespace = object.namespace().unwrap_or_default();
    let there = jobs::of_resource(&context.client, &namespace, &uid).await?;
    context.leftovers.keep(&uid, &there);
    let goes_on = there.iter().filter(|job| !matches!(job.state, JobState::Ended { .. }));
    for stop in goes_on.map(Stop::of) {
        tracing::info!(%stop, "it is over, and a Job of it went on");
        jobs::stop(&context.client, &namespace, &stop).await?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "leftovers_tests.rs"]
mod tests;
