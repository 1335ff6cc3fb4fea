//! How far a run is, for people. Nothing is decided by it.

use std::sync::Arc;

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Opening stores and source, and planning.
    Resolve,
    /// Exporting tickets.
    Export,
    /// Counting every table in the snapshot.
    Count,
    /// Writing parts and manifest.
    Write,
    /// Reading everything back.
    Verify,
    /// Sealing.
    Seal,
    /// Copying to another place.
    Copy,
    /// Restoring the schema.
    Schema,
    /// Loading rows.
    Load,
    /// Indexes, constraints and what follows.
    Finish,
    /// Comparing the restored tables.
    Compare,
}

/// One observation.
#[derive(Clone, Debug)]
pub enum Report {
    /// A stage began, with so many tickets (or tables) and, if known, bytes ahead.
    Began {
        /// The stage.
        stage: Stage,
        /// Tickets or tables ahead.
        items: u64,
        /// Bytes ahead, 0 if unknown.
        bytes: u64,
    },
    /// Some were done.
    Advanced {
        /// The stage.
        stage: Stage,
        /// Tickets or tables done.
        items: u64,
        /// Bytes done.
        bytes: u64,
    },
    /// Something worth a line.
    Note(String),
    /// A server is read.
    Server {
        /// The endpoint's name.
        endpoint: String,
        /// The server's version as it names itself.
        version: String,
    },
}

type Listener = dyn Fn(Report) + Send + Sync;

/// Where observations go.
#[derive(Clone)]
pub struct Progress(Arc<Listener>);

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

impl Progress {
    /// Sends observations to `listener`, which must not block.
    pub fn new(listener: impl Fn(Report) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    /// Drops observations.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(|_| {})
    }

    /// Passes an observation on.
    pub fn report(&self, report: Report) {
        (self.0)(report);
    }

    pub(crate) fn begin(&self, stage: Stage, items: u64, bytes: u64) {
        (self.0)(Report::Began { stage, items, bytes });
    }

    pub(crate) fn advance(&self, stage: Stage, items: u64, bytes: u64) {
        (self.0)(Report::Advanced { stage, items, bytes });
    }

    pub(crate) fn note(&self, text: impl Into<String>) {
        (self.0)(Report::Note(text.into()));
    }
}
