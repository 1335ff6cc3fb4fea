//! Localities as CockroachDB writes them, and which destination takes one.
//!
//! A locality is an ordered list of tiers, `region=eu-west1,zone=b`. Each tier's key maps to a node
//! label and its value is that label's value, so both have to fit Kubernetes' label syntax.

use std::fmt;
use std::str::FromStr;

/// How many tiers a locality may have. CockroachDB's own deepest example (cloud, region, zone, rack,
/// host) has five; eight leaves room and keeps every text below [`MAX_TEXT`].
pub const MAX_TIERS: usize = 8;

/// The longest key and the longest value, in bytes: Kubernetes' limit on label names and values.
pub const MAX_PART: usize = 63;

/// The longest locality text, in bytes: [`MAX_TIERS`] tiers of `key=value`, and the commas between.
pub const MAX_TEXT: usize = MAX_TIERS * (MAX_PART + 1 + MAX_PART) + (MAX_TIERS - 1);

/// One `key=value` of a locality. Absent: Strict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Tier {
    key: String,
    value: String,
}

/// Ordered tiers, the widest first. Never empty: "no locality" is `Option::None`.
///
/// The text form is canonical: parsing and printing are inverse, so equal texts are equal localities.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    tiers: Vec<Tier>,
}

/// Why a text is not a locality. Every message names the text, and what in it is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalityError {
    /// Nothing between the quotes.
    #[error("a locality can't be empty; leave the field out for no locality")]
    Empty,
    /// Longer than [`MAX_TEXT`] bytes.
    #[error("a locality of {bytes} bytes is longer than {MAX_TEXT}")]
    TooLong {
        /// The length of the text in bytes.
        bytes: usize,
    },
    /// More than [`MAX_TIERS`] tiers.
    #[error("locality `{text}` has {tiers} tiers, at most {MAX_TIERS} are taken")]
    TooManyTiers {
        /// The text as given.
        text: String,
        /// How many tiers it has.
        tiers: usize,
    },
    /// A tier without `=`, or with several.
    #[error("tier `{tier}` of locality `{text}` is not `key=value`")]
    NotKeyValue {
        /// The text as given.
        text: String,
        /// The tier in question.
        tier: String,
    },
    /// A key or value that could not be a label's.
    #[error(
        "{part} `{found}` of locality `{text}` doesn't fit a node label: 1 to 63 of A-Z a-z 0-9 - _ . \
         that begin and end with a letter or digit"
    )]
    NotALabel {
        /// The text as given.
        text: String,
        /// `key` or `value`.
        part: &'static str,
        /// The key or value in question.
        found: String,
    },
    /// The same key in two tiers.
    #[error("locality `{text}` names the tier `{key}` twice")]
    RepeatedKey {
        /// The text as given.
        text: String,
        /// The key in question.
        key: String,
    },
}

/// Whether `text` fits a Kubernetes label value, or the name part of a label key: 1 to 63 bytes.
#[must_use]
pub fn is_label_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    bytes.len() <= MAX_PART
        && first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

impl FromStr for Locality {
    type Err = LocalityError;

    fn from_str(text: &str) -> Result<Self, LocalityError> {
        if text.is_empty() {
            return Err(LocalityError::Empty);
        }
        // Before anything is copied into an error: the text may be anybody's.
        if text.len() > MAX_TEXT {
            return Err(LocalityError::TooLong { bytes: text.len() });
        }
        let written = text.split(',').count();
        if written > MAX_TIERS {
            return Err(LocalityError::TooManyTiers { text: text.into(), tiers: written });
        }
        let mut tiers: Vec<Tier> = Vec::with_capacity(written);
        for tier in text.split(',') {
            let (key, value) = match tier.split_once('=') {
                Some((key, value)) if !value.contains('=') => (key, value),
                _ => return Err(LocalityError::NotKeyValue { text: text.into(), tier: tier.into() }),
            };
            for (part, found) in [("key", key), ("value", value)] {
                if !is_label_part(found) {
                    return Err(LocalityError::NotALabel { text: text.into(), part, found: found.into() });
                }
            }
            if tiers.iter().any(|t| t.key == key) {
                return Err(LocalityError::RepeatedKey { text: text.into(), key: key.into() });
            }
            tiers.push(Tier { key: key.into(), value: value.into() });
        }
        Ok(Locality { tiers })
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Tier { key, value }) in self.tiers.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

impl serde::Serialize for Locality {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Locality {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Locality {
    /// The tiers as `(key, value)`, the widest first. At least one.
    pub fn tiers(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.tiers.iter().map(|t| (t.key.as_str(), t.value.as_str()))
    }

    /// Whether all tiers of `self` are the first tiers of `other`, in order. Every locality is a
    /// prefix of itself.
    #[must_use]
    pub fn is_prefix_of(&self, other: &Locality) -> bool {
        other.tiers.starts_with(&self.tiers)
    }
}

/// What happens to a locality that no destination takes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub enum LocalityPolicy {
    /// It is an error. The default: data must not leave its place because of a typing error.
    #[default]
    Strict,
    /// It goes to the default destination, and the status says so.
    Default,
}

/// The destination chosen for a locality, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The destination's name.
    pub name: &'a str,
    /// Why this one.
    pub because: Because,
}

/// Why a destination was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// Its tiers are the longest prefix of the locality's.
    LongestPrefix,
    /// There is no locality, so the default destination takes it.
    NoLocality,
    /// No destination takes the locality, and [`LocalityPolicy::Default`] sends it to the default
    /// one. Whoever reports the choice must say so.
    PolicyDefault,
}

/// Why no destination could be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDestination {
    /// [`LocalityPolicy::Strict`], and no destination's tiers are a prefix of the locality's.
    #[error("no destination takes locality `{locality}`; there are: {}", there_are.join(", "))]
    Unmatched {
        /// The locality that nobody takes.
        locality: Locality,
        /// The destinations there are, each as `name (locality)`.
        there_are: Vec<String>,
    },
    /// No destination is the default one. A validated store always has exactly one.
    #[error("no destination is the default one")]
    NoDefault,
    /// Two destinations declare the same locality. A validated store never has them.
    #[error("destinations `{one}` and `{other}` both declare locality `{locality}`")]
    Tie {
        /// The first of them.
        one: String,
        /// The second of them.
        other: String,
        /// What both declare.
        locality: Locality,
    },
}

/// Chooses the destination that takes `locality`.
///
/// `destinations` are `(name, locality, is the default one)`. A destination takes a locality when all
/// its tiers are a prefix of that locality's; the longest wins. No locality: the default destination.
/// A destination without a locality takes none by matching, not even as an "empty prefix": otherwise
/// [`LocalityPolicy::Strict`] could never refuse anything.
///
/// # Errors
/// See [`NoDestination`].
pub fn choose_destination<'a>(
    destinations: &[(&'a str, Option<&Locality>, bool)],
    locality: Option<&Locality>,
    policy: LocalityPolicy,
) -> Result<Choice<'a>, NoDestination> {
    let the_default = || {
        let found = destinations.iter().find(|(_, _, default)| *default);
        found.map(|(name, _, _)| *name).ok_or(NoDestination::NoDefault)
    };
    let Some(wanted) = locality else {
        return Ok(Choice { name: the_default()?, because: Because::NoLocality });
    };
    let mut best: Option<(&'a str, &Locality)> = None;
    for (name, declared, _) in destinations {
        let Some(declared) = declared else { continue };
        if !declared.is_prefix_of(wanted) {
            continue;
        }
        match best {
            Some((_, so_far)) if so_far.tiers.len() > declared.tiers.len() => {}
            // Two prefixes of one locality that are equally long are equal.
            Some((one, so_far)) if so_far.tiers.len() == declared.tiers.len() => {
                let (one, other) = (one.to_owned(), (*name).to_owned());
                return Err(NoDestination::Tie { one, other, locality: so_far.clone() });
            }
            _ => best = Some((name, declared)),
        }
    }
    match (best, policy) {
        (Some((name, _)), _) => Ok(Choice { name, because: Because::LongestPrefix }),
        (None, LocalityPolicy::Default) => {
            Ok(Choice { name: the_default()?, because: Because::PolicyDefault })
        }
        (None, LocalityPolicy::Strict) => {
            let there_are = destinations.iter().map(|(name, declared, _)| match declared {
                Some(declared) => format!("{name} ({declared})"),
                None => format!("{name} (no locality)"),
            });
            Err(NoDestination::Unmatched { locality: wanted.clone(), there_are: there_are.collect() })
        }
    }
}

#[cfg(test)]
#[path = "locality_tests.rs"]
mod tests;
