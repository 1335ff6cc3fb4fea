//! The verifier: reads every object of one destination back, and answers each ticket. It knows nothing of
//! the writer but what lies in the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::documents::{self, Held};
use super::error::EngineError;
use super::progress::{Progress, Stage};
use super::reading::{self, Pinned, Unread};
use super::told;
use crate::format::{
    Answer, CatalogDocument, Census, CopyFormat, Damage, EndpointPlan, Fingerprint, Key, Manifest, Nonce,
    Order, Part, PartEntry, Plan, PlanDocument, Receipt, Settlement, Sha256Digest, TablePlan, Tickets,
    Verdict, decode,
};
use crate::kill_point;
use crate::ledger::Witness;
use crate::mutant::{self, Mutant};
use crate::source::{SourceError, ToolVersion, Tools, schema};
use crate::store::{ObjectStore, StoreErrorKind};
use crate::telemetry::spans::{failed, part, short};

/// What the trace of a run says of an object that is not right.
const DAMAGE: &str = "DamageFound";

/// COPY BINARY of pg_largeobject has these columns: `loid`, `pageno`, `data`.
pub(crate) const LARGE_OBJECT_COLUMNS: usize = 3;

/// What a verifier is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The run.
    pub run: u32,
    /// The plan.
    pub plan: crate::format::PlanId,
    /// Name of the destination.
    pub destination: String,
    /// Whether the plan, the census and the manifest lie there as well.
    pub default: bool,
    /// Issued after the manifest was written.
    pub nonce: Nonce,
    /// SHA-256 of the manifest as stored.
    pub manifest: Sha256Digest,
    /// SHA-256 of the destination's part, as the manifest has it.
    pub part: Sha256Digest,
    /// Whether objects must still be the recorded versions; else the recorded bytes will do, read by the recorded
    /// version where the store knows it.
    pub pinned: bool,
    /// How much to look at.
    pub depth: Depth,
}

/// How much of each object a reader looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every byte, decoded; every row, hashed.
    Rows,
    /// Every byte, hashed: enough where a verdict has shown before that these very bytes decode.
    Bytes,
}

/// What was found in one destination.
#[derive(Debug, Default)]
pub struct Examination {
    /// One answer for each ticket that could be read.
    pub answers: Vec<Answer>,
    /// What is wrong.
    pub damages: Vec<Damage>,
    /// Objects read, documents included.
    pub objects_read: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Rows of tables among the answers, as the manifest counts them: pages of large objects are none.
    pub rows: u64,
}

impl Examination {
    fn damage(&mut self, object: &Key, table: Option<String>, finding: impl Into<String>) {
        let (object, finding) = (object.to_string(), finding.into());
        self.damages.push(Damage { object, table, offsets: None, finding });
    }

    fn count(&mut self, length: u64) {
        self.objects_read += 1;
        self.bytes_read += length;
    }
}

/// The seed of the rows' challenge: known to nobody before the question was asked.
pub(crate) fn seed(nonce: &Nonce) -> u64 {
    let digest = Sha256Digest::of(nonce.to_string().as_bytes());
    digest.as_bytes().iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte))
}

/// A catalog's challenge: the first 128 bits of SHA-256 over the nonce and the bytes.
pub(crate) fn catalog_challenge(nonce: &Nonce, bytes: &[u8]) -> Fingerprint {
    let digest = Sha256Digest::of(&[nonce.to_string().as_bytes(), bytes].concat());
    let sum = digest.as_bytes().iter().take(16).fold(0, |sum, byte| (sum << 8) | u128::from(*byte));
    Fingerprint { rows: 0, sum }
}

/// Reads everything of one destination and writes the verdict there.
///
/// # Errors
/// If the store does not answer. Damage is no error: the verdict says it.
pub async fn verify_and_write(
    store: Arc<dyn ObjectStore>,
    question: Question,
    tools: &Tools,
    parallelism: usize,
    progress: &Progress,
) -> Result<Witness, EngineError> {
    let found = examine(&store, &question, tools, parallelism, progress).await?;
    let nonce = if mutant::is(Mutant::StaleVerdict) { Nonce::from_random(0) } else { question.nonce };
    let verdict = Verdict {
        run: question.run,
        plan: question.plan,
        destination: question.destination.clone(),
        nonce,
        manifest: question.manifest,
        part: question.part,
        answers: found.answers,
        objects_read: found.objects_read,
        bytes_read: found.bytes_read,
        damages: found.damages,
        written: Timestamp::now(),
    };
    let key = Key::verdict(question.run, &question.plan, &question.nonce);
    let sha256 = match documents::put(&*store, &key, verdict.clone()).await {
        Ok(held) => held.sha256,
        // This verifier was started again, after it had written and before it could say so.
        Err(EngineError::Store(error)) if error.kind() == StoreErrorKind::AlreadyExists => {
            let found: Held<Verdict> = documents::get(&*store, &key).await?;
            if (Verdict { written: verdict.written, ..found.document }) != verdict {
                return Err(EngineError::Damaged(format!(
                    "{}/{key}: there is another verdict under this nonce",
                    store.url()
                )));
            }
            found.sha256
        }
        Err(error) => return Err(error),
    };
    Ok(Witness { destination: question.destination, verdict: sha256 })
}

/// Reads everything of one destination.
///
/// # Errors
/// If the store does not answer, or a tool is missing.
pub async fn examine(
    store: &Arc<dyn ObjectStore>,
    question: &Question,
    tools: &Tools,
    parallelism: usize,
    progress: &Progress,
) -> Result<Examination, EngineError> {
    let mut found = Examination::default();
    if question.default {
        examine_documents(&**store, question, &mut found).await?;
    }
    let key = |document| Key::of_plan(question.run, &question.plan, document);
    let part: Option<Held<Part>> =
        bound(&**store, &key(PlanDocument::Part), question.part, &mut found).await?;
    let Some(part) = part.map(|held| held.document) else { return Ok(found) };
    let tickets: Option<Held<Tickets>> =
        bound(&**store, &key(PlanDocument::Tickets), part.tickets, &mut found).await?;
    let Some(tickets) = tickets.map(|held| held.document) else { return Ok(found) };
    if part.entries.len() != tickets.tickets.len()
        || !part.entries.iter().map(|entry| entry.ticket).eq(tickets.tickets.iter().map(|ticket| ticket.id))
    {
        found.damage(&key(PlanDocument::Part), None, "it does not list the tickets of the plan");
        return Ok(found);
    }
    kill_point::passed("read", "tickets");
    let part_tickets = part.tickets;
    let tables: BTreeMap<u32, &TablePlan> = tickets.tables.iter().map(|table| (table.id, table)).collect();
    let (tables, endpoints) = (&tables, &tickets.endpoints[..]);
    let mut reads = Vec::with_capacity(part.entries.len());
    for (ticket, entry) in tickets.tickets.iter().zip(&part.entries) {
        let table = match &ticket.order {
            Order::Rows { table, .. } => tables.get(table).map(|table| short(&table.facts.name.to_string())),
            Order::Schema { .. } | Order::Catalog { .. } | Order::LargeObjects { .. } => None,
        };
        let bytes = entry.settlement.object().map(|object| object.length);
        let read = async move {
            let mut of_ticket = Examination::default();
            examine_receipt(&**store, question, part_tickets, entry, &mut of_ticket).await?;
            let known = (tables, endpoints);
            examine_entry(&**store, question, &ticket.order, known, entry, tools, &mut of_ticket).await?;
            kill_point::passed("verified", "ticket");
            progress.advance(Stage::Verify, 1, entry.settlement.object().map_or(0, |object| object.length));
            if !of_ticket.damages.is_empty() {
                failed(&tracing::Span::current(), DAMAGE);
            }
            Ok::<_, EngineError>(of_ticket)
        };
        // The part begins when it is its turn.
        reads.push(async move {
            told(part!("read", ticket = ticket.id, table = table, bytes = bytes), read).await
        });
    }
    let examined = stream::iter(reads);
    let mut examined = examined.buffered(parallelism.max(1));
    while let Some(of_ticket) = examined.try_next().await? {
        found.answers.extend(of_ticket.answers);
        found.damages.extend(of_ticket.damages);
        found.objects_read += of_ticket.objects_read;
        found.bytes_read += of_ticket.bytes_read;
        found.rows += of_ticket.rows;
    }
    kill_point::passed("verified", "destination");
    Ok(found)
}

async fn examine_documents(
    store: &dyn ObjectStore,
    question: &Question,
    found: &mut Examination,
) -> Result<(), EngineError> {
    let key = |document| Key::of_plan(question.run, &question.plan, document);
    let manifest: Option<Held<Manifest>> =
        bound(store, &key(PlanDocument::Manifest), question.manifest, found).await?;
    let Some(manifest) = manifest.map(|held| held.document) else { return Ok(()) };
    let _: Option<Held<Plan>> = bound(store, &key(PlanDocument::Plan), manifest.plan_document, found).await?;
    let _: Option<Held<Census>> = bound(store, &key(PlanDocument::Census), manifest.census, found).await?;
    Ok(())
}

/// Reads a document that must have the digest `expected`; what is wrong with it is noted as damage.
async fn bound<D: crate::format::Document>(
    store: &dyn ObjectStore,
    key: &Key,
    expected: Sha256Digest,
    found: &mut Examination,
) -> Result<Option<Held<D>>, EngineError> {
    match documents::get_bound::<D>(store, key, expected).await {
        Ok(held) => {
            found.count(held.length);
            Ok(Some(held))
        }
        Err(error) => {
            found.damages.push(as_damage(key, error)?);
            Ok(None)
        }
    }
}

/// An error that says that a stored document is wrong, as damage; any other error as itself.
pub(crate) fn as_damage(key: &Key, error: EngineError) -> Result<Damage, EngineError> {
    let damage = |finding: String| Damage { object: key.to_string(), table: None, offsets: None, finding };
    match error {
        EngineError::Missing { .. } => Ok(damage("the object is missing".into())),
        EngineError::Digest { expected, found, .. } => {
            Ok(damage(format!("its SHA-256 is {found}, and {expected} was written")))
        }
        EngineError::Format { source, .. } => Ok(damage(source.to_string())),
        EngineError::RegisterGap { why, .. } => Ok(damage(format!("the object is missing: {why}"))),
        error @ EngineError::DocumentTooLarge { .. } => Ok(damage(error.to_string())),
        EngineError::Store(error) => Unread::from(error).into_damage(key.to_string(), None),
        other => Err(other),
    }
}

async fn examine_receipt(
    store: &dyn ObjectStore,
    question: &Question,
    tickets: Sha256Digest,
    entry: &PartEntry,
    found: &mut Examination,
) -> Result<(), EngineError> {
    let Some(held) = bound::<Receipt>(store, &entry.receipt, entry.receipt_sha256, found).await? else {
        return Ok(());
    };
    let receipt = held.document;
    let binding = (receipt.run, receipt.plan, receipt.tickets, receipt.ticket);
    if binding != (question.run, question.plan, tickets, entry.ticket) {
        found.damage(&entry.receipt, None, "the receipt is of another run, plan or ticket");
    } else if receipt.settlement != entry.settlement {
        found.damage(&entry.receipt, None, "the receipt says otherwise than the part");
    }
    Ok(())
}

async fn examine_entry(
    store: &dyn ObjectStore,
    question: &Question,
    order: &Order,
    (tables, endpoints): (&BTreeMap<u32, &TablePlan>, &[EndpointPlan]),
    entry: &PartEntry,
    tools: &Tools,
    found: &mut Examination,
) -> Result<(), EngineError> {
    let table = match order {
        Order::Rows { table, .. } => tables.get(table).copied(),
        Order::Schema { .. } | Order::Catalog { .. } | Order::LargeObjects { .. } => None,
    };
    let name = table.map(|table| table.facts.name.to_string());
    let read = if mutant::is(Mutant::VerifierThatEchoes) {
        Ok(echo(entry))
    } else if question.depth == Depth::Bytes {
        read_bytes(store, question, entry).await
    } else {
        read_entry(store, question, order, (table, endpoints), entry, tools).await
    };
    match read {
        Ok(answer) => {
            found.count(answer.length);
            if matches!(order, Order::Rows { .. }) {
                found.rows += answer.fingerprint.rows;
            }
            found.answers.push(answer);
        }
        Err(unread) => {
            let object = entry.settlement.object().map(|object| object.key.to_string());
            let damage = unread.into_damage(object.unwrap_or_else(|| entry.receipt.to_string()), name)?;
            found.damages.push(damage);
        }
    }
    Ok(())
}

async fn read_entry(
    store: &dyn ObjectStore,
    question: &Question,
    order: &Order,
    (table, endpoints): (Option<&TablePlan>, &[EndpointPlan]),
    entry: &PartEntry,
    tools: &Tools,
) -> Result<Answer, Unread> {
    let pinned = if question.pinned { Pinned::Recorded } else { Pinned::WhereKnown };
    let damaged = |finding: &str| Unread::Damaged { offsets: None, finding: finding.into() };
    match &entry.settlement {
        Settlement::Empty => Ok(Answer {
            ticket: entry.ticket,
            object: None,
            length: 0,
            sha256: None,
            fingerprint: Fingerprint::EMPTY,
            entries: 0,
            challenge: Fingerprint::EMPTY,
        }),
        Settlement::Rows { object, fingerprint, raw_bytes } => {
            let shape = match (order, table) {
                (Order::Rows { .. }, Some(table)) => (table.facts.format, table.facts.columns.len()),
                (Order::LargeObjects { .. }, _) => (CopyFormat::Binary, LARGE_OBJECT_COLUMNS),
                _ => return Err(damaged("rows where the order asks for a catalog")),
            };
            if mutant::is(Mutant::CheckOnlyDigests) {
                reading::read_whole(store, object, pinned).await?;
                return Ok(echo(entry));
            }
            let seed = seed(&question.nonce);
            let totals =
                reading::read_rows(store, object, pinned, shape, *raw_bytes, seed, |_| Ok(())).await?;
            if totals.fingerprint != *fingerprint {
                let finding = format!("it holds {}, and {fingerprint} were written", totals.fingerprint);
                return Err(Unread::Damaged { offsets: Some(0..totals.length), finding });
            }
            Ok(Answer {
                ticket: entry.ticket,
                object: Some(object.key.clone()),
                length: totals.length,
                sha256: Some(totals.sha256),
                fingerprint: totals.fingerprint,
                entries: 0,
                challenge: totals.challenge,
            })
        }
        Settlement::Catalog { object, entries } => {
            let bytes = reading::read_whole(store, object, pinned).await?;
            let counted = match order {
                Order::Schema { endpoint } => archive_entries(tools, endpoints, *endpoint, &bytes).await?,
                Order::Catalog { .. } => {
                    let document = decode::<CatalogDocument>(&bytes);
                    document.map_err(|error| damaged(&error.to_string()))?.entries.len() as u64
                }
                Order::Rows { .. } | Order::LargeObjects { .. } => {
                    return Err(damaged("a catalog where the order asks for rows"));
                }
            };
            if counted != *entries {
                return Err(damaged(&format!("it holds {counted} entries, and {entries} were written")));
            }
            Ok(Answer {
                ticket: entry.ticket,
                object: Some(object.key.clone()),
                length: bytes.len() as u64,
                sha256: Some(Sha256Digest::of(&bytes)),
                fingerprint: Fingerprint::EMPTY,
                entries: counted,
                challenge: catalog_challenge(&question.nonce, &bytes),
            })
        }
    }
}

/// Parses the schema archive with the pg_restore that fits the pg_dump that wrote it.
async fn archive_entries(
    tools: &Tools,
    endpoints: &[EndpointPlan],
    endpoint: u32,
    bytes: &[u8],
) -> Result<u64, Unread> {
    let planned = endpoints.get(endpoint as usize);
    let planned =
        planned.ok_or_else(|| Unread::Task("a schema of an endpoint that is not planned".into()))?;
    let version = ToolVersion::recorded(&planned.pg_dump, planned.version_num);
    let tool = tools.pg_restore_for(version, version.major).await.map_err(Unread::Source)?;
    schema::count_entries(&tool, bytes).await.map_err(|error| match error {
        SourceError::ToolFailed { code: Some(_), .. } => {
            Unread::Damaged { offsets: None, finding: format!("pg_restore can't read it: {error}") }
        }
        // It could not be started, or was killed: that says nothing about the archive.
        other => Unread::Source(other),
    })
}

async fn read_bytes(
    store: &dyn ObjectStore,
    question: &Question,
    entry: &PartEntry,
) -> Result<Answer, Unread> {
    let pinned = if question.pinned { Pinned::Recorded } else { Pinned::WhereKnown };
    if let Some(object) = entry.settlement.object() {
        reading::check_digest(store, object, pinned).await?;
    }
    Ok(echo(entry))
}

/// What the receipt says. For a reader who has compared the bytes' digest that is enough; as the answer of a
/// verifier it is the lie of two mutants, and its missing challenge gives it away.
fn echo(entry: &PartEntry) -> Answer {
    let object = entry.settlement.object();
    let entries = match &entry.settlement {
        Settlement::Catalog { entries, .. } => *entries,
        Settlement::Rows { .. } | Settlement::Empty => 0,
    };
    Answer {
        ticket: entry.ticket,
        object: object.map(|object| object.key.clone()),
        length: object.map_or(0, |object| object.length),
        sha256: object.map(|object| object.sha256),
        fingerprint: entry.settlement.fingerprint(),
        entries,
        challenge: Fingerprint::EMPTY,
    }
}
