//! A Backup, checked.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use super::super::quantity::parse_size;
use super::super::refusal::Refusals;
use super::super::{Backup, BackupSpec, DeletionPolicy, Kind, LayerType, ObjectRef};
use super::pod_template::ValidatedPodTemplate;
use super::source::ValidatedPostgres;
use super::{Identity, LOCALITY_HINT, bounds, optional, positive_duration};
use crate::plan::locality::Locality;

/// Connections per locality, or to a restore's target, unless the spec says otherwise.
pub const DEFAULT_PARALLELISM: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// A Backup that makes sense and that this version can carry out.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedBackup {
    /// Which object.
    pub identity: Identity,
    /// What it asks for.
    pub spec: ValidatedBackupSpec,
}

/// What a Backup, or a schedule's template, asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedBackupSpec {
    /// The BackupStore's name, in the same namespace.
    pub store: String,
    /// What every key begins with after a destination's own prefix; no slash at either end.
    pub collection: Option<String>,
    /// Which kind of layer.
    pub layer: LayerChoice,
    /// What is backed up.
    pub source: ValidatedPostgres,
    /// Where the coordinator may run; no effect without Kubernetes.
    pub execution_locality: Option<Locality>,
    /// Connections per locality, 1 to 64.
    pub parallelism: NonZeroU32,
    /// Bytes per second per locality; `None`: no limit.
    pub rate_limit: Option<NonZeroU64>,
    /// The run's pods; no effect without Kubernetes.
    pub pod_template: Option<ValidatedPodTemplate>,
    /// How long it may take; `None`: no limit.
    pub deadline: Option<Duration>,
    /// Whether nothing is to be done for now.
    pub suspend: bool,
    /// Whether it is to end now.
    pub cancel: bool,
    /// Whether deleting the resource deletes its data; no effect without Kubernetes.
    pub deletes_data: bool,
}

/// Which kind of layer; incremental ones aren't built yet, so both make a full one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerChoice {
    /// What fits.
    Auto,
    /// A new chain.
    Full,
}

impl TryFrom<Backup> for ValidatedBackup {
    type Error = Refusals;

    fn try_from(backup: Backup) -> Result<Self, Refusals> {
        let Backup { metadata, spec, status: _ } = backup;
        let bounds = bounds(Kind::Backup, &spec);
        let mut refusals = Refusals::default();
        let spec = ValidatedBackupSpec::parse(&mut refusals, "spec", spec);
        refusals.absorb(bounds);
        refusals.into_result(spec.map(|spec| ValidatedBackup { identity: Identity::of(metadata), spec }))
    }
}

impl ValidatedBackup {
    /// The fields that are set and have no effect without Kubernetes, for a notice to the user.
    #[must_use]
    pub fn without_effect_here(&self) -> Vec<&'static str> {
        let ValidatedBackupSpec { execution_locality, pod_template, deletes_data, .. } = &self.spec;
        let fields = [
            ("spec.executionLocality", execution_locality.is_some()),
            ("spec.podTemplate", pod_template.is_some()),
            ("spec.deletionPolicy", *deletes_data),
        ];
        fields.into_iter().filter_map(|(field, is_set)| is_set.then_some(field)).collect()
    }
}

impl ValidatedBackupSpec {
    pub(super) fn parse(refusals: &mut Refusals, path: &str, spec: BackupSpec) -> Option<Self> {
        let BackupSpec {
            store_ref: ObjectRef { name: store },
            collection,
            type_,
            revision_history,
            source,
            execution_locality,
            parallelism,
            rate_limit,
            pod_template,
            deadline,
            take_over,
            suspend,
            cancel,
            deletion_policy,
        } = spec;
        let at = |field: &str| format!("{path}.{field}");
        refusals.not_built_yet(
            revision_history == Some(true),
            at("revisionHistory"),
            "leave it out; the layer's end can be restored",
        );
        refusals.not_built_yet(take_over.is_some(), at("takeOver"), "write into a new collection");
        let layer = match type_.unwrap_or_default() {
            LayerType::Auto => Some(LayerChoice::Auto),
            LayerType::Full => Some(LayerChoice::Full),
            LayerType::Incremental => {
                refusals.not_built_yet(true, at("type"), "take Full, or Auto, which makes a full layer");
                None
            }
        };
        let collection = checked_collection(refusals, &at("collection"), collection);
        let source = ValidatedPostgres::parse(refusals, &at("source"), source);
        let execution_locality =
            optional(refusals, &at("executionLocality"), execution_locality, str::parse, LOCALITY_HINT);
        let rate_limit =
            optional(refusals, &at("rateLimit"), rate_limit, nonzero_size, "write it like `200Mi`");
        let pod_template = match pod_template {
            None => Some(None),
            Some(template) => ValidatedPodTemplate::parse(refusals, &at("podTemplate"), template).map(Some),
        };
        let deadline = positive_duration(refusals, &at("deadline"), deadline);
        Some(ValidatedBackupSpec {
            store,
            collection: collection?,
            layer: layer?,
            source: source?,
            execution_locality: execution_locality?,
            parallelism: parallelism.and_then(NonZeroU32::new).unwrap_or(DEFAULT_PARALLELISM),
            rate_limit: rate_limit?,
            pod_template: pod_template?,
            deadline: deadline?,
            suspend: suspend.unwrap_or(false),
            cancel: cancel.unwrap_or(false),
            deletes_data: deletion_policy == Some(DeletionPolicy::Delete),
        })
    }
}

fn nonzero_size(text: &str) -> Result<NonZeroU64, String> {
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    NonZeroU64::new(bytes).ok_or_else(|| "is zero: nothing would ever be read".to_owned())
}

/// A collection may not lie among the documents of the one around it.
#[allow(clippy::option_option, reason = "as `optional`")]
pub(super) fn checked_collection(
    refusals: &mut Refusals,
    field: &str,
    collection: Option<String>,
) -> Option<Option<String>> {
    let reserved = |part: &str| matches!(part, "runs" | "collection.json");
    if collection.as_ref().is_some_and(|c| c.split('/').any(reserved)) {
        let hint =
            "take a name other than `runs` and `collection.json`, where a collection has its own documents";
        refusals.invalid(field, "lies among another collection's documents", hint);
        return None;
    }
    Some(collection)
}
