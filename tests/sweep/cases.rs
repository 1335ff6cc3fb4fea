//! Which cases there are, which of them are run, and what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::Semaphore;
use vouchsafe::store::fault::Operation;

use super::fault::{Fault, Level, Must};
use super::kind::Kind;
use super::rig::ATTEMPTS;
use super::table::Tally;
use super::world::Source;

/// Cases under way at once, of all tests of this process together. Two cores are kept busy by three; stalled ones
/// cost nothing.
const UNDER_WAY: usize = 4;

static PLACES: Semaphore = Semaphore::const_new(UNDER_WAY);

/// A case that takes longer hangs. An undisturbed one takes a second.
const LONGEST: Duration = Duration::from_secs(180);

/// A fault at one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub kind: Kind,
    pub nth: u64,
    pub fault: Fault,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{} {}", self.kind, self.nth, self.fault)
    }
}

/// Faults that meet one backup or restore: one, but in a sample.
#[derive(Clone, Debug)]
pub struct Case {
    pub source: Source,
    pub marks: Vec<Mark>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let marks: Vec<String> = self.marks.iter().map(ToString::to_string).collect();
        f.write_str(&marks.join(", "))
    }
}

impl Case {
    /// Kinds of requests and faults, for tables.
    pub fn words(&self) -> Vec<(String, String)> {
        self.marks.iter().map(|mark| (mark.kind.to_string(), mark.fault.words().to_owned())).collect()
    }
}

/// The faults that must be got over, come together: each kind of fault at one request of every kind in one case.
fn together(cases: Vec<Case>, must: impl Fn(&Mark) -> Must) -> Vec<Case> {
    // The probe of checksums is several requests with one budget.
    let probes = |case: &Case| case.marks.iter().filter(|mark| mark.kind.of == "probe").count();
    let mut together: Vec<Case> = Vec::new();
    for case in cases {
        let mark = case.marks[0];
        let other = together.iter_mut().find(|other| {
            let room = mark.kind.of != "probe" || probes(other) < ATTEMPTS - 1;
            let alike = other.source == case.source && other.marks[0].fault == mark.fault;
            room && alike && must(&mark) == Must::Succeed && must(&other.marks[0]) == Must::Succeed
        });
        match other {
            Some(other) => other.marks.push(mark),
            None => together.push(case),
        }
    }
    together
}

/// How a case that is right ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Proven, and equal to the source.
    Proven,
    /// Failed by name, and void or without effect.
    Failed,
    /// Failed as undecided, and settled afterwards.
    Undecided,
}

/// How much is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    Sample {
        seed: u64,
    },
    Piece {
        number: usize,
        of: usize,
    },
    /// One case, or several faults in one, by name.
    Only(String),
}

impl Extent {
    /// As `VOUCHSAFE_SWEEP` and `VOUCHSAFE_SEED` say.
    pub fn wanted() -> Self {
        let Ok(text) = std::env::var("VOUCHSAFE_SWEEP") else {
            let seed = std::env::var("VOUCHSAFE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
            return Self::Sample { seed };
        };
        let piece = text.strip_prefix("whole").map(str::trim);
        match piece.map(|piece| piece.split_once('/')) {
            None => Self::Only(text),
            Some(None) => Self::Piece { number: 1, of: 1 },
            Some(Some((number, of))) => {
                let (number, of) = (number.parse().unwrap(), of.parse().unwrap());
                assert!((1..=of).contains(&number), "there is no piece {text}");
                Self::Piece { number, of }
            }
        }
    }

    /// Which of `all` are run; `group` says what a sample must hold one of each.
    pub fn choose<T: fmt::Display, G: Ord>(&self, all: Vec<T>, group: impl Fn(&T) -> G) -> Vec<T> {
        match self {
            Self::Sample { seed } => {
                let mut groups: BTreeMap<G, Vec<T>> = BTreeMap::new();
                for one in all {
                    groups.entry(group(&one)).or_default().push(one);
                }
                let count = groups.len();
                let chosen = groups.into_values().zip(0_u64..).map(|(mut of_group, number)| {
                    let at = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number * 0x85eb_ca6b);
                    of_group.swap_remove((at % of_group.len() as u64) as usize)
                });
                let chosen: Vec<T> = chosen.collect();
                assert_eq!(chosen.len(), count, "a sample holds one of each group");
                chosen
            }
            Self::Piece { number, of } => all
                .into_iter()
                .enumerate()
                .filter(|(at, _)| at % of == number - 1)
                .map(|(_, one)| one)
                .collect(),
            Self::Only(names) => {
                let names: Vec<&str> = names.split(", ").collect();
                all.into_iter().filter(|one| names.contains(&one.to_string().as_str())).collect()
            }
        }
    }

    /// The cases that are run: each alone, but in a sample.
    pub fn cases(&self, all: Vec<Case>, must: impl Fn(&Mark) -> Must) -> Vec<Case> {
        let faults = |cases: &[Case]| -> BTreeSet<(Operation, Fault)> {
            cases.iter().flat_map(|case| &case.marks).map(|mark| (mark.kind.operation, mark.fault)).collect()
        };
        let wanted = faults(&all);
        let chosen = self.choose(all, |case| {
            let mark = case.marks[0];
            // What comes together in one case costs nothing more.
            let of = if must(&mark) == Must::Succeed { mark.kind.of } else { mark.kind.family() };
            (mark.kind.operation, of, mark.fault)
        });
        assert!(
            !self.is_sample() || faults(&chosen) == wanted,
            "a sample holds every operation × every fault"
        );
        match self {
            Self::Piece { .. } => chosen,
            Self::Sample { .. } | Self::Only(_) => together(chosen, must),
        }
    }

    /// In a sample, a fault that can be had at the trait and on the wire strikes a kind of request at one of them,
    /// as the seed says; faults that a backup gets over come together in one case, at both.
    fn strikes(&self, level: Level, kind: Kind, fault: Fault, found: bool) -> bool {
        let Self::Sample { seed } = self else { return true };
        let both = fault.fits(Level::Trait, kind, found) && fault.fits(Level::Wire, kind, found);
        if !both || fault.must_in_backup(level, kind) == Must::Succeed {
            return true;
        }
        let number = (kind.to_string() + fault.words())
            .bytes()
            .fold(*seed, |sum, byte| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte));
        ((number >> 7) % 2 == 0) == (level == Level::Trait)
    }

    pub fn is_sample(&self) -> bool {
        matches!(self, Self::Sample { .. })
    }
}

/// Every fault at every request where it can act. Each stall takes its time limit, so the first of each kind of
/// request will do.
pub fn cases(
    extent: &Extent,
    level: Level,
    source: Source,
    requests: &[(Kind, bool)],
    of: impl Fn(Kind) -> bool,
) -> Vec<Case> {
    let mut seen: BTreeMap<Kind, u64> = BTreeMap::new();
    let mut marks = Vec::new();
    for (kind, found) in requests {
        let count = seen.entry(*kind).or_default();
        let nth = *count;
        *count += 1;
        if !of(*kind) {
            continue;
        }
        let fitting = Fault::ALL.into_iter().filter(|fault| fault.fits(level, *kind, *found));
        let fitting = fitting
            .filter(|fault| nth == 0 || !matches!(fault, Fault::StallSending | Fault::StallAnswer))
            .filter(|fault| extent.strikes(level, *kind, *fault, *found));
        marks.extend(fitting.map(|fault| Case { source, marks: vec![Mark { kind: *kind, nth, fault }] }));
    }
    marks
}

/// Runs `cases`, a few at once, and writes down how each ended. What each is about is in its `words`: pairs of kind
/// and fault.
///
/// # Panics
/// With every case that ended otherwise than it must.
pub async fn carry_out<C, F>(
    sweep: &str,
    extent: &Extent,
    cases: Vec<C>,
    words: impl Fn(&C) -> Vec<(String, String)>,
    run: impl Fn(C) -> F,
) where
    C: fmt::Display,
    F: Future<Output = Result<End, String>>,
{
    assert!(!cases.is_empty(), "{sweep}: there is no case of {extent:?}");
    let total = cases.len();
    let (tally, wrong) = (Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    let begun = std::time::Instant::now();
    let each = futures::stream::iter(cases).for_each_concurrent(UNDER_WAY, |case| {
        let (name, words) = (case.to_string(), words(&case));
        let running = tokio::time::timeout(LONGEST, run(case));
        let (tally, wrong) = (&tally, &wrong);
        async move {
            let _place = PLACES.acquire().await.unwrap();
            let ended = running.await.unwrap_or_else(|_| Err(format!("it hangs: not done in {LONGEST:?}")));
            match ended {
                Ok(end) => {
                    let mut tally = tally.lock().unwrap();
                    tally.count(sweep, &words, end);
                    tally.keep(sweep, extent);
                }
                Err(what) => {
                    eprintln!("{sweep}: {name}: {what}");
                    wrong.lock().unwrap().push(format!("{name}: {what}"));
                }
            }
        }
    });
    each.await;
    let wrong = wrong.into_inner().unwrap();
    eprintln!("{sweep}: {total} runs in {:?}, {} wrong", begun.elapsed(), wrong.len());
    Tally::publish(extent);
    assert!(wrong.is_empty(), "{sweep}: {} of {total} runs ended wrong:\n{}", wrong.len(), wrong.join("\n"));
}
