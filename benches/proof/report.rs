//! The tables of docs/performance.md.

use std::fmt::Write;
use std::time::Duration;

use crate::Times;
use crate::figures::Bench;
use crate::memory::Peak;

const PAGE: &str = "docs/performance.md";
const BEGIN: &str = "<!-- figures: begin, written by ./dev bench --write -->";
const END: &str = "<!-- figures: end -->";

/// A ratio of the table: figure, numerator, denominator, and what to reach.
const RATIOS: [(&str, &str, &str, f64); 10] = [
    ("export, in parts of the floor's speed", "floor", "export", 0.65),
    ("export against pg_dump -Fd -j2, gzip 1", "pg_dump gzip", "export", 2.0),
    ("export against pg_dump 17 -Fd -j2, zstd 1", "pg_dump zstd", "export", 1.1),
    ("whole proven backup against pg_dump -Fd -j2, gzip 1", "pg_dump gzip", "backup", 1.5),
    (
        "one giant table, two connections against one",
        "giant table, 1 connection",
        "giant table, 2 connections",
        1.6,
    ),
    ("verify, in parts of the floor's speed", "floor", "verify", 1.5),
    ("restore with both proofs against pg_restore -j2", "pg_restore", "restore", 0.9),
    ("restore without its proofs against pg_restore -j2", "pg_restore", "restore, without its proofs", 1.1),
    ("backup to SeaweedFS against a folder", "backup", "backup to S3", 0.8),
    ("whole proven backup against pgBackRest, full, 2 processes, zstd 1", "pgBackRest", "backup", f64::NAN),
];

fn median(times: &[Duration]) -> f64 {
    let mut seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    seconds.sort_by(f64::total_cmp);
    let middle = seconds.len() / 2;
    if seconds.len() % 2 == 1 { seconds[middle] } else { f64::midpoint(seconds[middle - 1], seconds[middle]) }
}

/// Median, least and greatest ratio of the rounds.
fn ratio(times: &Times, numerator: &str, denominator: &str) -> Option<(f64, f64, f64)> {
    let (above, below) = (times.get(numerator)?, times.get(denominator)?);
    let mut ratios: Vec<f64> =
        above.iter().zip(below).map(|(a, b)| a.as_secs_f64() / b.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    let middle = ratios.len() / 2;
    let median = if ratios.len() % 2 == 1 {
        ratios[middle]
    } else {
        f64::midpoint(ratios[middle - 1], ratios[middle])
    };
    Some((median, *ratios.first()?, *ratios.last()?))
}

/// Everything that was measured, as Markdown.
pub(crate) fn text(bench: &Bench, times: &Times, peaks: &[Peak], rounds: usize) -> String {
    let mut text = String::new();
    let megabytes = bench.source_bytes as f64 / 1e6;
    let _ = writeln!(
        text,
        "{megabytes:.0} MB of COPY BINARY, PostgreSQL 15, two connections, two cores that the server shares; \
         medians of {rounds} interleaved rounds, least and greatest in brackets.\n"
    );
    text.push_str("| figure | ratio | to reach | reached |\n| --- | --- | --- | --- |\n");
    for (name, numerator, denominator, reach) in RATIOS {
        let Some((middle, least, greatest)) = ratio(times, numerator, denominator) else { continue };
        let (reach, reached) = if reach.is_nan() {
            ("for the record".to_owned(), "")
        } else {
            (format!("{reach:.2}"), if middle >= reach { "yes" } else { "**no**" })
        };
        let _ = writeln!(text, "| {name} | {middle:.2} ({least:.2}–{greatest:.2}) | {reach} | {reached} |");
    }
    text.push_str("\n| what | s, median | MB/s of source bytes |\n| --- | --- | --- |\n");
    for (name, times) in times {
        let seconds = median(times);
        let _ = writeln!(text, "| {name} | {seconds:.2} | {:.0} |", megabytes / seconds);
    }
    if !peaks.is_empty() {
        text.push_str("\n| peak memory of the process | MiB |\n| --- | --- |\n");
        for (name, kib) in peaks {
            let _ = writeln!(text, "| {name} | {} |", kib / 1024);
        }
    }
    text
}

/// Puts `text` between the marks of the page.
pub(crate) fn write(text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    std::fs::write(&path, format!("{before}{BEGIN}\n{text}{END}{after}")).unwrap();
    println!("written to {PAGE}");
}
