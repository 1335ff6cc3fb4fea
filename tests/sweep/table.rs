//! What became of all cases, and the tables of docs/reliability.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::cases::{End, Extent};

const DOCUMENT: &str = "docs/reliability.md";
const BEGIN: &str = "<!-- sweep: begin -->";
const STOP: &str = "<!-- sweep: end -->";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/sweep")
}

/// Which sweep, and which piece of how many, by the name of its file.
fn piece(file: &Path) -> Option<(String, usize, usize)> {
    let (sweep, piece) = file.file_stem()?.to_str()?.rsplit_once('.')?;
    let (number, of) = piece.split_once("-of-")?;
    Some((sweep.to_owned(), number.parse().ok()?, of.parse().ok()?))
}

/// What was run, in words.
fn said(files: &[PathBuf]) -> String {
    let pieces: BTreeSet<_> = files.iter().filter_map(|file| piece(file)).collect();
    let whole = |(sweep, _, of): &(String, usize, usize)| {
        pieces.iter().filter(|it| (&it.0, it.2) == (sweep, *of)).count() == *of
    };
    if pieces.iter().all(whole) {
        return "Run: the whole of each".to_owned();
    }
    let names: BTreeSet<String> =
        pieces.iter().map(|(_, number, of)| format!("piece {number} of {of}")).collect();
    format!("Run so far, of the whole: {}", names.into_iter().collect::<Vec<_>>().join(", "))
}

/// How often a kind of request met a fault, and how it ended.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    proven: u64,
    failed: u64,
    undecided: u64,
}

/// Counts by sweep, kind of request and fault. Each counted case is one whose fault has fired.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<(String, String, String), Count>);

impl Tally {
    pub fn count(&mut self, sweep: &str, words: &[(String, String)], end: End) {
        for (kind, fault) in words {
            let count = self.0.entry((sweep.to_owned(), kind.clone(), fault.clone())).or_default();
            match end {
                End::Proven => count.proven += 1,
                End::Failed => count.failed += 1,
                End::Undecided => count.undecided += 1,
            }
        }
    }

    /// A piece of the whole is kept in a file, as far as it has come: what was run counts, also if the rest was not.
    pub fn keep(&self, sweep: &str, extent: &Extent) {
        let Extent::Piece { number, of } = extent else { return };
        std::fs::create_dir_all(folder()).unwrap();
        let lines = self.0.iter().map(|((sweep, kind, fault), count)| {
            let Count { proven, failed, undecided } = count;
            format!("{sweep}\t{kind}\t{fault}\t{proven}\t{failed}\t{undecided}\n")
        });
        let name = format!("{}.{number}-of-{of}.tsv", sweep.replace(' ', "-"));
        std::fs::write(folder().join(name), lines.collect::<String>()).unwrap();
    }

    /// Makes the document anew of all the files that are there.
    pub fn publish(extent: &Extent) {
        if !matches!(extent, Extent::Piece { .. }) {
            return;
        }
        // The sweeps of one process run at once.
        static WRITING: Mutex<()> = Mutex::new(());
        let _alone = WRITING.lock().unwrap();
        let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<_> =
            files.filter(|path| path.extension().is_some_and(|extension| extension == "tsv")).collect();
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
        let text = std::fs::read_to_string(&document).unwrap();
        let (before, rest) = text.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(STOP).unwrap();
        let note = format!("{}. P: proven, F: failed and named, U: undecided.", said(&files));
        let made = format!("{before}{BEGIN}\n\n{note}\n\n{}{STOP}{after}", Self::read(&files).text());
        std::fs::write(document, made).unwrap();
        eprintln!("{DOCUMENT}: written from {} files in {}", files.len(), folder().display());
    }

    fn read(files: &[PathBuf]) -> Self {
        let mut all = Self::default();
        for file in files {
            for line in std::fs::read_to_string(file).unwrap().lines() {
                let [sweep, kind, fault, proven, failed, undecided] =
                    line.split('\t').collect::<Vec<_>>().try_into().unwrap();
                let count = all.0.entry((sweep.into(), kind.into(), fault.into())).or_default();
                count.proven += proven.parse::<u64>().unwrap();
                count.failed += failed.parse::<u64>().unwrap();
                count.undecided += undecided.parse::<u64>().unwrap();
            }
        }
        all
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let sweeps: BTreeSet<&String> = self.0.keys().map(|(sweep, _, _)| sweep).collect();
        for sweep in sweeps {
            text.push_str(&self.of(sweep));
        }
        text
    }

    /// One sweep: a row for each kind of request, a column for each fault.
    fn of(&self, sweep: &str) -> String {
        let of_sweep: Vec<_> = self.0.iter().filter(|((of, _, _), _)| of == sweep).collect();
        let kinds: BTreeSet<&String> = of_sweep.iter().map(|((_, kind, _), _)| kind).collect();
        let faults: BTreeSet<&String> = of_sweep.iter().map(|((_, _, fault), _)| fault).collect();
        let sum = |count: fn(&Count) -> u64| of_sweep.iter().map(|(_, it)| count(it)).sum::<u64>();
        let (proven, failed, undecided) = (sum(|it| it.proven), sum(|it| it.failed), sum(|it| it.undecided));
        let cases = proven + failed + undecided;
        let mut text = format!(
            "### {sweep}\n\n{cases} cases, {cases} fired: {proven} proven, {failed} failed and named, {undecided} undecided.\n\n| request |"
        );
        faults.iter().for_each(|fault| text.push_str(&format!(" {fault} |")));
        text.push_str("\n| --- |");
        faults.iter().for_each(|_| text.push_str(" --- |"));
        for kind in kinds {
            text.push_str(&format!("\n| {kind} |"));
            for fault in &faults {
                let key = (sweep.to_owned(), kind.clone(), (*fault).clone());
                text.push_str(&format!(" {} |", self.0.get(&key).map_or_else(String::new, cell)));
            }
        }
        text.push_str("\n\n");
        text
    }
}

/// `12P 3F 1U`: proven, failed and named, undecided.
fn cell(count: &Count) -> String {
    let parts = [(count.proven, 'P'), (count.failed, 'F'), (count.undecided, 'U')];
    let parts =
        parts.iter().filter(|(number, _)| *number > 0).map(|(number, letter)| format!("{number}{letter}"));
    parts.collect::<Vec<_>>().join(" ")
}
