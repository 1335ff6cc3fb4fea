//! The destinations of a run, opened.

use std::sync::Arc;

use super::error::EngineError;
use crate::hint::Hint;
use crate::store::ObjectStore;

/// One bucket or folder and prefix, for one locality.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Its name, unique in the set.
    pub name: String,
    /// The localities that it takes, as `region=eu-west1`; absent: any, if it is the default.
    pub locality: Option<String>,
    /// The opened store.
    pub store: Arc<dyn ObjectStore>,
}

/// Of two destinations the one that lies inside the other, and that other one.
fn nested<'a>(one: &'a Destination, other: &'a Destination) -> Option<(&'a Destination, &'a Destination)> {
    let inside = |inner: &Destination, outer: &Destination| {
        let outer = format!("{}/", outer.store.url().trim_end_matches('/'));
        inner.store.url().starts_with(&outer)
    };
    if inside(one, other) {
        return Some((one, other));
    }
    inside(other, one).then_some((other, one))
}

/// Whether two destinations are one place, or one lies inside the other.
pub(crate) fn overlapping(one: &Destination, other: &Destination) -> bool {
    one.store.url() == other.store.url() || nested(one, other).is_some()
}

/// The destinations of a collection; exactly one is the default, and holds the register.
#[derive(Clone, Debug)]
pub struct Destinations {
    all: Vec<Destination>,
    default: usize,
}

impl Destinations {
    /// A set whose default is `all[default]`.
    ///
    /// # Errors
    /// [`EngineError::Usage`] if it is empty, a name or URL occurs twice, one destination lies inside another, or
    /// `default` is out of range.
    pub fn new(all: Vec<Destination>, default: usize) -> Result<Self, EngineError> {
        if default >= all.len() {
            return Err(EngineError::usage(
                "no default destination",
                Hint::of("name at least one --store", "set default: true in one of spec.destinations"),
            ));
        }
        for (position, destination) in all.iter().enumerate() {
            for earlier in &all[..position] {
                if earlier.name == destination.name || earlier.store.url() == destination.store.url() {
                    let message = format!(
                        "destination {} ({}) is named twice",
                        destination.name,
                        destination.store.url()
                    );
                    return Err(EngineError::usage(
                        message,
                        Hint::of(
                            "give each --store a locality, and a bucket or prefix, of its own",
                            "give each of spec.destinations a locality, and a bucket or prefix, of its own",
                        ),
                    ));
                }
                if let Some((inner, outer)) = nested(destination, earlier) {
                    let message = format!(
                        "destination {} ({}) lies inside destination {} ({})",
                        inner.name,
                        inner.store.url(),
                        outer.name,
                        outer.store.url()
                    );
                    return Err(EngineError::usage(
                        message,
                        Hint::of(
                            "give each --store a bucket or prefix that holds no other's",
                            "give each of spec.destinations a bucket or prefix that holds no other's",
                        ),
                    ));
                }
            }
        }
        Ok(Self { all, default })
    }

    /// All destinations, in the order in which they were given.
    #[must_use]
    pub fn all(&self) -> &[Destination] {
        &self.all
    }

    /// The one that holds the register.
    #[must_use]
    pub fn default(&self) -> &Destination {
        // `new` has checked the position, and the set never changes.
        &self.all[self.default]
    }

    /// Whether `name` is the default.
    #[must_use]
    pub fn is_default(&self, name: &str) -> bool {
        self.default().name == name
    }

    /// The destination of that name.
    ///
    /// # Errors
    /// [`EngineError::DestinationMissing`]: a backup names its destinations, and all must be given.
    pub fn named(&self, name: &str) -> Result<&Destination, EngineError> {
        self.all
            .iter()
            .find(|destination| destination.name == name)
            .ok_or_else(|| EngineError::DestinationMissing(name.to_owned()))
    }
}
