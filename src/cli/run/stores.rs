//! A BackupStore's destinations, opened.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::super::options::Opened;
use super::super::{Failure, output};
use super::azure;
use super::file::{self, Scope};
use crate::api::{
    self, AddressingStyle, FolderPlace, GcsPlace, Place, S3Place, ValidatedBackupStore, ValidatedDestination,
};
use crate::engine::errors::ErrorBook;
use crate::engine::{Destination, Destinations, EngineError, Register};
use crate::plan::locality::Locality;
use crate::store::gcs::GcsCredentials;
use crate::store::location::{Addressing, Checksums, FileLocation, GcsLocation, S3Location};
use crate::store::retry::ErrorCounts;
use crate::store::s3::Credentials;
use crate::store::throttle::Throttle;
use crate::store::{StoreOptions, StoreUrl, open as open_store};

/// As the command line's own default.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Name of a destination without a locality.
const DEFAULT_DESTINATION: &str = "default";

/// Opens every destination, at `collection` below its own prefix.
pub(in crate::cli) async fn open(
    store: &ValidatedBackupStore,
    collection: Option<&str>,
    rate_limit: Option<NonZeroU64>,
    scope: &Scope<'_>,
) -> Result<Opened, Failure> {
    let errors = Arc::new(ErrorCounts::default());
    let mut all = Vec::new();
    for destination in &store.destinations {
        all.push(open_one(destination, collection, rate_limit, scope, &errors).await?);
    }
    let default = store.destinations.iter().position(|destination| destination.default).unwrap_or(0);
    let destinations = Destinations::new(all, default)?;
    let register = Register::new(destinations.default().store.clone(), HEARTBEAT);
    Ok(Opened { destinations, register, errors: Arc::new(ErrorBook::new(errors)) })
}

/// The name that the engine knows a destination by: as the command line names it, so that list, verify and restore
/// with --store find what this has written. A manifest names its destinations.
pub(in crate::cli) fn name_of(destination: &ValidatedDestination) -> String {
    destination.locality.as_ref().map_or_else(|| DEFAULT_DESTINATION.to_owned(), Locality::to_string)
}

/// Attempts of each request of a probe: 3 seconds or so where nothing answers at once.
const PROBE_ATTEMPTS: usize = 6;

/// Opens one destination, at `collection` below its own prefix.
pub(in crate::cli) async fn open_one(
    destination: &ValidatedDestination,
    collection: Option<&str>,
    rate_limit: Option<NonZeroU64>,
    scope: &Scope<'_>,
    errors: &Arc<ErrorCounts>,
) -> Result<Destination, Failure> {
    let options = StoreOptions { observer: errors.clone(), ..StoreOptions::default() };
    open_with(destination, collection, rate_limit, scope, options).await
}

/// Opens one destination to try it: somebody waits for the answer, and it is tried again anyway.
pub(in crate::cli) async fn open_to_probe(
    destination: &ValidatedDestination,
    scope: &Scope<'_>,
    errors: &Arc<ErrorCounts>,
) -> Result<Destination, Failure> {
    let mut options = StoreOptions { observer: errors.clone(), ..StoreOptions::default() };
    options.retry.attempts = PROBE_ATTEMPTS;
    open_with(destination, None, None, scope, options).await
}

async fn open_with(
    destination: &ValidatedDestination,
    collection: Option<&str>,
    rate_limit: Option<NonZeroU64>,
    scope: &Scope<'_>,
    mut options: StoreOptions,
) -> Result<Destination, Failure> {
    let path = format!("spec.destinations[{}]", destination.name);
    options.throttle = rate_limit.map(|limit| Arc::new(Throttle::new(limit)));
    let url = place(destination, &path, scope, &mut options)?;
    let url = match collection {
        None => url,
        Some(collection) => url.join(collection).map_err(|error| {
            let hint = "segments of letters, digits, '.', '_' and '-'";
            Failure::usage(format!("collection: {}", output::chain(&error)), hint)
        })?,
    };
    let store = open_store(&url, &options).await.map_err(EngineError::from)?;
    let locality = destination.locality.as_ref().map(Locality::to_string);
    Ok(Destination { name: name_of(destination), locality, store })
}

/// Where a destination is; what opens it is put into `options`.
fn place(
    destination: &ValidatedDestination,
    path: &str,
    scope: &Scope<'_>,
    options: &mut StoreOptions,
) -> Result<StoreUrl, Failure> {
    match &destination.place {
        Place::Folder(FolderPlace::Claim { claim, path: inside }) => {
            let mounted = scope.claim(claim).ok_or_else(|| {
                Failure::usage(
                    format!(
                        "{path}.file.claim: {claim} is a claim, and there is no Kubernetes here to mount it"
                    ),
                    "name a folder of this machine: file.path, absolute, without a claim",
                )
            })?;
            let root = StoreUrl::File(FileLocation { root: mounted, prefix: String::new() });
            root.join(inside).map_err(|error| {
                let hint = "segments of letters, digits, '.', '_' and '-'";
                Failure::usage(format!("{path}.file.path: {}", output::chain(&error)), hint)
            })
        }
        Place::Folder(FolderPlace::Here(folder)) => {
            if let Some(secret) = &destination.credentials_secret {
                eprintln!("{path}.credentialsSecret: {secret} has no effect on a folder");
            }
            Ok(StoreUrl::File(FileLocation { root: PathBuf::from(folder), prefix: String::new() }))
        }
        Place::Azure(place) => {
            options.azure = azure::options(place, destination.credentials_secret.as_deref(), path, scope)?;
            azure::url(place, path)
        }
        Place::S3(place) => {
            options.s3.credentials = credentials(destination.credentials_secret.as_deref(), path, scope)?;
            if let Some(reference) = &place.ca {
                let field = format!("{path}.s3.caSecret");
                options.s3.authorities = Some(scope.key(&field, "Secret", reference)?.to_vec());
            }
            bucket(place, path)
        }
        Place::Gcs(place) => {
            options.gcs.credentials =
                gcs_credentials(destination.credentials_secret.as_deref(), path, scope)?;
            gcs_bucket(place, path)
        }
    }
}

/// Where a destination is, as `--store` takes it; absent for a folder in a claim.
pub(in crate::cli) fn url_of(place: &Place, collection: Option<&str>) -> Option<StoreUrl> {
    let url = match place {
        Place::Folder(FolderPlace::Claim { .. }) => return None,
        Place::Folder(FolderPlace::Here(folder)) => {
            StoreUrl::File(FileLocation { root: PathBuf::from(folder), prefix: String::new() })
        }
        Place::S3(place) => bucket(place, "s3").ok()?,
        Place::Azure(place) => azure::url(place, "azure").ok()?,
        Place::Gcs(place) => gcs_bucket(place, "gcs").ok()?,
    };
    match collection {
        Some(collection) => url.join(collection).ok(),
        None => Some(url),
    }
}

fn bucket(place: &S3Place, path: &str) -> Result<StoreUrl, Failure> {
    let S3Place { bucket, prefix, region, endpoint, addressing_style, checksums, ca: _ } = place;
    let url = StoreUrl::S3(S3Location {
        bucket: bucket.clone(),
        prefix: prefix.clone().unwrap_or_default(),
        region: region.clone(),
        endpoint: endpoint.clone(),
        addressing: match addressing_style {
            AddressingStyle::Path => Addressing::Path,
            AddressingStyle::Virtual => Addressing::Virtual,
        },
        checksums: match checksums {
            api::Checksums::WhenSupported => Checksums::WhenSupported,
            api::Checksums::WhenRequired => Checksums::WhenRequired,
        },
    });
    as_store_would(&url, path, "s3")
}

fn gcs_bucket(place: &GcsPlace, path: &str) -> Result<StoreUrl, Failure> {
    let GcsPlace { bucket, prefix, endpoint } = place;
    let (bucket, prefix) = (bucket.clone(), prefix.clone().unwrap_or_default());
    let url = StoreUrl::Gcs(GcsLocation { bucket, prefix, endpoint: endpoint.clone() });
    as_store_would(&url, path, "gcs")
}

/// What a URL may not name (a cloud's metadata service as endpoint), a resource may not either.
fn as_store_would(url: &StoreUrl, path: &str, member: &str) -> Result<StoreUrl, Failure> {
    StoreUrl::parse(&url.to_string()).map_err(|error| {
        let hint = "it is refused as --store would refuse it";
        Failure::usage(format!("{path}.{member}: {}", output::chain(&error)), hint)
    })
}

/// The service account's key in the Secret; without a Secret, or with one that the file does not have, what Google's own
/// libraries find.
fn gcs_credentials(
    secret: Option<&str>,
    path: &str,
    scope: &Scope<'_>,
) -> Result<Option<GcsCredentials>, Failure> {
    const KEY: &str = "credentials.json";
    let Some(name) = secret else { return Ok(None) };
    let field = format!("{path}.credentialsSecret");
    let Some(keys) = scope.secret(&field, name)? else {
        eprintln!("{field}: Secret {name} is not in the file; this environment's credentials are used");
        return Ok(None);
    };
    let text = file::text(&field, keys, KEY)?;
    GcsCredentials::from_key_file(&text).map(Some).map_err(|wrong| {
        let hint = "put the file there that `gcloud iam service-accounts keys create` writes, or name no Secret and give \
                    the pods an identity by Workload Identity Federation for GKE";
        Failure::usage(format!("{field}: key {KEY} of Secret {name} {wrong}"), hint)
    })
}

/// Credentials by the Secret's keys; without a Secret, or with one that the file does not have, the SDK's
/// chain.
fn credentials(secret: Option<&str>, path: &str, scope: &Scope<'_>) -> Result<Option<Credentials>, Failure> {
    let Some(name) = secret else { return Ok(None) };
    let field = format!("{path}.credentialsSecret");
    let Some(keys) = scope.secret(&field, name)? else {
        eprintln!("{field}: Secret {name} is not in the file; this environment's credentials are used");
        return Ok(None);
    };
    const TOKEN: &str = "AWS_SESSION_TOKEN";
    Ok(Some(Credentials {
        access_key_id: file::text(&field, keys, "AWS_ACCESS_KEY_ID")?,
        secret_access_key: file::text(&field, keys, "AWS_SECRET_ACCESS_KEY")?,
        session_token: keys.get(TOKEN).map(|_| file::text(&field, keys, TOKEN)).transpose()?,
    }))
}
