//! The servers, the databases that are backed up, and what a restored one is compared by.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use testbed::{PASSWORD, PgVersion, Postgres};
use tokio::sync::OnceCell;
use vouchsafe::engine::errors::ErrorBook;
use vouchsafe::engine::interrupt::Interrupt;
use vouchsafe::engine::job::{BackupJob, Endpoint, Placement, owner_of};
use vouchsafe::engine::progress::Progress;
use vouchsafe::engine::restore::{RestoreJob, RestorePolicy};
use vouchsafe::engine::{Destination, Destinations, Register};
use vouchsafe::plan::locality::LocalityPolicy;
use vouchsafe::plan::placement::{PlacementRule, Unplaced};
use vouchsafe::source::{EndpointConfig, PasswordSources, Secret, Selection, TablePattern, Tools};
use vouchsafe::store::ObjectStore;
use vouchsafe::store::retry::ErrorCounts;

use super::server::{OfServer, Server};

/// Rows of 141 bytes fill blocks alike: three spans of one table with equal row counts.
const SMALL: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TABLE orders(id int primary key, note char(100), m mood);
    INSERT INTO orders SELECT i, 'order ' || i, 'ok' FROM generate_series(1, 165) i;
    CREATE TABLE empty(x int);
    CREATE TABLE refers(id serial, orders int REFERENCES orders);
    INSERT INTO refers(orders) SELECT generate_series(1, 50);
    CREATE VIEW seen AS SELECT count(*) FROM orders;
    SELECT lo_from_bytea(4711, decode(repeat('00ff', 2500), 'hex'));";

/// One table whose object takes two parts: 8 MiB and a rest, of bytes that don't compress.
const LARGE: &str = "CREATE TABLE large(id int, b bytea);
    ALTER TABLE large ALTER b SET STORAGE EXTERNAL;
    INSERT INTO large SELECT i, (SELECT decode(string_agg(md5(i || ' ' || j), ''), 'hex') FROM generate_series(1, 2048) j)
      FROM generate_series(1, 270) i;";

/// Every row, value and object that the source has, hashed by SQL that shares no code with what is tested.
const SMALL_LOOK: &str = "SELECT count(*), sum(hashtextextended(t::text, 1)) FROM orders t;
    SELECT count(*) FROM empty; SELECT count(*), sum(hashtextextended(t::text, 1)) FROM refers t;
    SELECT last_value, is_called FROM refers_id_seq; SELECT * FROM seen;
    SELECT oid, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY 1;
    SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid <> 0 ORDER BY 1, 2;
    SELECT indexrelid::regclass, indisvalid FROM pg_index WHERE indexrelid >= 16384 ORDER BY 1;
    SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1";
const LARGE_LOOK: &str = "SELECT count(*), sum(hashtextextended(t::text, 1)) FROM large t;
    SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1";

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A few tables; every object is one request.
    Small,
    /// One object in parts.
    Large,
}

/// What all cases of a test share.
pub struct World {
    pub postgres: &'static Postgres,
    pub server: Server,
    small: (String, String),
    large: (String, String),
}

/// Runs `work` where it may block.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

impl World {
    /// The one of all tests of this process that use this kind of store.
    pub async fn of(kind: OfServer) -> Arc<Self> {
        static MINIO: OnceCell<Arc<World>> = OnceCell::const_new();
        static SEAWEEDFS: OnceCell<Arc<World>> = OnceCell::const_new();
        static GOOGLE: OnceCell<Arc<World>> = OnceCell::const_new();
        static AZURITE: OnceCell<Arc<World>> = OnceCell::const_new();
        let world = match kind {
            OfServer::Minio => &MINIO,
            OfServer::SeaweedFs => &SEAWEEDFS,
            OfServer::Google => &GOOGLE,
            OfServer::Azurite => &AZURITE,
        };
        world.get_or_init(|| Self::new(kind)).await.clone()
    }

    async fn new(kind: OfServer) -> Arc<Self> {
        blocking(move || {
            let postgres = testbed::shared(PgVersion::V15);
            let made = |stem: &str, sql: &str, look: &str| {
                let name = postgres.fresh_database(stem);
                postgres.psql(&name, sql).unwrap();
                let seen = postgres.psql(&name, look).unwrap();
                (name, seen)
            };
            Arc::new(Self {
                small: made("small", SMALL, SMALL_LOOK),
                large: made("large", LARGE, LARGE_LOOK),
                server: Server::of(kind),
                postgres,
            })
        })
        .await
    }

    /// A number that no other case has.
    pub fn number(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    pub fn database(&self, source: Source) -> &str {
        match source {
            Source::Small => &self.small.0,
            Source::Large => &self.large.0,
        }
    }

    pub fn endpoint(&self, port: u16, database: &str) -> EndpointConfig {
        let url = format!("postgres://postgres@127.0.0.1:{port}/{database}");
        let mut config = EndpointConfig::parse(&url, &PasswordSources::none()).unwrap();
        config.password = Some(Secret::new(PASSWORD));
        config
    }

    /// A backup of `source` into one destination, or two where there is a second store.
    pub fn backup_job(&self, source: Source, stores: &[Arc<dyn ObjectStore>]) -> BackupJob {
        let destinations = destinations(stores);
        let database = self.database(source);
        let mut placement = Placement::default();
        if stores.len() > 1 {
            placement.unplaced = Unplaced::Default;
            // The large one has no such table, and a rule without one is refused.
            if source == Source::Small {
                placement.rules = vec![PlacementRule {
                    name: "elsewhere".into(),
                    tables: vec![TablePattern::parse("public.orders").unwrap()],
                    partitions_of: Vec::new(),
                    locality: "region=there".parse().unwrap(),
                }];
            }
        }
        BackupJob {
            owner: owner_of(&[database.to_owned()]),
            // One beat, when the run is claimed.
            register: Register::new(destinations.default().store.clone(), Duration::from_secs(3600)),
            destinations,
            locality_policy: LocalityPolicy::Strict,
            endpoints: vec![Endpoint {
                name: "default".into(),
                locality: None,
                config: self.endpoint(self.postgres.port(), database),
            }],
            placement,
            selection: Selection::default(),
            parallelism: 1,
            // A block.
            span_bytes: NonZeroU64::new(if source == Source::Small { 8192 } else { 1 << 30 }).unwrap(),
            tools: self.tools(),
            deadline: None,
            crew: Arc::new(vouchsafe::engine::crew::InThisProcess),
            listing_patience: Duration::from_millis(500),
            errors: Arc::new(ErrorBook::new(Arc::new(ErrorCounts::default()))),
            interrupt: Interrupt::new().0,
            progress: Progress::silent(),
        }
    }

    /// A restore as `database` on the server at `port`.
    pub fn restore_job(&self, stores: &[Arc<dyn ObjectStore>], port: u16, database: &str) -> RestoreJob {
        let destinations = destinations(stores);
        RestoreJob {
            register: Register::new(destinations.default().store.clone(), Duration::from_secs(3600)),
            destinations,
            run: None,
            expect_manifest: None,
            target: self.endpoint(port, database),
            maintenance_database: "postgres".into(),
            selection: Selection::default(),
            schema_only: false,
            dry_run: false,
            no_owner: false,
            no_privileges: false,
            policy: RestorePolicy::default(),
            parallelism: 1,
            tools: self.tools(),
            interrupt: Interrupt::new().0,
            progress: Progress::silent(),
        }
    }

    fn tools(&self) -> Tools {
        Tools::only(&[self.postgres.client_bin_dir()])
    }

    /// Whether `database` holds just what `source` holds, by psql.
    pub async fn must_equal(self: &Arc<Self>, source: Source, database: &str) -> Result<(), String> {
        let (world, database) = (Arc::clone(self), database.to_owned());
        blocking(move || {
            let (look, expected) = match source {
                Source::Small => (SMALL_LOOK, &world.small.1),
                Source::Large => (LARGE_LOOK, &world.large.1),
            };
            let found = world.postgres.psql(&database, look).map_err(|error| error.to_string())?;
            if found == *expected {
                Ok(())
            } else {
                Err(format!("{database} differs from its source:\n{found}"))
            }
        })
        .await
    }

    /// Databases whose names begin with `stem`.
    pub async fn databases(self: &Arc<Self>, stem: &str) -> Vec<String> {
        let (world, stem) = (Arc::clone(self), stem.to_owned());
        blocking(move || {
            let sql = format!("SELECT datname FROM pg_database WHERE starts_with(datname, '{stem}')");
            world.postgres.psql("postgres", &sql).unwrap().lines().map(str::to_owned).collect()
        })
        .await
    }

    pub async fn drop_databases(self: &Arc<Self>, names: Vec<String>) {
        let world = Arc::clone(self);
        blocking(move || {
            for name in names {
                world.postgres.psql("postgres", &format!("DROP DATABASE \"{name}\" WITH (FORCE)")).unwrap();
            }
        })
        .await;
    }
}

fn destinations(stores: &[Arc<dyn ObjectStore>]) -> Destinations {
    let names = ["default", "region=there"];
    let all = stores.iter().zip(names).map(|(store, name)| Destination {
        name: name.into(),
        locality: name.contains('=').then(|| name.into()),
        store: store.clone(),
    });
    Destinations::new(all.collect(), 0).unwrap()
}
