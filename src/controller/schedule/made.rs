//! The Backups that schedules have made, as their watch tells of them: what is enough to see that nothing is to be
//! done. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::{Stream, stream};
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

use super::observe::{ObservedBackup, observed};
use crate::api::marks::{SCHEDULE, SCHEDULE_UID, schedule_label};
use crate::api::{Backup, BackupSchedule};

/// Which schedule: its UID, and the value of its label, by which the API server would find the same.
type Of = (String, String);

/// An object, by namespace and name.
type Name = (String, String);

/// The Backups of all schedules of one watch.
#[derive(Debug)]
pub(super) struct Made {
    known: Mutex<Known>,
    /// How often everything was listed.
    listed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    backups: Backups,
    /// Those of a listing that has not ended.
    listing: Backups,
}

#[derive(Debug, Default)]
struct Backups {
    of: HashMap<Of, BTreeMap<Name, ObservedBackup>>,
    /// Where each is: its label may be changed.
    at: HashMap<Name, Of>,
}

impl Backups {
    fn insert(&mut self, guarded: &DeserializeGuard<Backup>) {
        let name = name(guarded);
        self.remove(&name);
        let (Some(uid), Some(label)) =
            (guarded.annotations().get(SCHEDULE_UID), guarded.labels().get(SCHEDULE))
        else {
            return;
        };
        let of = (uid.clone(), label.clone());
        self.at.insert(name.clone(), of.clone());
        self.of.entry(of).or_default().insert(name, observed(guarded));
    }

    fn remove(&mut self, name: &Name) {
        let Some(of) = self.at.remove(name) else { return };
        if let Some(backups) = self.of.get_mut(&of) {
            backups.remove(name);
            if backups.is_empty() {
                self.of.remove(&of);
            }
        }
    }
}

fn name(object: &impl ResourceExt) -> Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// The Backup that was made, changed or deleted. Those of a listing wake nobody one by one: [`Made::listings`] does.
pub(super) fn changed(event: Event<DeserializeGuard<Backup>>) -> Option<DeserializeGuard<Backup>> {
    match event {
        Event::Apply(backup) | Event::Delete(backup) => Some(backup),
        Event::Init | Event::InitApply(_) | Event::InitDone => None,
    }
}

impl Made {
    pub(super) fn new() -> Self {
        Self { known: Mutex::default(), listed: watch::Sender::new(0) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the watch tells, before anybody is woken by it.
    pub(super) fn take(&self, event: &Event<DeserializeGuard<Backup>>) {
        let mut known = self.known();
        match event {
            Event::Apply(backup) => known.backups.insert(backup),
            Event::Delete(backup) => known.backups.remove(&name(backup)),
            Event::Init => known.listing = Backups::default(),
            Event::InitApply(backup) => known.listing.insert(backup),
            Event::InitDone => {
                known.backups = std::mem::take(&mut known.listing);
                drop(known);
                self.listed.send_modify(|times| *times += 1);
            }
        }
    }

    /// The Backups of a schedule, by name; `None` before everything was listed.
    pub(super) fn by(&self, schedule: &BackupSchedule) -> Option<Vec<ObservedBackup>> {
        if *self.listed.borrow() == 0 {
            return None;
        }
        let namespace = schedule.namespace();
        let of = (schedule.uid()?, schedule_label(&schedule.name_any()));
        let known = self.known();
        let backups = known.backups.of.get(&of).into_iter().flatten();
        let own = backups.filter(|((of, _), _)| Some(of) == namespace.as_ref());
        Some(own.map(|(_, backup)| backup.clone()).collect())
    }

    /// Waits until everything was listed for the first time.
    pub(super) async fn is_listed(&self) {
        // The sender is as old as this.
        let _ = self.listed.subscribe().wait_for(|times| *times > 0).await;
    }

    /// Each time that everything was listed: what was missed before is known again, and any schedule may have to do
    /// with it.
    pub(super) fn listings(&self) -> impl Stream<Item = ()> + Send + 'static {
        stream::unfold(self.listed.subscribe(), |mut listed| async move {
            listed.changed().await.ok()?;
            Some(((), listed))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn backup(name: &str, uid: &str, label: &str, spec: &Value) -> DeserializeGuard<Backup> {
        let object = json!({
            "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup",
            "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {SCHEDULE: label},
                         "annotations": {SCHEDULE_UID: uid}},
            "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn good(name: &str, uid: &str) -> DeserializeGuard<Backup> {
        let source = json!({"postgres": {"database": "shop", "endpoints": []}});
        backup(name, uid, "orders", &json!({"storeRef": {"name": "s"}, "source": source}))
    }

    fn schedule(uid: &str) -> BackupSchedule {
        let template = json!({"spec": good("x", "x").0.unwrap().spec});
        let object = json!({
            "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupSchedule",
            "metadata": {"name": "orders", "namespace": "shop", "uid": uid},
            "spec": {"schedule": "@daily", "template": template}});
        serde_json::from_value(object).unwrap()
    }

    fn names(made: &Made, uid: &str) -> Option<Vec<String>> {
        Some(made.by(&schedule(uid))?.into_iter().map(|backup| backup.name).collect())
    }

    #[test]
    fn each_schedule_has_its_own_and_a_listing_replaces_all() {
        let made = Made::new();
        made.take(&Event::Init);
        made.take(&Event::InitApply(good("b", "u-1")));
        assert_eq!(names(&made, "u-1"), None, "not all is listed");
        made.take(&Event::InitApply(good("a", "u-1")));
        made.take(&Event::InitApply(good("c", "u-2")));
        made.take(&Event::InitApply(backup("d", "u-1", "another", &json!({}))));
        made.take(&Event::InitDone);
        assert_eq!(names(&made, "u-1").unwrap(), ["a", "b"]);
        assert_eq!(names(&made, "u-2").unwrap(), ["c"]);

        made.take(&Event::Apply(good("b", "u-2")));
        made.take(&Event::Delete(good("c", "u-2")));
        assert_eq!(names(&made, "u-1").unwrap(), ["a"]);
        assert_eq!(names(&made, "u-2").unwrap(), ["b"]);

        made.take(&Event::Init);
        made.take(&Event::InitApply(good("b", "u-1")));
        assert_eq!(names(&made, "u-1").unwrap(), ["a"], "what is known counts until all is listed");
        made.take(&Event::InitDone);
        assert_eq!(names(&made, "u-1").unwrap(), ["b"]);
        assert_eq!(names(&made, "u-2").unwrap(), <[String; 0]>::default());
    }

    #[test]
    fn one_that_cannot_be_read_counts_as_in_a_listing() {
        let made = Made::new();
        let unreadable = backup("a", "u-1", "orders", &json!({"storeRef": 7}));
        assert!(unreadable.0.is_err());
        for event in [Event::Init, Event::InitApply(unreadable.clone()), Event::InitDone] {
            made.take(&event);
        }
        assert_eq!(made.by(&schedule("u-1")).unwrap(), [observed(&unreadable)]);
    }
}
