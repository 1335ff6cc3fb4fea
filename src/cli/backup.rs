//! `vouchsafe backup`

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::options::{self, StoreArguments, ToolArguments};
use super::output::Work;
use super::report::BackupReport;
use super::{Failure, OutputFormat, output, progress, signals};
use crate::engine::crew::InThisProcess;
use crate::engine::interrupt::Deadline;
use crate::engine::job::{DEFAULT_SPAN_BYTES, listing_patience, owner_of};
use crate::engine::{BackupJob, Endpoint, Placement, back_up};
use crate::plan::locality::{Locality, LocalityPolicy};
use crate::plan::placement::{PlacementRule, Unplaced};
use crate::source::{SchemaPattern, Selection, TablePattern};

/// Name of a source without a locality.
const DEFAULT_ENDPOINT: &str = "default";

#[derive(Args, Debug)]
pub(super) struct Backup {
    /// The server and database, `postgres://role@host:port/database?sslmode=verify-full&sslrootcert=FILE`; with a
    /// locality, `region=eu-west1=postgres://…`. One per server that holds data. Without sslmode, verify-full for
    /// every host but this machine
    #[arg(long = "source", value_name = "[LOCALITY=]URL", required = true)]
    sources: Vec<String>,
    #[command(flatten)]
    stores: StoreArguments,
    /// Tables of one server that belong elsewhere: `public.*_us=region=us-east1`; may be repeated, the first match
    /// wins
    #[arg(long = "place", value_name = "TABLES=LOCALITY")]
    placement: Vec<String>,
    /// What no --place matches goes to the default destination, instead of failing
    #[arg(long)]
    unplaced_to_default: bool,
    /// A locality without a --store goes to the default destination, instead of failing
    #[arg(long)]
    unmatched_to_default: bool,
    /// Only the rows of these schemas; `*` stands for any text; may be repeated
    #[arg(long, value_name = "SCHEMA")]
    include_schema: Vec<String>,
    /// Only (or also) the rows of these tables: `schema.table`; may be repeated
    #[arg(long, value_name = "TABLES")]
    include_table: Vec<String>,
    /// Leave the rows of these tables out: `schema.table`; may be repeated, and wins over both
    #[arg(long, value_name = "TABLES")]
    exclude_table: Vec<String>,
    /// Connections for each destination's tables: 1 to 64
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallelism: u16,
    /// Most bytes per second that go to each destination, such as 50Mi; absent: no limit
    #[arg(long, value_name = "SIZE", value_parser = options::size)]
    rate_limit: Option<NonZeroU64>,
    /// Size of the pieces in which large tables are exported, such as 64Mi; absent: 192Mi
    #[arg(long, value_name = "SIZE", value_parser = options::size)]
    span_size: Option<NonZeroU64>,
    /// Time for all of it, such as 90m or 6h; after that the run is void; absent: no limit
    #[arg(long, value_name = "DURATION", value_parser = options::duration)]
    deadline: Option<Duration>,
    #[command(flatten)]
    tools: ToolArguments,
}

impl Backup {
    pub(super) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let interrupt = signals::interrupt()?;
        let deadline = self.deadline.map(Deadline::within);
        let endpoints = self.endpoints()?;
        let placement = self.placement()?;
        let selection = selection(&self.include_schema, &self.include_table, &self.exclude_table)?;
        let owner = self.owner();
        let opened = self.stores.open(self.rate_limit).await?;
        let span_bytes = self.span_size.unwrap_or(NonZeroU64::MIN.saturating_add(DEFAULT_SPAN_BYTES - 1));
        let job = BackupJob {
            owner,
            destinations: opened.destinations,
            register: opened.register,
            locality_policy: if self.unmatched_to_default {
                LocalityPolicy::Default
            } else {
                LocalityPolicy::Strict
            },
            endpoints,
            placement,
            selection,
            parallelism: usize::from(self.parallelism),
            span_bytes,
            crew: Arc::new(InThisProcess),
            tools: self.tools.tools(),
            listing_patience: listing_patience(),
            deadline,
            errors: opened.errors,
            interrupt,
            progress: progress::shown(output),
        };
        let sealed =
            back_up(&job).await.map_err(|error| Failure::of_work(error, Work::Backup, &job.interrupt))?;
        let report = BackupReport::of(&sealed);
        output::write(output, &report, || report.text())
    }

    /// The same command, run again, is the owner of the run that it left open.
    fn owner(&self) -> String {
        let mut words = vec!["backup".to_owned()];
        words.extend(self.sources.iter().cloned());
        words.extend(self.stores.identity());
        for list in [&self.placement, &self.include_schema, &self.include_table, &self.exclude_table] {
            words.push(list.len().to_string());
            words.extend(list.iter().cloned());
        }
        owner_of(&words)
    }

    fn endpoints(&self) -> Result<Vec<Endpoint>, Failure> {
        let endpoints = self.sources.iter().map(|text| {
            let (locality, url) = options::split_source(text);
            let locality = locality.map(options::parse_locality).transpose()?;
            let name = locality.as_ref().map_or_else(|| DEFAULT_ENDPOINT.to_owned(), Locality::to_string);
            Ok(Endpoint { name, locality, config: options::endpoint("--source", url)? })
        });
        endpoints.collect()
    }

    fn placement(&self) -> Result<Placement, Failure> {
        let rules = self.placement.iter().map(|text| {
            let hint = "write --place 'public.*_us=region=us-east1'";
            let (tables, locality) = text
                .split_once('=')
                .ok_or_else(|| Failure::usage(format!("{text:?} is no placement rule"), hint))?;
            Ok(PlacementRule {
                name: text.clone(),
                tables: vec![pattern(tables)?],
                partitions_of: Vec::new(),
                locality: options::parse_locality(locality)?,
            })
        });
        let rules = rules.collect::<Result<_, Failure>>()?;
        let unplaced = if self.unplaced_to_default { Unplaced::Default } else { Unplaced::Fail };
        Ok(Placement { rules, unplaced })
    }
}

fn pattern(text: &str) -> Result<TablePattern, Failure> {
    TablePattern::parse(text).map_err(|error| {
        Failure::usage(
            output::chain(&error),
            "write schema.table, with * for any text and ? for one character",
        )
    })
}

fn schema_pattern(text: &str) -> Result<SchemaPattern, Failure> {
    SchemaPattern::parse(text).map_err(|error| {
        Failure::usage(output::chain(&error), "write a schema, with * for any text and ? for one character")
    })
}

/// Which tables, from the options of a command.
pub(super) fn selection(
    schemas: &[String],
    tables: &[String],
    excluded: &[String],
) -> Result<Selection, Failure> {
    Ok(Selection {
        include_schemas: schemas.iter().map(|text| schema_pattern(text)).collect::<Result<_, _>>()?,
        include_tables: tables.iter().map(|text| pattern(text)).collect::<Result<_, _>>()?,
        exclude_tables: excluded.iter().map(|text| pattern(text)).collect::<Result<_, _>>()?,
    })
}
