//! Following a run until it has ended. Needs the client.

use std::fmt::Debug;
use std::pin::pin;

use futures::{Stream, StreamExt};
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::object::Run;
use super::{Asked, Cluster, ClusterReason};
use crate::cli::{Failure, output};
use crate::engine::interrupt::Interrupt;

/// The states of one object as they come. Errors that pass are told on standard error, and tried again with growing
/// waits; those that don't pass, and the object's end, are failures.
pub(super) fn states<K>(
    cluster: &Cluster,
    name: &str,
    uid: &str,
) -> impl Stream<Item = Result<K, Failure>> + use<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    let asked = Asked::of::<K>("watch", Some(&cluster.namespace));
    let (uid, name) = (uid.to_owned(), name.to_owned());
    let mut told = false;
    watch_object(cluster.api::<K>(), &name).default_backoff().filter_map(move |state| {
        let state = match state {
            Ok(Some(object)) if object.meta().uid.as_deref() == Some(&*uid) => {
                told = false;
                Some(Ok(object))
            }
            Ok(_) => {
                let message = format!("{} {name} was deleted meanwhile", K::kind(&()));
                let hint = "its data stays in the bucket, unless its deletionPolicy said Delete";
                Some(Err(Failure::of_cluster(ClusterReason::ObjectGone, message, hint)))
            }
            Err(error) => match lasting(error) {
                Ok(error) => Some(Err(asked.failed(error))),
                Err(passing) => {
                    if !std::mem::replace(&mut told, true) {
                        eprintln!("warning: {passing}; it is tried again");
                    }
                    None
                }
            },
        };
        std::future::ready(state)
    })
}

/// The error of a watch, if trying again would not help; else its text.
fn lasting(error: watcher::Error) -> Result<kube::Error, String> {
    let text = output::chain(&error);
    let cause = match error {
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => cause,
        watcher::Error::WatchError(status) => kube::Error::Api(status),
        watcher::Error::NoResourceVersion => return Err(text),
    };
    match &cause {
        kube::Error::Api(status) if matches!(status.code, 401 | 403 | 404) => Ok(cause),
        kube::Error::SerdeError(_) | kube::Error::Auth(_) => Ok(cause),
        _ => Err(text),
    }
}

/// Waits until the object has ended; each new phase or tenth of progress goes to `say`.
pub(super) async fn until_over<K>(
    cluster: &Cluster,
    object: &K,
    interrupt: &Interrupt,
    mut say: impl FnMut(&str),
) -> Result<K, Failure>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Run
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    let (name, uid) = (object.name_any(), Run::uid(object).to_owned());
    let mut states = pin!(states::<K>(cluster, &name, &uid));
    let mut said = None;
    loop {
        let state = tokio::select! {
            state = states.next() => state,
            () = interrupt.wait() => {
                let title = object.title();
                let message = format!("{title} was not waited for to its end; it goes on");
                let hint = format!("kubectl vouchsafe status {title} shows it; cancel {title} ends it");
                return Err(Failure::stopped_waiting(message, hint));
            }
        };
        let Some(state) = state else { return Err(Failure::internal("a watch without an end has ended")) };
        let state = state?;
        let tenth = state.progress().and_then(|progress| progress.percent).map(|percent| percent / 10);
        let step = (state.phase(), tenth);
        if said.as_ref() != Some(&step) {
            say(&format!("{}: {}", state.title(), state.brief()));
            said = Some(step);
        }
        if state.is_over() {
            return Ok(state);
        }
    }
}
