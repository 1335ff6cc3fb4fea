//! `vouchsafe demo`: the whole promise in two minutes, on an embedded PostgreSQL and folders. Whatever it
//! says is checked; an expectation that does not hold ends it with a named reason.

mod compare;
mod damage;
mod jobs;
mod server;

use std::io::Write;
use std::time::Instant;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::options::ToolArguments;
use super::output::Reason;
use super::report::{BackupReport, RestoreReport, VerifyReport};
use super::{Failure, OutputFormat, output, progress, signals};
use crate::engine::backups::{self, Verified};
use crate::engine::diff::with_database;
use crate::engine::interrupt::Interrupt;
use crate::engine::progress::{Progress, Stage};
use crate::engine::restore::restore;
use crate::engine::{Destinations, EngineError, Sealed};
use crate::source::{ClientEncoding, EndpointConfig, Session, Tools};

use jobs::register;
use server::{Server, local};

/// Destinations: a folder's name, its locality, and the tables that belong there. The first takes the rest.
const PLACES: [(&str, &str, Option<&str>); 3] = [
    ("eu", "region=eu-west1", None),
    ("us", "region=us-east1", Some("*.*_us")),
    ("asia", "region=ap-south1", Some("*.*_asia")),
];

/// The shop's statements, with `--;` between those that progress is shown for.
const SHOP: &str = include_str!("shop.sql");

/// The demo promises at least so many rows.
const LEAST_ROWS: u64 = 1_000_000;

/// Connections: the machine may have two cores.
const PARALLELISM: usize = 2;

const SOURCE: &str = "shop";
const REFUSED: &str = "shop_refused";
const RESTORED: &str = "shop_restored";

#[derive(Args, Debug)]
pub(super) struct Demo {
    #[command(flatten)]
    tools: ToolArguments,
    /// Leave the folder with the backups (and the stopped server) behind
    #[arg(long)]
    keep: bool,
}

/// What the demo has shown, for `--output json`.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    postgres: String,
    rows: u64,
    damaged: VerifyReport,
    refusal: String,
    backup: BackupReport,
    restore: RestoreReport,
    tables_equal: usize,
    seconds: u64,
}

impl Demo {
    pub(super) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let interrupt = signals::interrupt()?;
        let began = Instant::now();
        let (programs, version) = self.tools.tools().server_programs().await.map_err(EngineError::from)?;
        let mut narrator = Narrator { output, steps: 0 };
        narrator.step(
            &format!("An embedded PostgreSQL {version}"),
            "A fresh server in a temporary folder, without TCP, and three folders that stand for three regions.",
        );
        let folder = tempfile::Builder::new().prefix("vouchsafe-demo-").tempdir();
        let folder = folder
            .map_err(|error| local(&format!("a folder in {}", std::env::temp_dir().display()), &error))?;
        let starting = async { Ok(Server::start(folder, &programs, self.keep).await) };
        let server = interrupt.race(starting).await??;
        narrator.say(&format!("It runs in {}.", server.folder().display()));
        let shown = {
            let tools = Tools::only(&[programs]);
            let mut play = Play { server: &server, tools, interrupt: &interrupt, narrator, output };
            // One race around everything: whatever is under way at Ctrl-C is dropped, then the server stops.
            interrupt.race(async { Ok(play.run(version.to_string(), began).await) }).await
        };
        let kept = self.keep.then(|| server.folder().to_owned());
        let stopped = server.stop(self.keep).await;
        let shown = shown??;
        stopped?;
        output::write(output, &shown, || {
            let kept = kept.map(|folder| format!(" Everything is left in {}.", folder.display()));
            format!(
                "\nShown, each step checked, in {} s: backed up, damage detected, restore refused, restored, \
                 compared.{}",
                shown.seconds,
                kept.unwrap_or_default()
            )
        })
    }
}

/// Numbered headings, for people only.
#[derive(Debug)]
struct Narrator {
    output: OutputFormat,
    steps: u32,
}

impl Narrator {
    fn step(&mut self, heading: &str, sentence: &str) {
        self.steps += 1;
        self.say(&format!("\n{}. {heading}\n   {sentence}", self.steps));
    }

    fn say(&self, text: &str) {
        if self.output == OutputFormat::Text {
            // The demonstration goes on, and its exit code says how it went.
            let _nobody_reads = writeln!(std::io::stdout().lock(), "{}", text.trim_end());
        }
    }
}

/// Where the demo plays.
struct Play<'a> {
    server: &'a Server,
    tools: Tools,
    interrupt: &'a Interrupt,
    narrator: Narrator,
    output: OutputFormat,
}

impl Play<'_> {
    async fn run(&mut self, postgres: String, began: Instant) -> Result<Shown, Failure> {
        let rows = self.load().await?;
        let destinations = self.destinations().await?;
        self.seal(&destinations, rows).await?;
        let damaged = self.damage(&destinations).await?;
        let refusal = self.refuse(&destinations).await?;
        let (backup, restored) = self.restore_fresh(&destinations, rows).await?;
        let tables_equal = self.compare(&destinations, backup.run).await?;
        Ok(Shown {
            postgres,
            rows,
            damaged: VerifyReport::of(&damaged),
            refusal,
            backup: BackupReport::of(&backup),
            restore: restored,
            tables_equal,
            seconds: began.elapsed().as_secs(),
        })
    }

    async fn load(&mut self) -> Result<u64, Failure> {
        self.narrator.step(
            "A shop of three localities",
            "Customers, orders and items, partitioned by region, with an enum, jsonb, foreign keys, indexes, a \
             view, a sequence and a large object.",
        );
        self.sql("postgres", &[format!("CREATE DATABASE {SOURCE}")], &Progress::silent()).await?;
        let statements: Vec<String> = SHOP.split("\n--;\n").map(str::to_owned).collect();
        self.sql(SOURCE, &statements, &self.progress()).await?;
        let session = self.session(SOURCE).await?;
        let sql = "SELECT ((SELECT count(*) FROM shop.products) + (SELECT count(*) FROM shop.customers)
            + (SELECT count(*) FROM shop.orders) + (SELECT count(*) FROM shop.items))::text";
        let rows = compare::one(&session, "counting the shop's rows", sql).await?;
        session.close().await.map_err(EngineError::from)?;
        let rows = rows.parse().map_err(|_| Failure::internal(format!("count(*) is {rows:?}")))?;
        expect(rows >= LEAST_ROWS, || format!("the shop has {rows} rows"))?;
        self.narrator.say(&format!("{} rows are loaded.", output::count(rows)));
        Ok(rows)
    }

    async fn seal(&mut self, destinations: &Destinations, rows: u64) -> Result<(), Failure> {
        self.narrator.step(
            "A backup into three destinations",
            "Tables of the US and of Asia go to their own region, the rest to Europe; the seal comes after every \
             stored byte was read back.",
        );
        let sealed = self.back_up(destinations).await?;
        self.check_seal(&sealed, rows)?;
        for destination in &sealed.manifest.destinations {
            let stored = output::bytes(destination.stored_bytes);
            self.narrator.say(&format!("  {}: {} objects, {stored}", destination.name, destination.objects));
        }
        for table in &sealed.manifest.tables {
            let name = table.name.to_string();
            let belongs = PLACES.iter().find(|(region, ..)| name.ends_with(&format!("_{region}")));
            let belongs = belongs.map_or(PLACES[0].1, |(_, locality, _)| locality);
            expect(table.destination == belongs, || {
                format!("{name} lies in {}, and belongs in {belongs}", table.destination)
            })?;
        }
        Ok(())
    }

    async fn damage(&mut self, destinations: &Destinations) -> Result<Verified, Failure> {
        self.narrator.step(
            "One bit flips",
            "A disk loses one bit of one object, in the US. Sizes and dates stay as they were; `verify` reads \
             everything again.",
        );
        let flipped = damage::flip(&self.place(1), PLACES[1].1)?;
        self.narrator.say(&flipped.told);
        let verified = self.verify(destinations).await?;
        flipped.expect_found(&verified)?;
        expect(verified.damages.len() == 1, || format!("{:?}", verified.damages))?;
        self.narrator.step("An object goes missing", "Somebody deletes another object, in Asia.");
        let deleted = damage::delete(&self.place(2), PLACES[2].1)?;
        self.narrator.say(&deleted.told);
        let verified = self.verify(destinations).await?;
        flipped.expect_found(&verified)?;
        deleted.expect_found(&verified)?;
        expect(verified.damages.len() == 2, || format!("{:?}", verified.damages))?;
        Ok(verified)
    }

    async fn refuse(&mut self, destinations: &Destinations) -> Result<String, Failure> {
        self.narrator.step(
            "The damaged backup is not restored",
            "A restore proves the backup before it touches the target.",
        );
        let refusal = match restore(&self.restore_job(destinations, REFUSED, None)).await {
            Err(EngineError::Interrupted) => return Err(EngineError::Interrupted.into()),
            Err(error @ EngineError::Damaged(_)) => output::chain(&error),
            Err(error) => return Err(broken(output::chain(&error))),
            Ok(_) => return Err(broken("a damaged backup was restored")),
        };
        let session = self.session("postgres").await?;
        let databases = compare::one(
            &session,
            "listing databases",
            "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database",
        );
        let databases = databases.await?;
        session.close().await.map_err(EngineError::from)?;
        expect(databases == format!("postgres {SOURCE} template0 template1"), || {
            format!("after the refusal there are databases {databases}")
        })?;
        self.narrator
            .say(&format!("Refused: {refusal}\nThere is no database {REFUSED}, nor any other new one."));
        Ok(refusal)
    }

    async fn restore_fresh(
        &mut self,
        destinations: &Destinations,
        rows: u64,
    ) -> Result<(Sealed, RestoreReport), Failure> {
        self.narrator.step("A fresh backup", "The source is still there: a second run, sealed anew.");
        let sealed = self.back_up(destinations).await?;
        self.check_seal(&sealed, rows)?;
        self.narrator.step(
            "It is restored",
            "Into a new database, which gets its name only after every table's count and fingerprint was \
             recomputed and equals the manifest.",
        );
        let restored = restore(&self.restore_job(destinations, RESTORED, Some(sealed.run))).await?;
        let report = RestoreReport::of(&restored);
        self.narrator.say(&report.text());
        let compared: u64 = restored.tables.iter().map(|table| table.fingerprint.rows).sum();
        expect(compared == rows, || format!("{compared} rows were restored of {rows}"))?;
        Ok((sealed, report))
    }

    async fn compare(&mut self, destinations: &Destinations, run: u32) -> Result<usize, Failure> {
        self.narrator.step(
            "Source and copy are compared",
            "Once by `diff` against the backup, and once by plain SQL, which shares no code with it.",
        );
        let register = register(destinations);
        let backup = backups::open(destinations, &register, run).await?;
        let plan = backup.plan(&register).await?;
        let restored = self.server.database(RESTORED);
        let differences = with_database(&backup, &plan, &restored, PARALLELISM, &self.progress()).await?;
        expect(differences.is_empty(), || format!("diff: {differences:?}"))?;
        self.narrator.say("diff: no table differs.");
        let source = self.server.database(SOURCE);
        let (source, restored) = tokio::try_join!(compare::summary(&source), compare::summary(&restored))?;
        for (name, of_source) in &source {
            let of_restored = restored.get(name).map_or("absent", String::as_str);
            expect(of_source == of_restored, || {
                format!("SQL: {name}: {of_source} in the source, {of_restored} in the copy")
            })?;
            self.narrator.say(&format!("  {name}: {of_source}, both"));
        }
        expect(source.len() == restored.len(), || "the copy has more than the source".to_owned())?;
        Ok(plan.tables.len())
    }

    /// Verifies the newest run, and shows what was found.
    async fn verify(&self, destinations: &Destinations) -> Result<Verified, Failure> {
        let register = register(destinations);
        let progress = self.progress();
        let verified =
            backups::verify(destinations, &register, None, &self.tools, PARALLELISM, &progress).await?;
        self.narrator.say(&VerifyReport::of(&verified).text());
        Ok(verified)
    }

    fn check_seal(&self, sealed: &Sealed, rows: u64) -> Result<(), Failure> {
        self.narrator.say(&BackupReport::of(sealed).text());
        let manifest = &sealed.manifest;
        expect(manifest.rows == rows, || format!("{} rows were backed up of {rows}", manifest.rows))?;
        expect(manifest.destinations.len() == PLACES.len(), || {
            format!("{} destinations were written", manifest.destinations.len())
        })
    }

    fn progress(&self) -> Progress {
        progress::shown(self.output)
    }

    async fn session(&self, database: &str) -> Result<Session, Failure> {
        let endpoint: EndpointConfig = self.server.database(database);
        let session = Session::connect(&endpoint, "demo", &ClientEncoding::Utf8).await;
        Ok(session.map_err(EngineError::from)?)
    }

    async fn sql(&self, database: &str, statements: &[String], progress: &Progress) -> Result<(), Failure> {
        let session = self.session(database).await?;
        progress.begin(Stage::Load, statements.len() as u64, 0);
        for statement in statements {
            session.run("loading the shop", statement).await.map_err(EngineError::from)?;
            progress.advance(Stage::Load, 1, 0);
        }
        Ok(session.close().await.map_err(EngineError::from)?)
    }
}

/// What the demo claims does not hold.
fn broken(message: impl Into<String>) -> Failure {
    Failure::failed(
        Reason::DemoFailed,
        message,
        "this must not happen: run it again with --keep, and report it",
    )
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(broken(otherwise())) }
}
