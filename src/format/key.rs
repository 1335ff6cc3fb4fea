//! Names of objects below a destination's prefix. Keys are generated here and never joined from text that
//! a bucket holds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest key, in bytes. S3 and GCS allow 1,024 with the prefix; 400 leaves room for any prefix we accept.
pub const MAX_KEY_BYTES: usize = 400;

/// Name of an object: segments of `[A-Za-z0-9._-]`, joined by `/`, none of them empty, `.` or `..`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

/// A text that cannot name an object.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not the name of an object: {1}")]
pub struct KeyError(String, &'static str);

impl Key {
    /// Parses a key.
    ///
    /// # Errors
    /// Refuses absolute names, `.` and `..`, empty segments, characters outside `[A-Za-z0-9._/-]`, and more
    /// than [`MAX_KEY_BYTES`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let refuse = |why| Err(KeyError(text.chars().take(120).collect(), why));
        if text.len() > MAX_KEY_BYTES {
            return refuse("longer than 400 bytes");
        }
        for segment in text.split('/') {
            match segment {
                "" => return refuse("an empty segment"),
                "." | ".." => return refuse("a segment that climbs"),
                _ if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) => {
                    return refuse("a character other than letters, digits, '.', '_', '-' and '/'");
                }
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the key lies below `prefix`, which ends at a segment boundary.
    #[must_use]
    pub fn is_below(&self, prefix: &Self) -> bool {
        self.0.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The last segment.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Only for text that this module has made itself.
    fn generated(text: String) -> Self {
        debug_assert!(Self::parse(&text).is_ok(), "generated an unusable key {text}");
        Self(text)
    }

    /// `collection.json`: identity of the collection.
    #[must_use]
    pub fn collection() -> Self {
        Self::generated("collection.json".into())
    }

    /// `copy.json`: what marks a copy of a collection.
    #[must_use]
    pub fn copy() -> Self {
        Self::generated("copy.json".into())
    }

    /// `runs`: everything of all runs.
    #[must_use]
    pub fn runs() -> Self {
        Self::generated("runs".into())
    }

    /// `runs/<n>`: everything of one run. Eight digits, so that names sort as numbers.
    #[must_use]
    pub fn run_prefix(run: u32) -> Self {
        Self::generated(format!("runs/{run:08}"))
    }

    /// `runs/<n>/run.json`: the claim.
    #[must_use]
    pub fn run(run: u32) -> Self {
        Self::generated(format!("runs/{run:08}/run.json"))
    }

    /// `runs/<n>/outcome.json`: the register.
    #[must_use]
    pub fn outcome(run: u32) -> Self {
        Self::generated(format!("runs/{run:08}/outcome.json"))
    }

    /// `runs/<n>/retired.json`: a prune means to retire the run.
    #[must_use]
    pub fn retired(run: u32) -> Self {
        Self::generated(format!("runs/{run:08}/retired.json"))
    }

    /// `runs/<n>/copied.json`: all of the run lies in this copy.
    #[must_use]
    pub fn copied(run: u32) -> Self {
        Self::generated(format!("runs/{run:08}/copied.json"))
    }

    /// Whether this is an object that may go once run `run` is retired or void: what lies below one of its plans, and
    /// signs of life. Claim, turns, outcome and `retired.json` are the collection's history, and stay.
    #[must_use]
    pub fn may_go_with(&self, run: u32) -> bool {
        let below = Self::run_prefix(run);
        let rest = self.0.strip_prefix(below.as_str()).and_then(|rest| rest.strip_prefix('/'));
        rest.and_then(|rest| rest.split_once('/'))
            .is_some_and(|(folder, _)| folder == "beats" || folder.parse::<PlanId>().is_ok())
    }

    /// `runs/<n>/attempts/<k>.json`
    #[must_use]
    pub fn attempt(run: u32, attempt: u32) -> Self {
        Self::generated(format!("runs/{run:08}/attempts/{attempt:06}.json"))
    }

    /// `runs/<n>/beats/<attempt>-<i>.json`
    #[must_use]
    pub fn beat(run: u32, attempt: u32, beat: u64) -> Self {
        Self::generated(format!("runs/{run:08}/beats/{attempt:06}-{beat:010}.json"))
    }

    /// `runs/<n>/beats`, to list them.
    #[must_use]
    pub fn beats(run: u32) -> Self {
        Self::generated(format!("runs/{run:08}/beats"))
    }

    /// `runs/<n>/<plan>`: everything of one plan.
    #[must_use]
    pub fn plan_prefix(run: u32, plan: &PlanId) -> Self {
        Self::generated(format!("runs/{run:08}/{plan}"))
    }

    /// An object directly below a plan, such as `plan.json.zst` or `part.json`.
    #[must_use]
    pub fn of_plan(run: u32, plan: &PlanId, document: PlanDocument) -> Self {
        Self::generated(format!("runs/{run:08}/{plan}/{}", document.name()))
    }

    /// `verdicts/<nonce>.json`
    #[must_use]
    pub fn verdict(run: u32, plan: &PlanId, nonce: &Nonce) -> Self {
        Self::generated(format!("runs/{run:08}/{plan}/verdicts/{nonce}.json"))
    }

    /// `receipts/<ticket>.<random>.json`
    #[must_use]
    pub fn receipt(run: u32, plan: &PlanId, ticket: u32, attempt: &Nonce) -> Self {
        Self::generated(format!("runs/{run:08}/{plan}/receipts/{ticket:08}.{attempt}.json"))
    }

    /// `receipts`, to list them.
    #[must_use]
    pub fn receipts(run: u32, plan: &PlanId) -> Self {
        Self::generated(format!("runs/{run:08}/{plan}/receipts"))
    }

    /// `data`, to list it.
    #[must_use]
    pub fn all_data(run: u32, plan: &PlanId) -> Self {
        Self::generated(format!("runs/{run:08}/{plan}/data"))
    }

    /// `data/<table id>/<ticket>.<random>.pgcopy.zst`
    #[must_use]
    pub fn data(run: u32, plan: &PlanId, table: u32, ticket: u32, attempt: &Nonce) -> Self {
        Self::generated(format!("runs/{run:08}/{plan}/data/{table:06}/{ticket:08}.{attempt}.pgcopy.zst"))
    }

    /// `schema/<endpoint number>.<ticket>.<random>.dump`: one archive in pg_dump's custom format.
    #[must_use]
    pub fn schema(run: u32, plan: &PlanId, endpoint: u32, ticket: u32, attempt: &Nonce) -> Self {
        Self::generated(format!("runs/{run:08}/{plan}/schema/{endpoint}.{ticket:08}.{attempt}.dump"))
    }

    /// `schema/roles.<ticket>.<random>.json` and `schema/sequences.<ticket>.<random>.json`
    #[must_use]
    pub fn catalog(run: u32, plan: &PlanId, what: &'static str, ticket: u32, attempt: &Nonce) -> Self {
        Self::generated(format!("runs/{run:08}/{plan}/schema/{what}.{ticket:08}.{attempt}.json"))
    }

    /// `objects/<ticket>.<random>.lo.zst`: large objects.
    #[must_use]
    pub fn large_objects(run: u32, plan: &PlanId, ticket: u32, attempt: &Nonce) -> Self {
        Self::generated(format!("runs/{run:08}/{plan}/objects/{ticket:08}.{attempt}.lo.zst"))
    }

    /// `probes/<nonce>`: what a probe writes, reads and deletes again.
    #[must_use]
    pub fn probe(nonce: &Nonce) -> Self {
        Self::generated(format!("probes/{nonce}"))
    }
}

/// The documents that lie directly below a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanDocument {
    /// `plan.json.zst`, in the default destination.
    Plan,
    /// `tickets.json.zst`, in every destination: the tickets of its localities.
    Tickets,
    /// `census.json.zst`, in the default destination: what only the snapshot could tell.
    Census,
    /// `part.json.zst`, in every destination.
    Part,
    /// `manifest.json.zst`, in the default destination.
    Manifest,
}

impl PlanDocument {
    const fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan.json.zst",
            Self::Tickets => "tickets.json.zst",
            Self::Census => "census.json.zst",
            Self::Part => "part.json.zst",
            Self::Manifest => "manifest.json.zst",
        }
    }
}

macro_rules! random_name {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u128);

        impl $name {
            /// From 128 random bits that the caller drew.
            #[must_use]
            pub const fn from_random(bits: u128) -> Self {
                Self(bits)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{:032x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                let refuse = || KeyError(text.chars().take(80).collect(), concat!("not ", $letter, " and 32 hexadecimal digits"));
                let digits = text.strip_prefix($letter).ok_or_else(refuse)?;
                if digits.len() != 32 || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    return Err(refuse());
                }
                u128::from_str_radix(digits, 16).map(Self).map_err(|_| refuse())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

random_name!(
    /// Random id of a plan: 128 bits, `p` and 32 hexadecimal digits. A run that must start over makes a new one.
    PlanId,
    "p"
);
random_name!(
    /// 128 random bits that tell one process, attempt or question from any other: `n` and 32 digits.
    Nonce,
    "n"
);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::parse(text)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_that_climb_or_surprise_are_refused() {
        let long = "a".repeat(401);
        for text in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a b", "a\0b", "ä", "a\\b", &long] {
            assert!(Key::parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_runs_history_never_goes() {
        let plan = PlanId::from_random(7);
        for key in [
            Key::run(3),
            Key::outcome(3),
            Key::retired(3),
            Key::copied(3),
            Key::attempt(3, 1),
            Key::collection(),
        ] {
            assert!(!key.may_go_with(3), "{key}");
        }
        assert!(Key::beat(3, 1, 1).may_go_with(3));
        assert!(Key::of_plan(3, &plan, PlanDocument::Part).may_go_with(3));
        assert!(!Key::of_plan(4, &plan, PlanDocument::Part).may_go_with(3), "another run's");
        let foreign = Key::parse("runs/00000003/elsewhere/data").unwrap();
        assert!(!foreign.may_go_with(3), "nothing that we have written");
    }

    proptest! {
        #[test]
        fn generated_keys_parse_and_lie_below_their_plan(run: u32, plan: u128, ticket: u32, table: u32, nonce: u128) {
            let (plan, nonce) = (PlanId::from_random(plan), Nonce::from_random(nonce));
            for key in [
                Key::data(run, &plan, table, ticket, &nonce),
                Key::receipt(run, &plan, ticket, &nonce),
                Key::verdict(run, &plan, &nonce),
                Key::of_plan(run, &plan, PlanDocument::Manifest),
            ] {
                prop_assert_eq!(&Key::parse(key.as_str()).unwrap(), &key);
                prop_assert!(key.is_below(&Key::plan_prefix(run, &plan)));
                prop_assert!(key.may_go_with(run));
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = Key::parse(&text);
            let _ = text.parse::<PlanId>();
        }
    }
}
