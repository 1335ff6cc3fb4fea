//! What a process of a run leaves in its pod's termination message: the one thing that it tells the controller.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Failure;
use super::store::Capabilities;
use crate::format::Sha256Digest;

/// Most bytes of a termination message that the kubelet keeps (Kubernetes' documentation, "Customizing the
/// termination message").
pub const MAX_LAST_WORD: usize = 4096;

/// Bytes of a failure's message and of its hint that are kept at most.
const MAX_TEXT: usize = 1200;

/// What a process left behind when it ended. A process that left nothing was killed, or never ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "said", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum LastWord {
    /// A coordinator: the run is sealed. The controller believes it only with a witness for every destination.
    Sealed {
        /// The run.
        run: u32,
        /// The manifest's digest as stored.
        manifest_sha256: String,
        /// [`digest_of_verdicts`] of those that the outcome names.
        verdicts_sha256: String,
        /// Objects that the verifiers read.
        objects_read: u64,
        /// Bytes that they read.
        bytes_read: u64,
        /// Rows of the manifest.
        rows: u64,
        /// Bytes stored.
        bytes_stored: u64,
        /// When the outcome was created, RFC 3339.
        sealed_at: String,
        /// When the earliest of its snapshots was taken, by the server's clock, RFC 3339.
        taken: String,
        /// Errors that were met and resolved on the way, by reason.
        errors: BTreeMap<String, u64>,
    },
    /// A coordinator: there is no backup, and there will be none. Its run, if one was claimed, is void.
    Void {
        /// The run; absent if none was claimed.
        run: Option<u32>,
        /// Why.
        failure: Failure,
        /// Whether a person asked for it.
        canceled: bool,
    },
    /// A coordinator: the run is open, and another attempt goes on with it.
    LeftOpen {
        /// Why it stopped.
        failure: Failure,
    },
    /// A coordinator: another owner's run is open, and no run can be claimed before it is decided.
    Held {
        /// That run.
        run: u32,
        /// Its owner: the UID of a resource, or a digest of a command line.
        owner: String,
        /// Whether somebody is at it.
        alive: bool,
        /// What stands in the way, in words.
        failure: Failure,
    },
    /// A worker: it found nothing left to do.
    Settled,
    /// A pruner: what it did, which may be nothing.
    Pruned {
        /// The run that retired backups; absent if none was to be retired.
        run: Option<u32>,
        /// Backups that it retired.
        retired: u32,
        /// Of the runs that it was asked to retire, those that are backups no more: by this prune or by one before
        /// it, whose word may have been lost.
        #[serde(default)]
        gone: Vec<u32>,
        /// Objects that it deleted.
        deleted_objects: u64,
        /// Bytes that were in them.
        deleted_bytes: u64,
        /// Objects that the store kept: a later prune tries again.
        refused_objects: u64,
        /// Runs that were given up too short a time ago: a later prune deletes what is in them.
        waiting: u32,
        /// Why no later prune will do better with what the store kept; absent if one may.
        failure: Option<Failure>,
    },
    /// A verifier: its verdict is written.
    Verdict {
        /// What it was asked with.
        nonce: String,
        /// Digest of the verdict as stored.
        sha256: String,
    },
    /// A restorer: the database is there, and every table was compared; in a dry run, everything was read and
    /// planned.
    Restored {
        /// The run that was restored.
        run: u32,
        /// The digest of its manifest as stored.
        manifest_sha256: String,
        /// Tables compared.
        tables: u64,
        /// Their rows.
        rows: u64,
    },
    /// A restorer: a person asked it to end, and it did.
    Canceled {
        /// What it left, in its message.
        failure: Failure,
    },
    /// A restorer: what it needs is not there yet, and nothing was touched. It is started anew until the deadline.
    NotYet {
        /// What is missing.
        failure: Failure,
    },
    /// A prober: what its destination is found to do.
    Probed {
        /// What the probe proved.
        capabilities: Capabilities,
        /// What a person should know; empty: nothing.
        note: String,
    },
    /// A worker, a verifier, a restorer or a prober: it could not do its work.
    Failed {
        /// Why.
        failure: Failure,
        /// Whether another attempt may do better.
        again: bool,
    },
}

/// SHA-256 over `destination digest` lines, by destination: a termination message has no room for 32 verdicts.
#[must_use]
pub fn digest_of_verdicts<'a>(verdicts: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let sorted: BTreeMap<&str, &str> = verdicts.into_iter().collect();
    let text: String =
        sorted.iter().map(|(destination, sha256)| format!("{destination} {sha256}\n")).collect();
    Sha256Digest::of(text.as_bytes()).to_string()
}

impl LastWord {
    /// As it is written: one line of JSON that the kubelet keeps whole.
    #[must_use]
    pub fn text(&self) -> String {
        let mut word = self.clone();
        let mut limit = MAX_TEXT;
        loop {
            match &mut word {
                Self::Void { failure, .. }
                | Self::LeftOpen { failure }
                | Self::Held { failure, .. }
                | Self::Canceled { failure }
                | Self::NotYet { failure }
                | Self::Pruned { failure: Some(failure), .. }
                | Self::Failed { failure, .. } => {
                    shorten(&mut failure.message, limit);
                    shorten(&mut failure.hint, limit);
                }
                Self::Probed { capabilities: _, note } => shorten(note, limit),
                Self::Sealed { .. }
                | Self::Settled
                | Self::Verdict { .. }
                | Self::Restored { .. }
                | Self::Pruned { failure: None, .. } => {}
            }
            let text = serde_json::to_string(&word).expect("a plain enum with string keys is always JSON");
            if text.len() <= MAX_LAST_WORD || limit == 0 {
                return text;
            }
            // JSON writes some characters as six.
            limit /= 2;
        }
    }

    /// As it was read; `None` for what no process of ours wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

fn shorten(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_failure_fits_and_is_read_back() {
        // JSON doubles what it escapes, and a letter may be of four bytes.
        for text in ["\"".repeat(9000), "😀".repeat(9000), "\u{1}".repeat(600)] {
            let failure = Failure { reason: "X".repeat(64), message: text.clone(), hint: text };
            let word = LastWord::Failed { failure, again: true };
            let written = word.text();
            assert!(written.len() <= MAX_LAST_WORD, "{}", written.len());
            assert!(LastWord::parse(&written).is_some());
            let LastWord::Failed { failure, .. } = word else { unreachable!("made above") };
            let most = u64::MAX;
            let pruned = LastWord::Pruned {
                run: Some(u32::MAX),
                retired: 64,
                gone: vec![u32::MAX; 64],
                deleted_objects: most,
                deleted_bytes: most,
                refused_objects: most,
                waiting: u32::MAX,
                failure: Some(failure),
            };
            assert!(pruned.text().len() <= MAX_LAST_WORD);
        }
        assert_eq!(LastWord::parse("Error: exec format error"), None);
    }
}
