//! The two digests that backups are checked by: SHA-256 of stored bytes, and the fingerprint of rows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// SHA-256 (FIPS 180-4) of stored bytes; 64 lower-case hexadecimal digits in documents.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest from its 32 raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

/// A text that is not a digest of the expected form.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a digest: {expected} lower-case hexadecimal digits are wanted")]
pub struct DigestParseError {
    text: String,
    expected: usize,
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], DigestParseError> {
    // Bounded, so that a hostile document can't make the error itself large.
    let refuse = || DigestParseError { text: text.chars().take(80).collect(), expected: 2 * N };
    if text.len() != 2 * N || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(refuse());
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| refuse())?;
    Ok(bytes)
}

impl FromStr for Sha256Digest {
    type Err = DigestParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_hex(text).map(Self)
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Row count, and the sum modulo 2^128 of a 128-bit hash (XXH3) of each row's COPY tuple.
///
/// Independent of the order of rows and of how a table is split: fingerprints of spans add up to the
/// fingerprint of the table. A sum, never XOR: under XOR equal rows cancel in pairs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Fingerprint {
    /// Rows counted.
    pub rows: u64,
    /// Sum modulo 2^128 of the rows' hashes.
    pub sum: u128,
}

impl Fingerprint {
    /// The fingerprint of no rows.
    pub const EMPTY: Self = Self { rows: 0, sum: 0 };

    /// Counts one row whose tuple hashes to `hash`.
    #[inline]
    pub const fn add_row(&mut self, hash: u128) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash);
    }

    /// The fingerprint of the rows of both.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { rows: self.rows.saturating_add(other.rows), sum: self.sum.wrapping_add(other.sum) }
    }
}

impl std::iter::Sum for Fingerprint {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::EMPTY, Self::plus)
    }
}

/// For people: what was counted, and the sum of the hashes in hexadecimal.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.rows == 1 { "row" } else { "rows" };
        write!(f, "{} {noun} with hash {:032x}", self.rows, self.sum)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows, {:032x}", self.rows, self.sum)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FingerprintDocument {
    rows: u64,
    sum: String,
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Hexadecimal text: JSON numbers of other readers lose bits past 2^53.
        FingerprintDocument { rows: self.rows, sum: format!("{:032x}", self.sum) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = FingerprintDocument::deserialize(deserializer)?;
        let sum = parse_hex::<16>(&document.sum).map_err(serde::de::Error::custom)?;
        Ok(Self { rows: document.rows, sum: u128::from_be_bytes(sum) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sha256_is_the_one_of_the_standard() {
        // FIPS 180-4, example "abc".
        assert_eq!(
            Sha256Digest::of(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_fingerprint_is_read_as_rows_and_a_hash() {
        let one = Fingerprint { rows: 1, sum: 0xfeed };
        assert_eq!(one.to_string(), "1 row with hash 0000000000000000000000000000feed");
        assert_eq!(Fingerprint::EMPTY.to_string(), format!("0 rows with hash {}", "0".repeat(32)));
    }

    #[test]
    fn digests_of_the_wrong_form_are_refused() {
        for text in ["", "ab", &"g".repeat(64), &"A".repeat(64), &"é".repeat(32)] {
            assert!(text.parse::<Sha256Digest>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_fingerprint_does_not_depend_on_order_or_splits(hashes: Vec<u128>, at: prop::sample::Index) {
            let of = |part: &[u128]| {
                let mut all = Fingerprint::EMPTY;
                part.iter().for_each(|hash| all.add_row(*hash));
                all
            };
            let cut = if hashes.is_empty() { 0 } else { at.index(hashes.len()) };
            let reversed: Vec<u128> = hashes.iter().rev().copied().collect();
            prop_assert_eq!(of(&hashes), of(&hashes[..cut]).plus(of(&hashes[cut..])));
            prop_assert_eq!(of(&hashes), of(&reversed));
        }

        #[test]
        fn fingerprints_survive_json(rows: u64, sum: u128) {
            let fingerprint = Fingerprint { rows, sum };
            let json = serde_json::to_string(&fingerprint).unwrap();
            prop_assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), fingerprint);
        }
    }
}
