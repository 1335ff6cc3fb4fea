//! Which requests a fault meets.

use std::ops::Range;

use rand::{Rng, SeedableRng};

use super::Operation;

/// Which requests a fault meets. Counting starts at 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// Requests by their number among all: one of them is `n..n + 1`, an outage is longer.
    Requests(Range<u64>),
    /// Requests by their number among those of one operation.
    Of(Operation, Range<u64>),
    /// From one request on, that is found whatever other tasks do meanwhile: by its number among those of one
    /// operation on objects of one kind of name.
    From {
        /// The operation.
        operation: Operation,
        /// The kind of name.
        name: Name,
        /// The number.
        nth: u64,
        /// How far the fault goes from there.
        reach: Reach,
    },
    /// About so many of a thousand requests, the same ones for the same seed and order of requests.
    Random {
        /// Of a thousand.
        per_thousand: u32,
        /// Where the sequence starts.
        seed: u64,
    },
}

/// A kind of name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Names that contain this.
    Containing(String),
    /// Names that end with this.
    Ending(String),
}

impl Name {
    fn is_of(&self, object: &str) -> bool {
        match self {
            Self::Containing(part) => object.contains(part.as_str()),
            Self::Ending(end) => object.ends_with(end.as_str()),
        }
    }
}

/// How far a fault goes from the request that it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// That request alone.
    Once,
    /// That request and those of the same operation on the same object after it, so many in all: the request
    /// with its retries, while everything else passes.
    SameObject(u64),
    /// Every request from there on.
    Everything,
}

impl When {
    /// Whether the last of `requests` is met.
    pub(super) fn meets(&self, requests: &[(Operation, String)]) -> bool {
        let Some((last, earlier)) = requests.split_last() else { return false };
        let request = earlier.len() as u64;
        match self {
            Self::Requests(range) => range.contains(&request),
            Self::Of(only, range) => {
                let nth = earlier.iter().filter(|(other, _)| *other == last.0).count() as u64;
                *only == last.0 && range.contains(&nth)
            }
            Self::From { operation, name, nth, reach } => {
                let nth = usize::try_from(*nth).unwrap_or(usize::MAX);
                let of_kind =
                    |(other, object): &(Operation, String)| other == operation && name.is_of(object);
                let Some(first) =
                    requests.iter().enumerate().filter(|(_, it)| of_kind(it)).map(|(at, _)| at).nth(nth)
                else {
                    return false;
                };
                match reach {
                    Reach::Once => first == earlier.len(),
                    Reach::SameObject(times) => {
                        let same =
                            requests[first..].iter().filter(|other| **other == requests[first]).count();
                        *last == requests[first] && same as u64 <= *times
                    }
                    Reach::Everything => true,
                }
            }
            Self::Random { per_thousand, seed } => {
                // From seed and number alone: what other tasks did meanwhile changes nothing.
                rand::rngs::StdRng::seed_from_u64(seed.wrapping_add(request.wrapping_mul(0x9e37_79b9)))
                    .random_ratio((*per_thousand).min(1_000), 1_000)
            }
        }
    }
}
