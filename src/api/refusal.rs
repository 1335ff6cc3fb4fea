//! What is wrong with a document, all of it at once: a person mends a file in one go, not error by error.

use std::fmt;

/// How a field is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refused {
    /// The API has no such field.
    UnknownField,
    /// It has to be there.
    Missing,
    /// It has another type than the API's.
    WrongType,
    /// It is beyond a bound, or not of the field's form.
    Invalid,
    /// It contradicts another field.
    Conflict,
    /// The API has it, and this version can't do it yet.
    NotBuiltYet,
}

impl Refused {
    reasons! {
        /// The stable CamelCase word.
        pub words {
            Self::UnknownField => "UnknownField",
            Self::Missing => "Missing",
            Self::WrongType => "WrongType",
            Self::Invalid => "Invalid",
            Self::Conflict => "Conflict",
            Self::NotBuiltYet => "NotBuiltYet",
        }
        passed_on {}
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message} ({hint})")]
pub struct Refusal {
    /// Where: `spec.destinations[eu].s3.bucket`. An item of a list-map is named by its key.
    pub field: String,
    /// How.
    pub refused: Refused,
    /// What is wrong, for a person.
    pub message: String,
    /// What the reader can do.
    pub hint: String,
}

/// Everything that is wrong with one document; as an error never empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusals(Vec<Refusal>);

impl Refusals {
    pub(super) fn add(
        &mut self,
        refused: Refused,
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (field, message, hint) = (field.into(), message.into(), hint.into());
        self.0.push(Refusal { field, refused, message, hint });
    }

    pub(super) fn invalid(
        &mut self,
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Refused::Invalid, field, message, hint);
    }

    pub(super) fn conflict(
        &mut self,
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Refused::Conflict, field, message, hint);
    }

    /// Refuses a field by name if `present`.
    pub(super) fn not_built_yet(&mut self, present: bool, field: impl Into<String>, hint: &str) {
        if present {
            self.add(Refused::NotBuiltYet, field, "this version can't do that yet", hint);
        }
    }

    /// Takes over what `other` found, except about fields that are refused already: the first to
    /// speak about a field says it best.
    pub(super) fn absorb(&mut self, other: Refusals) {
        for refusal in other.0 {
            if !self.0.iter().any(|r| r.field == refusal.field) {
                self.0.push(refusal);
            }
        }
    }

    /// Sorted by field, so that the same document is always refused in the same words.
    pub(super) fn into_result<T>(mut self, value: Option<T>) -> Result<T, Refusals> {
        self.0.sort_by(|a, b| a.field.cmp(&b.field));
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => {
                debug_assert!(!self.0.is_empty(), "a value is only given up with a refusal");
                Err(self)
            }
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much is wrong.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each thing that is wrong, sorted by field.
    pub fn iter(&self) -> std::slice::Iter<'_, Refusal> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Refusals {
    type Item = &'a Refusal;
    type IntoIter = std::slice::Iter<'a, Refusal>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, refusal) in self.0.iter().enumerate() {
            let line = if i == 0 { "" } else { "\n" };
            write!(f, "{line}{refusal}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusals {}
