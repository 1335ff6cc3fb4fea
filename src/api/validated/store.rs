//! A BackupStore, checked.

use std::collections::BTreeMap;
use std::fmt;

use super::super::bounds::is_label_key;
use super::super::refusal::{Refusals, Refused};
use super::super::{
    AccessMode, AddressingStyle, Azure, BackupStore, BackupStoreSpec, Checksums, Destination, Folder, Gcs,
    KeyRef, Kind, LocalityPolicy, ObjectRef, S3,
};
use super::pod_template::ValidatedPodTemplate;
use super::{Identity, LOCALITY_HINT, bounds, optional};
use crate::plan::locality::{Because, Locality, NoDestination, choose_destination, is_label_part};

/// Runs at once in a store, unless the spec says otherwise.
const DEFAULT_MAX_CONCURRENT_RUNS: u32 = 4;

/// A BackupStore that makes sense and that this version can write to.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedBackupStore {
    /// Which object.
    pub identity: Identity,
    /// The destinations: exactly one default, no locality twice, none inside another.
    pub destinations: Vec<ValidatedDestination>,
    /// What may be done.
    pub access_mode: AccessMode,
    /// How many runs may go at once, 1 to 1000; no effect without Kubernetes.
    pub max_concurrent_runs: u32,
    /// What happens to a locality that no destination takes.
    pub locality_policy: LocalityPolicy,
    /// The node label of each tier; no effect without Kubernetes.
    pub locality_labels: BTreeMap<String, String>,
    /// The pods of probes and prunes; no effect without Kubernetes.
    pub pod_template: Option<ValidatedPodTemplate>,
    without_effect_here: Vec<&'static str>,
}

/// One bucket and prefix, or folder, for one locality.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedDestination {
    /// Its name, unique in the store.
    pub name: String,
    /// Whether it takes what has no locality.
    pub default: bool,
    /// The locality whose data it takes.
    pub locality: Option<Locality>,
    /// Where it is.
    pub place: Place,
    /// The Secret that opens it. For S3 its keys are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if
    /// temporary, AWS_SESSION_TOKEN; for Azure, those that `AzureCredentials` takes; for Google Cloud Storage it is
    /// credentials.json. `None`: the environment's identity.
    pub credentials_secret: Option<String>,
    /// The Secret that only prunes get.
    pub delete_credentials_secret: Option<String>,
}

/// Where a destination is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A bucket that speaks S3.
    S3(S3Place),
    /// A container of Azure Blob Storage.
    Azure(AzurePlace),
    /// A bucket of Google Cloud Storage.
    Gcs(GcsPlace),
    /// A folder.
    Folder(FolderPlace),
}

impl Place {
    /// Whether they are one place, or one lies inside the other. Claims are taken for those of one namespace.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let within = |a: &str, b: &str| {
            let (a, b) = (a.split('/'), b.split('/'));
            a.zip(b).all(|(x, y)| x == y)
        };
        let prefixes = |a: Option<&str>, b: Option<&str>| {
            a.is_none() || b.is_none() || a.zip(b).is_some_and(|(a, b)| within(a, b))
        };
        // A URL means the same with a slash at its end.
        let server = |endpoint: &Option<String>| {
            endpoint.as_deref().unwrap_or_default().trim_end_matches('/').to_lowercase()
        };
        match (self, other) {
            (Place::S3(a), Place::S3(b)) => {
                (&a.bucket, server(&a.endpoint)) == (&b.bucket, server(&b.endpoint))
                    && prefixes(a.prefix.as_deref(), b.prefix.as_deref())
            }
            (Place::Azure(a), Place::Azure(b)) => {
                (&a.account, &a.container, server(&a.endpoint))
                    == (&b.account, &b.container, server(&b.endpoint))
                    && prefixes(a.prefix.as_deref(), b.prefix.as_deref())
            }
            // One bucket whatever it is asked by: names are the service's, and an endpoint is another way to it.
            (Place::Gcs(a), Place::Gcs(b)) => {
                a.bucket == b.bucket && prefixes(a.prefix.as_deref(), b.prefix.as_deref())
            }
            (Place::Folder(FolderPlace::Here(a)), Place::Folder(FolderPlace::Here(b))) => within(a, b),
            (
                Place::Folder(FolderPlace::Claim { claim: a, path: p }),
                Place::Folder(FolderPlace::Claim { claim: b, path: q }),
            ) => a == b && within(p, q),
            _ => false,
        }
    }

    /// Where it is, as people read it: without credentials, and without how it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::S3(S3Place { bucket, prefix, .. }) => {
                let prefix = prefix.iter().filter(|it| !it.is_empty()).map(|it| format!("/{it}"));
                format!("s3://{bucket}{}", prefix.collect::<String>())
            }
            Self::Azure(AzurePlace { account, container, prefix, .. }) => {
                let prefix = prefix.iter().filter(|it| !it.is_empty()).map(|it| format!("/{it}"));
                format!("azblob://{account}/{container}{}", prefix.collect::<String>())
            }
            Self::Gcs(GcsPlace { bucket, prefix, .. }) => {
                let prefix = prefix.iter().filter(|it| !it.is_empty()).map(|it| format!("/{it}"));
                format!("gs://{bucket}{}", prefix.collect::<String>())
            }
            Self::Folder(FolderPlace::Here(folder)) => format!("file://{folder}"),
            Self::Folder(FolderPlace::Claim { claim, path }) => {
                format!("file://{claim}/{path}")
            }
        }
    }
}

/// A bucket that speaks S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Place {
    /// The bucket.
    pub bucket: String,
    /// What every key begins with; no slash at either end.
    pub prefix: Option<String>,
    /// The region; `None`: the environment's.
    pub region: Option<String>,
    /// The server's URL, for anything but AWS.
    pub endpoint: Option<String>,
    /// Where the bucket stands in a request.
    pub addressing_style: AddressingStyle,
    /// When the SDK adds and checks checksums.
    pub checksums: Checksums,
    /// The CA that signed the server's certificate; `None`: the system's.
    pub ca: Option<KeyRef>,
}

/// A container of Azure Blob Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzurePlace {
    /// The storage account.
    pub account: String,
    /// The container.
    pub container: String,
    /// What every name begins with; no slash at either end.
    pub prefix: Option<String>,
    /// The account's Blob endpoint; `None`: that of the public cloud.
    pub endpoint: Option<String>,
    /// The CA that signed the server's certificate; `None`: the system's.
    pub ca: Option<KeyRef>,
}

/// A bucket of Google Cloud Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcsPlace {
    /// The bucket.
    pub bucket: String,
    /// What every name begins with; no slash at either end.
    pub prefix: Option<String>,
    /// Where the service is asked; `None`: at its own address.
    pub endpoint: Option<String>,
}

/// A folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderPlace {
    /// In a PersistentVolumeClaim: only with Kubernetes.
    Claim {
        /// The claim's name.
        claim: String,
        /// Relative to the claim, without `..`.
        path: String,
    },
    /// Of this machine, absolute, without `..`: only without Kubernetes.
    Here(String),
}

impl fmt::Display for Place {
    /// The place as a URL, without credentials and options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::S3(S3Place { bucket, prefix: Some(prefix), .. }) => write!(f, "s3://{bucket}/{prefix}"),
            Place::S3(S3Place { bucket, prefix: None, .. }) => write!(f, "s3://{bucket}"),
            Place::Azure(_) => f.write_str(&self.url()),
            Place::Gcs(GcsPlace { bucket, prefix: Some(prefix), .. }) => write!(f, "gs://{bucket}/{prefix}"),
            Place::Gcs(GcsPlace { bucket, prefix: None, .. }) => write!(f, "gs://{bucket}"),
            Place::Folder(FolderPlace::Claim { claim, path }) => write!(f, "claim {claim}, folder {path}"),
            Place::Folder(FolderPlace::Here(path)) => write!(f, "file://{path}"),
        }
    }
}

impl TryFrom<BackupStore> for ValidatedBackupStore {
    type Error = Refusals;

    fn try_from(store: BackupStore) -> Result<Self, Refusals> {
        let BackupStore { metadata, spec, status: _ } = store;
        let bounds = bounds(Kind::BackupStore, &spec);
        let mut refusals = Refusals::default();
        let store = parse(&mut refusals, Identity::of(metadata), spec);
        refusals.absorb(bounds);
        refusals.into_result(store)
    }
}

impl ValidatedBackupStore {
    /// The destination that takes `locality`, and why.
    ///
    /// # Errors
    /// Under [`LocalityPolicy::Strict`], a locality that no destination takes.
    pub fn destination_for(
        &self,
        locality: Option<&Locality>,
    ) -> Result<(&ValidatedDestination, Because), NoDestination> {
        let candidates: Vec<_> =
            self.destinations.iter().map(|d| (d.name.as_str(), d.locality.as_ref(), d.default)).collect();
        let choice = choose_destination(&candidates, locality, self.locality_policy)?;
        let chosen = self.destinations.iter().find(|d| d.name == choice.name);
        chosen.map(|d| (d, choice.because)).ok_or(NoDestination::NoDefault)
    }

    /// The destination that takes what has no locality, and the collection's own documents.
    ///
    /// # Errors
    /// None of a store made by validation.
    pub fn default_destination(&self) -> Result<&ValidatedDestination, NoDestination> {
        self.destination_for(None).map(|(destination, _)| destination)
    }

    /// The fields that are set and have no effect without Kubernetes, for a notice to the user.
    #[must_use]
    pub fn without_effect_here(&self) -> &[&'static str] {
        &self.without_effect_here
    }
}

fn parse(refusals: &mut Refusals, identity: Identity, spec: BackupStoreSpec) -> Option<ValidatedBackupStore> {
    let BackupStoreSpec {
        destinations,
        access_mode,
        max_concurrent_runs,
        locality_policy,
        locality_labels,
        encryption,
        object_lock,
        pod_template,
    } = spec;
    refusals.not_built_yet(
        encryption.is_some(),
        "spec.encryption",
        "let the bucket encrypt, and leave it out",
    );
    refusals.not_built_yet(
        object_lock.is_some(),
        "spec.objectLock",
        "set the bucket's own default retention",
    );
    let without_effect_here = [
        ("spec.maxConcurrentRuns", max_concurrent_runs.is_some()),
        ("spec.localityLabels", locality_labels.is_some()),
        ("spec.podTemplate", pod_template.is_some()),
        (
            "spec.destinations[*].deleteCredentialsSecret",
            destinations.iter().any(|d| d.delete_credentials_secret.is_some()),
        ),
    ];
    let without_effect_here = without_effect_here.into_iter().filter(|(_, set)| *set).map(|(field, _)| field);
    let without_effect_here = without_effect_here.collect();
    let locality_labels = labels(refusals, locality_labels);
    let pod_template = match pod_template {
        None => Some(None),
        Some(template) => ValidatedPodTemplate::parse(refusals, "spec.podTemplate", template).map(Some),
    };
    match destinations.iter().filter(|d| d.default == Some(true)).count() {
        1 => {}
        0 => refusals.conflict("spec.destinations", "none is the default one", "set `default: true` on one"),
        _ => refusals.conflict(
            "spec.destinations",
            "several are the default one",
            "keep `default: true` on one",
        ),
    }
    let parsed: Vec<_> = destinations.into_iter().map(|d| destination(refusals, d)).collect();
    let destinations: Vec<ValidatedDestination> = parsed.into_iter().collect::<Option<_>>()?;
    apart(refusals, &destinations);
    Some(ValidatedBackupStore {
        identity,
        destinations,
        access_mode: access_mode.unwrap_or_default(),
        max_concurrent_runs: max_concurrent_runs.unwrap_or(DEFAULT_MAX_CONCURRENT_RUNS),
        locality_policy: locality_policy.unwrap_or_default(),
        locality_labels: locality_labels?,
        pod_template: pod_template?,
        without_effect_here,
    })
}

fn labels(
    refusals: &mut Refusals,
    labels: Option<BTreeMap<String, String>>,
) -> Option<BTreeMap<String, String>> {
    let Some(labels) = labels else {
        let well_known =
            [("region", "topology.kubernetes.io/region"), ("zone", "topology.kubernetes.io/zone")];
        return Some(well_known.map(|(tier, label)| (tier.to_owned(), label.to_owned())).into());
    };
    let before = refusals.len();
    for (tier, label) in &labels {
        if !is_label_part(tier) || !is_label_key(label) {
            let hint = "write `tier: label.example/key`, as nodes carry it";
            refusals.invalid(
                format!("spec.localityLabels[{tier}]"),
                "is no tier with the key of a node label",
                hint,
            );
        }
    }
    (refusals.len() == before).then_some(labels)
}

fn destination(refusals: &mut Refusals, destination: Destination) -> Option<ValidatedDestination> {
    let Destination {
        name,
        default,
        locality,
        s3,
        gcs,
        azure,
        file,
        credentials_secret,
        delete_credentials_secret,
    } = destination;
    let path = format!("spec.destinations[{name}]");
    let default = default.unwrap_or(false);
    if locality.is_none() && !default {
        let hint = "say whose data it takes, or make it the default one";
        refusals.add(Refused::Missing, format!("{path}.locality"), "without it nothing goes there", hint);
    }
    let locality = optional(refusals, &format!("{path}.locality"), locality, str::parse, LOCALITY_HINT);
    let members = [s3.is_some(), gcs.is_some(), azure.is_some(), file.is_some()];
    let place = match members.iter().filter(|present| **present).count() {
        1 => match (s3, gcs, azure, file) {
            (Some(s3), ..) => Some(Place::S3(bucket(s3))),
            (_, Some(Gcs { bucket, prefix, endpoint }), ..) => {
                Some(Place::Gcs(GcsPlace { bucket, prefix, endpoint }))
            }
            (_, _, Some(azure), _) => Some(Place::Azure(container(azure))),
            (.., Some(file)) => folder(refusals, &path, file).map(Place::Folder),
            (None, None, None, None) => None,
        },
        found => {
            let message = format!("has {found} of s3, gcs, azure and file, and must have exactly one");
            refusals.conflict(&path, message, "a second place is a second destination");
            None
        }
    };
    let secret = |reference: Option<ObjectRef>| reference.map(|ObjectRef { name }| name);
    Some(ValidatedDestination {
        name,
        default,
        locality: locality?,
        place: place?,
        credentials_secret: secret(credentials_secret),
        delete_credentials_secret: secret(delete_credentials_secret),
    })
}

fn bucket(s3: S3) -> S3Place {
    let S3 { bucket, prefix, region, endpoint, addressing_style, checksums, ca_secret } = s3;
    // Servers other than AWS rarely have a host name for each bucket.
    let style = if endpoint.is_some() { AddressingStyle::Path } else { AddressingStyle::Virtual };
    S3Place {
        bucket,
        prefix,
        region,
        endpoint,
        addressing_style: addressing_style.unwrap_or(style),
        checksums: checksums.unwrap_or_default(),
        ca: ca_secret,
    }
}

fn container(azure: Azure) -> AzurePlace {
    let Azure { account, container, prefix, endpoint, ca_secret } = azure;
    AzurePlace { account, container, prefix, endpoint, ca: ca_secret }
}

fn folder(refusals: &mut Refusals, path: &str, folder: Folder) -> Option<FolderPlace> {
    let Folder { claim, path: inside } = folder;
    let at = format!("{path}.file.path");
    match (claim, inside.starts_with('/')) {
        (Some(claim), false) => Some(FolderPlace::Claim { claim, path: inside }),
        (None, true) => Some(FolderPlace::Here(inside)),
        (Some(_), true) => {
            refusals.conflict(
                at,
                "begins with a slash, and a claim is given",
                "write it relative to the claim",
            );
            None
        }
        (None, false) => {
            let hint = "name the claim that it is in, or give a whole path of this machine";
            refusals.conflict(at, "is relative, and no claim is given", hint);
            None
        }
    }
}

/// No two destinations declare one locality, and none lies within another: their documents would mix.
fn apart(refusals: &mut Refusals, destinations: &[ValidatedDestination]) {
    for (i, later) in destinations.iter().enumerate() {
        for earlier in &destinations[..i] {
            let path = format!("spec.destinations[{}]", later.name);
            if later.locality.is_some() && later.locality == earlier.locality {
                let message = format!("destination `{}` declares this locality already", earlier.name);
                refusals.conflict(format!("{path}.locality"), message, "one locality has one destination");
            }
            if earlier.place.overlaps(&later.place) {
                let message = format!("{} and `{}`'s {} overlap", later.place, earlier.name, earlier.place);
                refusals.conflict(path, message, "give each a prefix that isn't within the other's");
            }
        }
    }
}
