//! `vouchsafe diff N [M | postgres://…]`

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::options::{self, StoreArguments};
use super::output::{Reason, Work};
use super::{Failure, OutputFormat, output, progress, signals};
use crate::engine::backups;
use crate::engine::diff::{TableDifference, with_backup, with_database};

#[derive(Args, Debug)]
pub(super) struct Diff {
    /// The number of the run, as list shows it
    run: u32,
    /// The number of another run, or a database `postgres://role@host:port/database`; absent: the newest sealed run
    other: Option<String>,
    #[command(flatten)]
    stores: StoreArguments,
    /// Connections to the database: 1 to 64
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallelism: u16,
}

/// `vouchsafe diff`
#[derive(JsonSchema, Serialize)]
pub(super) struct DiffReport {
    differences: Vec<Difference>,
}

#[derive(JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct Difference {
    table: String,
    rows: Option<u64>,
    other_rows: Option<u64>,
}

impl Diff {
    pub(super) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let interrupt = signals::interrupt()?;
        let opened = self.stores.open(None).await?;
        let chosen = backups::choose(&opened.register, Some(self.run)).await?;
        let backup = backups::open(&opened.destinations, &opened.register, chosen.run).await?;
        let parallelism = usize::from(self.parallelism);
        let differences = match self.other.as_deref() {
            Some(url) if url.contains("://") => {
                let endpoint = options::endpoint("OTHER", url)?;
                let plan = backup.plan(&opened.register).await?;
                let progress = progress::shown(output);
                let compared = with_database(&backup, &plan, &endpoint, parallelism, &progress);
                let compared = interrupt.race(compared).await;
                compared.map_err(|error| Failure::of_work(error, Work::Reading, &interrupt))?
            }
            other => {
                let run = other.map(str::parse::<u32>).transpose().map_err(|_| {
                    Failure::usage(
                        "OTHER: neither the number of a run nor a URL",
                        "write diff 3 4, or diff 3 postgres://role@host/database",
                    )
                })?;
                let chosen = backups::choose(&opened.register, run).await?;
                output::warn_of_undecided(chosen.newer_undecided);
                let other = backups::open(&opened.destinations, &opened.register, chosen.run).await?;
                with_backup(&backup, &other)
            }
        };
        let differences = differences
            .iter()
            .map(|TableDifference { name, left, right }| Difference {
                table: name.to_string(),
                rows: *left,
                other_rows: *right,
            })
            .collect();
        let document = DiffReport { differences };
        let differences = &document.differences;
        output::write(output, &document, || {
            if differences.is_empty() {
                return "no table differs".to_owned();
            }
            let text = |rows: Option<u64>| rows.map_or_else(|| "absent".to_owned(), output::count);
            let rows = differences.iter().map(|it| [it.table.clone(), text(it.rows), text(it.other_rows)]);
            output::table(["TABLE", "ROWS", "OTHER ROWS"], rows.collect())
        })?;
        if differences.is_empty() {
            return Ok(());
        }
        let message = match differences.len() {
            1 => "1 table differs".to_owned(),
            several => format!("{several} tables differ"),
        };
        Err(Failure::not_proven(
            Reason::Different,
            message,
            "absent: that side has no such table; equal numbers of rows mean other contents",
        ))
    }
}
