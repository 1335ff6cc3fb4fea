//! The figures of docs/performance.md: our time and the peer's in one run, interleaved, as ratios.
//!
//! `cargo bench --bench proof -- [--rounds N] [--only WORD]... [--small] [--write]`

#![allow(clippy::unwrap_used, reason = "a measurement that can't be taken ends the bench")]

mod data;
mod figures;
mod memory;
mod ours;
mod peers;
mod report;

use std::collections::BTreeMap;
use std::time::Duration;

use figures::Bench;

/// What was asked for.
#[derive(Debug)]
struct Options {
    rounds: usize,
    /// Only measurements whose name holds one of these words; all if empty.
    only: Vec<String>,
    /// A tenth of the data, for trying the bench itself out: never for docs/performance.md.
    small: bool,
    /// Put the tables into docs/performance.md.
    write: bool,
}

impl Options {
    fn parse() -> Self {
        let mut options = Self { rounds: 5, only: Vec::new(), small: false, write: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--rounds" => options.rounds = arguments.next().and_then(|it| it.parse().ok()).unwrap(),
                "--only" => options.only.push(arguments.next().unwrap()),
                "--small" => options.small = true,
                "--write" => options.write = true,
                "--bench" => {} // cargo's own
                other => panic!("unknown argument {other}: --rounds N, --only WORD, --small, --write"),
            }
        }
        assert!(options.rounds > 0, "--rounds takes 1 or more");
        options
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }
}

/// Seconds of each measurement, one per round.
type Times = BTreeMap<&'static str, Vec<Duration>>;

fn main() {
    let options = Options::parse();
    let bench = Bench::prepare(options.small);
    let mut times = Times::new();
    for round in 1..=options.rounds {
        println!("round {round} of {}", options.rounds);
        for (name, measure) in figures::MEASUREMENTS {
            if !options.wants(name) {
                continue;
            }
            bench.settle();
            for (name, took) in measure(&bench) {
                println!("  {name:42} {:8.2} s", took.as_secs_f64());
                times.entry(name).or_default().push(took);
            }
        }
    }
    let peaks = if options.wants("memory") { memory::measure(&bench) } else { Vec::new() };
    let text = report::text(&bench, &times, &peaks, options.rounds);
    println!("\n{text}");
    if options.write {
        assert!(options.only.is_empty() && !options.small, "a part of the figures is not written down");
        report::write(&text);
    }
}
