//! Receipts, and the only way to make one: from what a store has committed, or from a span read to its end.

use crate::codec::RowTotals;
use crate::format::{Fingerprint, Key, Nonce, PlanId, Receipt, Settlement, Sha256Digest, StoredObject};
use crate::store::{Committed, ObjectStore};

use super::documents::{self, Held};
use super::error::EngineError;

/// What a receipt is bound to.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) run: u32,
    pub(crate) plan: PlanId,
    pub(crate) tickets: Sha256Digest,
    pub(crate) worker: Nonce,
}

/// A ticket that was settled. No public constructor takes less than the proof of it.
#[must_use = "a settled ticket without a published receipt is still open"]
pub(crate) struct Settled {
    ticket: u32,
    snapshot: String,
    settlement: Settlement,
}

fn stored(committed: &Committed) -> StoredObject {
    StoredObject {
        key: committed.key().clone(),
        length: committed.length(),
        sha256: *committed.sha256(),
        checksum: committed.checksum().map(str::to_owned),
        etag: committed.version().etag.clone(),
        version: committed.version().version.clone(),
    }
}

impl Settled {
    /// Rows that lie in a committed object.
    #[expect(clippy::needless_pass_by_value, reason = "consumed: one commitment settles one ticket")]
    pub(crate) fn rows(ticket: u32, snapshot: &str, committed: Committed, totals: &RowTotals) -> Self {
        let object = stored(&committed);
        let settlement =
            Settlement::Rows { object, fingerprint: totals.fingerprint, raw_bytes: totals.raw_bytes };
        Self { ticket, snapshot: snapshot.to_owned(), settlement }
    }

    /// A span that was read to its end without a row; `None` if there were rows.
    pub(crate) fn empty(ticket: u32, snapshot: &str, totals: &RowTotals) -> Option<Self> {
        let settled = Self { ticket, snapshot: snapshot.to_owned(), settlement: Settlement::Empty };
        (totals.fingerprint == Fingerprint::EMPTY).then_some(settled)
    }

    /// A catalog of `entries` entries that lies in a committed object.
    #[expect(clippy::needless_pass_by_value, reason = "consumed: one commitment settles one ticket")]
    pub(crate) fn catalog(ticket: u32, snapshot: &str, committed: Committed, entries: u64) -> Self {
        let settlement = Settlement::Catalog { object: stored(&committed), entries };
        Self { ticket, snapshot: snapshot.to_owned(), settlement }
    }

    /// Makes the settlement durable.
    pub(crate) async fn publish(
        self,
        store: &dyn ObjectStore,
        binding: &Binding,
    ) -> Result<Held<Receipt>, EngineError> {
        let key = Key::receipt(binding.run, &binding.plan, self.ticket, &binding.worker);
        let receipt = Receipt {
            run: binding.run,
            plan: binding.plan,
            tickets: binding.tickets,
            snapshot: self.snapshot,
            ticket: self.ticket,
            worker: binding.worker,
            settlement: self.settlement,
        };
        documents::put(store, &key, receipt).await
    }
}
