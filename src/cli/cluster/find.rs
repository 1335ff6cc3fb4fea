//! Finding the object that a command names. Needs the client.

use kube::ResourceExt;

use super::object::{Object, Wanted, word};
use super::{Cluster, ClusterReason};
use crate::api::{Backup, BackupSchedule, BackupStore, Kind, Restore};
use crate::cli::Failure;

/// How like a name must be to be named as a near one: Jaro and Winkler's measure, 1 for equal. Below it, names that
/// share no more than a beginning would be offered.
const NEAR: f64 = 0.8;

/// Most near names in a hint.
const NEAR_NAMES: usize = 3;

impl Cluster {
    /// The object that is wanted, of one of `kinds`. `what` is done to it: `suspended`.
    pub(super) async fn find(&self, wanted: &Wanted, kinds: &[Kind], what: &str) -> Result<Object, Failure> {
        if let Some(kind) = wanted.kind
            && !kinds.contains(&kind)
        {
            let can = kinds.iter().map(|kind| format!("{}/NAME", word(*kind))).collect::<Vec<_>>();
            let message = format!("{}/{}: a {kind} can't be {what}", word(kind), wanted.name);
            return Err(Failure::usage(message, format!("{} can", can.join(", "))));
        }
        let mut found = Vec::new();
        let looked: Vec<Kind> =
            kinds.iter().copied().filter(|kind| wanted.kind.is_none_or(|it| it == *kind)).collect();
        for kind in &looked {
            found.extend(self.get_of(*kind, &wanted.name).await?);
        }
        match (found.len(), found.pop()) {
            (1, Some(object)) => Ok(object),
            (_, None) => Err(self.not_found(wanted, &looked).await?),
            (_, Some(last)) => {
                let all = found.iter().chain([&last]).map(ToString::to_string).collect::<Vec<_>>();
                let message = format!("{} is the name of {}", wanted.name, all.join(" and of "));
                let hint = format!("write {}", all.join(" or "));
                Err(Failure::of_cluster(ClusterReason::NameAmbiguous, message, hint))
            }
        }
    }

    async fn get_of(&self, kind: Kind, name: &str) -> Result<Option<Object>, Failure> {
        Ok(match kind {
            Kind::BackupStore => self.get::<BackupStore>(name).await?.map(|it| Object::Store(it.into())),
            Kind::BackupSchedule => {
                self.get::<BackupSchedule>(name).await?.map(|it| Object::Schedule(it.into()))
            }
            Kind::Backup => self.get::<Backup>(name).await?.map(|it| Object::Backup(it.into())),
            Kind::Restore => self.get::<Restore>(name).await?.map(|it| Object::Restore(it.into())),
        })
    }

    async fn not_found(&self, wanted: &Wanted, looked: &[Kind]) -> Result<Failure, Failure> {
        let mut names = Vec::new();
        for kind in looked {
            let of_kind: Vec<String> = match kind {
                Kind::BackupStore => names_of(&self.list::<BackupStore>(false, None).await?),
                Kind::BackupSchedule => names_of(&self.list::<BackupSchedule>(false, None).await?),
                Kind::Backup => names_of(&self.list::<Backup>(false, None).await?),
                Kind::Restore => names_of(&self.list::<Restore>(false, None).await?),
            };
            names.extend(of_kind.into_iter().map(|name| (*kind, name)));
        }
        let kinds = looked.iter().map(Kind::to_string).collect::<Vec<_>>().join(" or ");
        let message = format!("there is no {kinds} {} in namespace {}", wanted.name, self.namespace);
        let hint = match near(&wanted.name, names) {
            near if near.is_empty() => {
                "see the namespace (-n); kubectl vouchsafe status -A shows what there is".to_owned()
            }
            near => format!("there is {}; or see the namespace (-n)", near.join(", ")),
        };
        Ok(Failure::of_cluster(ClusterReason::ObjectNotFound, message, hint))
    }
}

fn names_of<K: ResourceExt>(objects: &[K]) -> Vec<String> {
    objects.iter().map(ResourceExt::name_any).collect()
}

/// Names that are like `wanted`, the likest first.
fn near(wanted: &str, names: Vec<(Kind, String)>) -> Vec<String> {
    let measured = names.into_iter().map(|(kind, name)| (strsim::jaro_winkler(wanted, &name), kind, name));
    let mut like: Vec<_> = measured.filter(|(measure, ..)| *measure >= NEAR).collect();
    like.sort_by(|(one, _, a), (other, _, b)| other.total_cmp(one).then_with(|| a.cmp(b)));
    like.truncate(NEAR_NAMES);
    like.into_iter().map(|(_, kind, name)| format!("{}/{name}", word(kind))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_the_likest_ones_and_few() {
        let all = ["orders-1", "orders-11", "order-1", "orders-12", "customers"];
        let names = all.iter().map(|name| (Kind::Backup, (*name).to_owned())).collect();
        let near = near("orders1", names);
        assert_eq!(near.len(), 3);
        assert_eq!(near[0], "backup/orders-1");
        assert!(super::near("xyz", vec![(Kind::Restore, "orders".into())]).is_empty());
    }
}
