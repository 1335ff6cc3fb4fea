//! One candidate by a table, and several with clocks that differ, answers that are late and answers that are lost.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

const T: Timing = Timing {
    duration: Duration::from_secs(15),
    renew_within: Duration::from_secs(10),
    retry: Duration::from_secs(2),
};

fn s(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

fn record(holder: Option<&str>, renewed: i64, version: u32) -> Record {
    Record {
        holder: holder.map(str::to_owned),
        acquired: None,
        renewed: Some(Timestamp::from_second(renewed).unwrap()),
        duration: s(15),
        transitions: 3,
        version: version.to_string(),
    }
}

fn replace(version: u32, transitions: i32) -> Act {
    Act::Replace { version: version.to_string(), acquired: None, transitions }
}

#[rstest]
#[case::no_lease(None, 100, Act::Create)]
#[case::held_by_another(Some(record(Some("b"), 5, 1)), 100 + 14, Act::Wait)]
#[case::not_renewed_in_time(Some(record(Some("b"), 5, 1)), 100 + 15, replace(1, 4))]
#[case::released(Some(record(None, 5, 1)), 100, replace(1, 4))]
#[case::mine(Some(record(Some("a"), 5, 1)), 100, replace(1, 3))]
// Another's clock says nothing: a time in the future keeps nobody out for longer, one in the past for no less.
#[case::renewed_in_the_future(Some(record(Some("b"), 4_000_000_000, 1)), 100 + 15, replace(1, 4))]
#[case::renewed_long_ago(Some(record(Some("b"), -4_000_000_000, 1)), 100 + 14, Act::Wait)]
#[case::a_longer_duration_is_respected(
    Some(Record { duration: s(60), ..record(Some("b"), 5, 1) }), 100 + 59, Act::Wait
)]
#[case::a_forged_duration_is_not(
    Some(Record { duration: s(1 << 30), ..record(Some("b"), 5, 1) }), 100 + 600, replace(1, 4)
)]
#[case::no_duration_is_the_own(Some(Record { duration: s(0), ..record(Some("b"), 5, 1) }), 100 + 14, Act::Wait)]
fn what_is_seen_at_100_s(#[case] found: Option<Record>, #[case] now: u64, #[case] act: Act) {
    let mut candidate = Candidate::new("a".into(), T);
    candidate.saw(found, s(100));
    assert_eq!(candidate.decide(s(now)), act);
    assert_eq!(candidate.leads_until(), None, "nobody leads by looking");
}

#[test]
fn every_renewal_seen_begins_the_wait_anew_and_other_changes_do_not() {
    let mut candidate = Candidate::new("a".into(), T);
    candidate.saw(Some(record(Some("b"), 5, 1)), s(100));
    candidate.saw(Some(record(Some("b"), 6, 2)), s(110));
    assert_eq!(candidate.decide(s(124)), Act::Wait);
    // An annotation: another version, the same renewal.
    candidate.saw(Some(record(Some("b"), 6, 3)), s(124));
    assert_eq!(candidate.decide(s(125)), replace(3, 4));
}

#[test]
fn a_holder_leads_from_before_it_asked() {
    let mut candidate = Candidate::new("a".into(), T);
    candidate.wrote(record(Some("a"), 5, 1), s(100), s(104));
    assert_eq!(candidate.leads_until(), Some(s(110)));
    assert!(candidate.holds());
    candidate.was_refused();
    assert!(!candidate.holds(), "it looks before the next write");
    assert_eq!(candidate.leads_until(), Some(s(110)), "and leads no longer than it was promised");
    candidate.saw(Some(record(Some("b"), 6, 2)), s(105));
    assert_eq!(candidate.leads_until(), None);
    assert_eq!(candidate.release(), None, "another's is not released");
}

#[test]
fn a_lease_that_was_deleted_keeps_out_as_long_as_its_holder_may_lead() {
    let mut candidate = Candidate::new("a".into(), T);
    candidate.saw(Some(record(Some("b"), 5, 1)), s(100));
    candidate.saw(None, s(110));
    candidate.saw(None, s(112));
    assert_eq!(candidate.decide(s(124)), Act::Wait);
    assert_eq!(candidate.decide(s(125)), Act::Create);
}

/// What one candidate waits for.
#[derive(Clone, Debug)]
enum Request {
    None,
    /// Sent, and not at the server yet.
    Read,
    Write {
        act: Act,
        asked: Moment,
    },
    /// Answered, and the answer is under way.
    ReadAnswer(Option<Record>),
    WriteAnswer {
        answer: Option<Record>,
        asked: Moment,
    },
}

#[derive(Clone, Debug)]
enum Happens {
    /// A candidate sends its next request, or what it waits for comes to pass.
    Goes(usize),
    /// What it waits for is lost.
    Lost(usize),
    /// It lets go, as at the end of its process.
    Releases(usize),
    /// Somebody deletes the Lease.
    Deletes,
    /// Time passes, in milliseconds.
    Passes(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        12 => (0..3_usize).prop_map(Happens::Goes),
        1 => (0..3_usize).prop_map(Happens::Lost),
        1 => (0..3_usize).prop_map(Happens::Releases),
        1 => Just(Happens::Deletes),
        6 => (0..3_000_u64).prop_map(Happens::Passes),
        1 => (3_000..20_000_u64).prop_map(Happens::Passes),
    ]
}

/// One Lease behind an API server, and three candidates.
struct World {
    lease: Option<Record>,
    versions: u32,
    millis: u64,
    /// Each with the speed of its clock in percent, and how far it is ahead, in seconds.
    candidates: Vec<(Candidate, Request, u64, u64)>,
    deleted: bool,
}

impl World {
    fn new(timing: Timing, speeds: &[u64]) -> Self {
        let candidate = |(at, speed): (usize, &u64)| {
            let candidate = Candidate::new(format!("c{at}"), timing);
            (candidate, Request::None, *speed, 1_000 * at as u64)
        };
        let candidates = speeds.iter().enumerate().map(candidate).collect();
        Self { lease: None, versions: 0, millis: 0, candidates, deleted: false }
    }

    fn now(&self, of: usize) -> Moment {
        let (_, _, speed, ahead) = &self.candidates[of];
        s(*ahead) + Duration::from_micros(self.millis * speed * 10)
    }

    fn goes(&mut self, of: usize) {
        let now = self.now(of);
        let request = std::mem::replace(&mut self.candidates[of].1, Request::None);
        let next = match request {
            Request::None if self.candidates[of].0.holds() => {
                Request::Write { act: self.candidates[of].0.decide(now), asked: now }
            }
            Request::None => Request::Read,
            Request::Read => Request::ReadAnswer(self.lease.clone()),
            Request::ReadAnswer(found) => {
                let candidate = &mut self.candidates[of].0;
                candidate.saw(found, now);
                match candidate.decide(now) {
                    Act::Wait => Request::None,
                    act => Request::Write { act, asked: now },
                }
            }
            Request::Write { act, asked } => {
                let answer = self.serve(of, &act);
                Request::WriteAnswer { answer, asked }
            }
            Request::WriteAnswer { answer: Some(record), asked } => {
                self.candidates[of].0.wrote(record, asked, now);
                Request::None
            }
            Request::WriteAnswer { answer: None, .. } => {
                self.candidates[of].0.was_refused();
                Request::None
            }
        };
        self.candidates[of].1 = next;
    }

    fn serve(&mut self, of: usize, act: &Act) -> Option<Record> {
        let transitions = match (act, &self.lease) {
            (Act::Create, None) => 0,
            (Act::Replace { version, transitions, .. }, Some(held)) if held.version == *version => {
                *transitions
            }
            _ => return None,
        };
        self.versions += 1;
        let renewed = i64::from(self.versions);
        self.lease = Some(Record { transitions, ..record(Some(&format!("c{of}")), renewed, self.versions) });
        self.lease.clone()
    }

    fn releases(&mut self, of: usize) {
        let Some(release) = self.candidates[of].0.release() else { return };
        if let Some(held) = self.lease.clone().filter(|held| held.version == release.version) {
            self.versions += 1;
            self.lease = Some(Record { holder: None, version: self.versions.to_string(), ..held });
        }
    }

    fn happens(&mut self, what: &Happens) {
        match what {
            Happens::Goes(of) => self.goes(*of),
            Happens::Lost(of) => self.candidates[*of].1 = Request::None,
            Happens::Releases(of) => self.releases(*of),
            // One that has never seen a Lease can't know that there was one, and that its holder leads on; and who
            // waits for the end of one can't know of another that came and went between two looks.
            Happens::Deletes => {
                if !self.deleted && self.candidates.iter().all(|(candidate, ..)| candidate.seen.is_some()) {
                    self.deleted = true;
                    self.lease = None;
                }
            }
            Happens::Passes(millis) => self.millis += millis,
        }
    }

    fn leaders(&self) -> Vec<usize> {
        let leads = |of: &usize| {
            let until = self.candidates[*of].0.leads_until();
            until.is_some_and(|until| self.now(*of) < until)
        };
        (0..self.candidates.len()).filter(leads).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_two_lead_at_once_whatever_is_late_or_lost(
        speeds in proptest::collection::vec(85..120_u64, 3),
        story in proptest::collection::vec(happens(), 1..400),
    ) {
        let mut world = World::new(T, &speeds);
        for what in &story {
            world.happens(what);
            let leaders = world.leaders();
            prop_assert!(leaders.len() < 2, "{leaders:?} lead at {} ms", world.millis);
        }
    }

    #[test]
    fn when_all_others_are_silent_one_leads_soon(
        story in proptest::collection::vec(happens(), 0..200),
        of in 0..3_usize,
    ) {
        let mut world = World::new(T, &[100, 100, 100]);
        for what in &story {
            world.happens(what);
        }
        // A request that is under way, a look, the wait, a look and a write: a try each second.
        for _ in 0..50 {
            world.goes(of);
            world.millis += 1_000;
        }
        prop_assert_eq!(world.leaders(), vec![of]);
    }
}

/// The search above sees what it looks for: a holder that leads on for longer than others wait.
#[test]
fn two_leaders_are_noticed() {
    let mut world = World::new(Timing { renew_within: s(30), ..T }, &[100, 100]);
    let goes = |world: &mut World, of: usize, steps: u32| (0..steps).for_each(|_| world.goes(of));
    // A look and a write are five steps, a look that finds another is three.
    goes(&mut world, 0, 5);
    assert_eq!(world.leaders(), [0]);
    goes(&mut world, 1, 3);
    world.millis += 16_000;
    goes(&mut world, 1, 5);
    assert_eq!(world.leaders(), [0, 1]);
}
