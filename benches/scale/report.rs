//! The table of docs/performance.md.

use std::fmt::Write;
use std::time::Duration;

use crate::Figures;
use crate::objects::Size;

const PAGE: &str = "docs/performance.md";
const BEGIN: &str = "<!-- scale: begin, written by ./dev bench scale --write -->";
const END: &str = "<!-- scale: end -->";

/// One line: what is told, what is to be reached with 1,000 schedules, and its value.
type Line<'a> = (&'a str, &'a str, &'a dyn Fn(&Figures) -> f64, usize);

/// Median, least and greatest.
fn spread(rounds: &[Figures], of: &dyn Fn(&Figures) -> f64, decimals: usize) -> String {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let (least, greatest) = (values[0], values[values.len() - 1]);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    format!("{median:.decimals$} ({least:.decimals$}–{greatest:.decimals$})")
}

/// Everything that was measured, as Markdown.
pub(crate) fn text(measured: &[(Size, Vec<Figures>)], idle: Duration) -> String {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
    let number = |count: usize| count as f64;
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
    let mebibytes = |kib: u64| kib as f64 / 1024.0;
    let lines: [Line<'_>; 9] = [
        ("start to synced, s", "≤ 30", &|it| it.synced.as_secs_f64(), 1),
        ("requests until then", "", &|it| number(it.requests_to_sync), 0),
        ("peak memory until the end of the idle time, MiB", "≤ 200", &|it| mebibytes(it.peak_kib), 0),
        ("memory when idle, MiB", "", &|it| mebibytes(it.idle_kib), 0),
        ("requests per second when idle", "≤ 1", &|it| number(it.idle_requests) / idle.as_secs_f64(), 2),
        ("writes when idle", "0", &|it| number(it.idle_writes), 0),
        ("100 due at one instant: all have their Job after, s", "≤ 30", &|it| it.due.as_secs_f64(), 1),
        ("requests for these", "", &|it| number(it.due_requests), 0),
        ("peak memory after these, MiB", "≤ 200", &|it| mebibytes(it.peak_after_due_kib), 0),
    ];
    let (first, rounds) = (measured[0].0, measured[0].1.len());
    let mut text = format!(
        "{} stores, {} finished Backups, idle for {} s; medians of {rounds} rounds, least and greatest in brackets.\n\n\
         | figure | to reach |",
        first.stores,
        first.backups,
        idle.as_secs(),
    );
    for (size, _) in measured {
        let _ = write!(text, " {} schedules |", size.schedules);
    }
    text.push_str("\n| --- | --- |");
    text.push_str(&" --- |".repeat(measured.len()));
    for (what, reach, of, decimals) in lines {
        let _ = write!(text, "\n| {what} | {reach} |");
        for (_, rounds) in measured {
            let _ = write!(text, " {} |", spread(rounds, of, decimals));
        }
    }
    text.push('\n');
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
