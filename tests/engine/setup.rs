//! Jobs on servers of the testbed and folders of their own.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use testbed::{PASSWORD, Postgres, S3Server};
use vouchsafe::engine::errors::ErrorBook;
use vouchsafe::engine::interrupt::Interrupt;
use vouchsafe::engine::job::{BackupJob, Endpoint, Placement, owner_of};
use vouchsafe::engine::progress::Progress;
use vouchsafe::engine::{Destination, Destinations, Register};
use vouchsafe::plan::locality::LocalityPolicy;
use vouchsafe::source::{EndpointConfig, PasswordSources, Secret, Selection, Tools};
use vouchsafe::store::retry::ErrorCounts;
use vouchsafe::store::s3::{Credentials, S3Options};
use vouchsafe::store::{ObjectStore, StoreOptions, open};

/// Short, so that takeovers take no time.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(200);

pub(super) async fn folder(folder: &TempDir) -> Arc<dyn ObjectStore> {
    let url = format!("file://{}", folder.path().display()).parse().unwrap();
    open(&url, &StoreOptions::default()).await.unwrap()
}

/// A bucket of its own on a real server.
pub async fn bucket(server: &S3Server) -> Arc<dyn ObjectStore> {
    bucket_named(server, &server.fresh_bucket("engine")).await
}

/// A bucket that is there.
pub async fn bucket_named(server: &S3Server, bucket: &str) -> Arc<dyn ObjectStore> {
    let (region, endpoint) = (server.region(), server.endpoint());
    bucket_at(server, &format!("s3://{bucket}/backups?region={region}&endpoint={endpoint}")).await
}

/// What lies at a URL of that server.
pub(super) async fn bucket_at(server: &S3Server, url: &str) -> Arc<dyn ObjectStore> {
    let credentials = Credentials {
        access_key_id: server.access_key().to_owned(),
        secret_access_key: server.secret_key().to_owned(),
        session_token: None,
    };
    let s3 = S3Options { credentials: Some(credentials), ..S3Options::default() };
    open(&url.parse().unwrap(), &StoreOptions { s3, ..StoreOptions::default() }).await.unwrap()
}

pub(super) fn endpoint(server: &Postgres, database: &str) -> EndpointConfig {
    let url = format!("postgres://postgres@127.0.0.1:{}/{database}", server.port());
    let mut config = EndpointConfig::parse(&url, &PasswordSources::none()).unwrap();
    config.password = Some(Secret::new(PASSWORD));
    config
}

pub(super) fn destinations(stores: Vec<(&str, Arc<dyn ObjectStore>)>) -> Destinations {
    let all = stores.into_iter().map(|(name, store)| Destination {
        name: name.into(),
        locality: name.contains('=').then(|| name.into()),
        store,
    });
    Destinations::new(all.collect(), 0).unwrap()
}

pub(super) fn job(server: &Postgres, database: &str, destinations: Destinations) -> BackupJob {
    let register = Register::new(destinations.default().store.clone(), HEARTBEAT);
    let (interrupt, trigger) = Interrupt::new();
    drop(trigger);
    BackupJob {
        owner: owner_of(&[database.to_owned()]),
        destinations,
        register,
        locality_policy: LocalityPolicy::Strict,
        endpoints: vec![Endpoint {
            name: "default".into(),
            locality: None,
            config: endpoint(server, database),
        }],
        placement: Placement::default(),
        selection: Selection::default(),
        parallelism: 2,
        span_bytes: NonZeroU64::new(128 << 10).unwrap(),
        tools: Tools::only(&[server.client_bin_dir()]),
        crew: Arc::new(vouchsafe::engine::crew::InThisProcess),
        listing_patience: Duration::from_secs(1),
        deadline: None,
        errors: Arc::new(ErrorBook::new(Arc::new(ErrorCounts::default()))),
        interrupt,
        progress: Progress::silent(),
    }
}
