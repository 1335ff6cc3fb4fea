//! Progress bars on a terminal, plain lines in a pipe.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::OutputFormat;
use crate::engine::progress::{Progress, Report, Stage};

const fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Resolve => "resolving",
        Stage::Export => "exporting",
        Stage::Count => "counting",
        Stage::Write => "writing metadata",
        Stage::Verify => "verifying",
        Stage::Seal => "sealing",
        Stage::Copy => "copying",
        Stage::Schema => "restoring schema",
        Stage::Load => "loading",
        Stage::Finish => "building indexes",
        Stage::Compare => "comparing",
    }
}

/// What a stage counts.
const fn noun(stage: Stage) -> &'static str {
    match stage {
        Stage::Export | Stage::Verify | Stage::Copy => "tickets",
        Stage::Count | Stage::Load | Stage::Compare => "tables",
        Stage::Resolve | Stage::Write | Stage::Seal | Stage::Schema | Stage::Finish => "steps",
    }
}

/// The progress of a command on this terminal; silent when results are JSON.
pub(super) fn shown(output: OutputFormat) -> Progress {
    if output == OutputFormat::Json {
        return Progress::silent();
    }
    if std::io::stderr().is_terminal() { bars() } else { lines() }
}

fn lines() -> Progress {
    Progress::new(|report| match report {
        Report::Began { stage, items, .. } if items > 0 => {
            eprintln!("{} ({items} {})", word(stage), noun(stage))
        }
        Report::Began { stage, .. } => eprintln!("{}", word(stage)),
        Report::Advanced { .. } | Report::Server { .. } => {}
        Report::Note(text) => eprintln!("{text}"),
    })
}

fn bars() -> Progress {
    let current: Mutex<Option<ProgressBar>> = Mutex::new(None);
    Progress::new(move |report| {
        // A poisoned lock only means that a panic happened while a bar was drawn.
        let mut current = current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match report {
            Report::Began { stage, items, bytes } => {
                if let Some(bar) = current.take() {
                    bar.finish();
                }
                let bar = if bytes > 0 { ProgressBar::new(bytes) } else { ProgressBar::new(items.max(1)) };
                let template = if bytes > 0 {
                    "{msg:17} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}"
                } else if items > 0 {
                    "{msg:17} {wide_bar} {pos}/{len}"
                } else {
                    "{msg:17} {spinner}"
                };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style);
                }
                bar.set_message(word(stage));
                bar.enable_steady_tick(Duration::from_millis(100));
                *current = Some(bar);
            }
            Report::Advanced { items, bytes, .. } => {
                if let Some(bar) = current.as_ref() {
                    let by_bytes = bar.length().is_some_and(|length| length > 0) && bytes > 0;
                    bar.inc(if by_bytes { bytes } else { items });
                }
            }
            Report::Note(text) => match current.as_ref() {
                Some(bar) => bar.println(text),
                None => eprintln!("{text}"),
            },
            Report::Server { .. } => {}
        }
    })
}
