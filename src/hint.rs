//! What to do about a failure, in the words of whoever asked: flags of a command line, or fields of a resource.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// How a command got its settings: by which names its reader knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayIn {
    /// By flags: `--store-ca`.
    Flags,
    /// By the fields of a resource, in Kubernetes or by `run -f`: `caSecret`.
    Fields,
}

impl WayIn {
    /// The text of the two that suits.
    #[must_use]
    pub const fn says(self, flags: &'static str, fields: &'static str) -> &'static str {
        match self {
            Self::Flags => flags,
            Self::Fields => fields,
        }
    }
}

/// A hint that is kept until it is known who reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hint {
    flags: Cow<'static, str>,
    fields: Cow<'static, str>,
}

impl Hint {
    /// A hint that names settings: as flags, and as fields.
    pub fn of(flags: impl Into<Cow<'static, str>>, fields: impl Into<Cow<'static, str>>) -> Self {
        Self { flags: flags.into(), fields: fields.into() }
    }

    /// The text for one way in.
    #[must_use]
    pub fn said(&self, way: WayIn) -> &str {
        match way {
            WayIn::Flags => &self.flags,
            WayIn::Fields => &self.fields,
        }
    }
}

/// A hint that names no setting is the same for everybody.
impl From<&'static str> for Hint {
    fn from(text: &'static str) -> Self {
        Self::of(text, text)
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Self {
        Self::of(text.clone(), text)
    }
}
