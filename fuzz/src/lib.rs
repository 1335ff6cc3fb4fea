//! What must hold for any bytes: one function per decoder, called by `tests/fuzz.rs` with inputs of a simple
//! mutator and by `fuzz_targets/` with inputs of libFuzzer. Each panics where its decoder breaks a promise,
//! and returns what the decoder said, so that a mutator can tell new answers from old ones.

use vouchsafe::codec::{CodecError, Decoder, RowHasher, RowTotals, SpanReader, SpanWriter, StoredTotals};
use vouchsafe::format::envelope::{self, Document};
use vouchsafe::format::key::{Nonce, PlanId};
use vouchsafe::format::ledger_documents::{Census, Part, Receipt, Verdict};
use vouchsafe::format::manifest::Manifest;
use vouchsafe::format::plan::{Plan, Tickets};
use vouchsafe::format::register::{Attempt, Collection, Outcome, Run};
use vouchsafe::format::relation::CopyFormat;
use vouchsafe::format::{Key, Sha256Digest};
use vouchsafe::store::location::StoreUrl;

/// Raw bytes that readers are allowed here: more than two whole frames of an object.
const LIMIT: u64 = 5 << 19;

/// Columns of the tables that inputs are read as: the first byte says how many.
const MOST_COLUMNS: u8 = 9;

fn said<T>(result: &Result<T, CodecError>) -> String {
    match result {
        Ok(_) => "fine".into(),
        Err(CodecError::Rows { source, .. }) => format!("rows: {source}"),
        Err(error) => error.to_string(),
    }
}

/// The first byte is the number of columns, the second how the rest is cut.
fn parameters(data: &[u8]) -> (usize, usize, &[u8]) {
    match data {
        [columns, cut, rest @ ..] => (usize::from(columns % (MOST_COLUMNS + 1)), 1 + usize::from(*cut), rest),
        _ => (1, 1, data),
    }
}

fn hash(format: CopyFormat, columns: usize, raw: &[u8], piece: usize) -> Result<RowTotals, CodecError> {
    let mut rows = RowHasher::new(format, columns);
    for piece in raw.chunks(piece.max(1)) {
        if let Err(error) = rows.push(piece) {
            assert!(matches!(rows.push(piece), Err(CodecError::Failed)), "it went on after {error}");
            assert!(rows.finish().is_err(), "it ended well after {error}");
            return Err(error);
        }
    }
    rows.finish()
}

fn rows(format: CopyFormat, data: &[u8]) -> (String, Option<RowTotals>) {
    let (columns, piece, raw) = parameters(data);
    let whole = hash(format, columns, raw, raw.len());
    let answer = said(&whole);
    for piece in [piece, 1] {
        let cut = hash(format, columns, raw, piece);
        assert_eq!(said(&cut), answer, "in pieces of {piece}");
        assert_eq!(cut.ok(), whole.as_ref().ok().copied(), "in pieces of {piece}");
    }
    if let Ok(totals) = &whole {
        assert_eq!(totals.raw_bytes, raw.len() as u64);
    }
    (answer, whole.ok())
}

/// COPY BINARY: the answer does not depend on how the stream is cut.
pub fn binary_rows(data: &[u8]) -> String {
    let (answer, totals) = rows(CopyFormat::Binary, data);
    if totals.is_some() {
        assert!(data.ends_with(&[0xff, 0xff]), "it ended well without a trailer");
    }
    answer
}

/// COPY TEXT: as [`binary_rows`], and rows are lines.
pub fn text_rows(data: &[u8]) -> String {
    let (answer, totals) = rows(CopyFormat::Text, data);
    if let Some(totals) = totals {
        let (_, _, raw) = parameters(data);
        let lines = raw.iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(totals.fingerprint.rows, lines);
        assert!(raw.is_empty() || raw.ends_with(b"\n"));
    }
    answer
}

fn decode(stored: &[u8], piece: usize) -> Result<Vec<u8>, CodecError> {
    let mut decoder = Decoder::new(LIMIT)?;
    let mut raw = Vec::new();
    for mut piece in stored.chunks(piece.max(1)) {
        while let Some(output) = decoder.read(&mut piece)? {
            assert!(!output.is_empty(), "a reader that waits for output would spin");
            raw.extend_from_slice(output);
            assert!(raw.len() as u64 <= LIMIT, "more than was allowed");
        }
        assert!(piece.is_empty(), "bytes were left");
    }
    assert_eq!(decoder.finish()?, stored.len() as u64);
    Ok(raw)
}

/// Frames: never more than the limit, cut anywhere with the same result, and what comes out is what zstd's own
/// decoder finds.
pub fn frame(data: &[u8]) -> String {
    let (_, piece, stored) = parameters(data);
    let whole = decode(stored, stored.len());
    let cut = decode(stored, piece);
    assert_eq!(whole.as_ref().ok(), cut.as_ref().ok(), "in pieces of {piece}");
    match &whole {
        Ok(raw) => {
            let oracle = zstd::decode_all(stored).expect("zstd refuses what we took");
            assert!(*raw == oracle, "zstd finds other bytes");
        }
        Err(error) => {
            if let Some(range) = error.stored_range() {
                assert!(range.start <= range.end && range.end <= stored.len() as u64 + 5, "{error}");
            }
        }
    }
    said(&whole)
}

fn read(format: CopyFormat, columns: usize, stored: &[u8], piece: usize) -> Result<StoredTotals, CodecError> {
    let mut reader = SpanReader::new(format, columns, LIMIT)?;
    for piece in stored.chunks(piece.max(1)) {
        reader.push(piece)?;
    }
    reader.finish()
}

/// Stored objects: what a reader believes has the digest, the length and the rows of its bytes.
pub fn stored_object(data: &[u8]) -> String {
    let (columns, piece, rest) = parameters(data);
    let (format, stored) = match rest {
        [format, stored @ ..] if format % 2 == 1 => (CopyFormat::Text, stored),
        [_, stored @ ..] => (CopyFormat::Binary, stored),
        [] => (CopyFormat::Binary, rest),
    };
    let whole = read(format, columns, stored, stored.len());
    assert_eq!(
        read(format, columns, stored, piece).ok(),
        whole.as_ref().ok().copied(),
        "in pieces of {piece}"
    );
    if let Ok(totals) = &whole {
        let raw = decode(stored, stored.len()).expect("it was read");
        let rows = hash(format, columns, &raw, raw.len()).expect("they were read");
        assert_eq!((totals.length, totals.sha256), (stored.len() as u64, Sha256Digest::of(stored)));
        assert_eq!((totals.fingerprint, totals.raw_bytes), (rows.fingerprint, rows.raw_bytes));
    }
    said(&whole)
}

/// A writer takes a stream or refuses it; what it wrote reads back as the same rows; and a damaged copy of
/// that is refused or still reads as the same rows, with another digest. Needs a stream, and in its third and
/// fourth bytes where to do the damage.
pub fn writing(data: &[u8]) -> String {
    let (columns, piece, rest) = parameters(data);
    let [format, at, how, raw @ ..] = rest else { return "too short".into() };
    let format = if format % 2 == 1 { CopyFormat::Text } else { CopyFormat::Binary };
    let mut stored = Vec::new();
    let written = SpanWriter::new(format, columns).and_then(|mut writer| {
        for piece in raw.chunks(piece) {
            writer.push(piece, &mut stored)?;
        }
        writer.finish(&mut stored)
    });
    let Ok(totals) = &written else { return said(&written) };
    let mut stored = stored.concat();
    let found = read(format, columns, &stored, piece).expect("a writer's object was refused");
    assert_eq!((found.fingerprint, found.raw_bytes), (totals.fingerprint, totals.raw_bytes));
    let spot = usize::from(*at) * stored.len() / 256;
    match how {
        0..128 => stored[spot] ^= 1 << (how % 8),
        128..192 => stored.truncate(spot),
        _ => stored.insert(spot, *how),
    }
    let damaged = read(format, columns, &stored, piece);
    if let Ok(damaged) = &damaged {
        assert_ne!(damaged.sha256, found.sha256);
        assert_eq!((damaged.fingerprint, damaged.raw_bytes), (found.fingerprint, found.raw_bytes));
    }
    format!("damaged: {}", said(&damaged))
}

fn document<D: Document + PartialEq + std::fmt::Debug>(data: &[u8]) -> String {
    match envelope::decode::<D>(data) {
        Ok(document) => {
            let again = envelope::encode(&document).expect("what was read can be written");
            assert_eq!(envelope::decode::<D>(&again).expect("what was written can be read"), document);
            format!("a {}", D::KIND)
        }
        Err(error) => {
            let text = error.to_string();
            // A hostile document must not make a log of its own size.
            assert!(text.len() < 4096, "an error of {} bytes", text.len());
            text
        }
    }
}

/// Documents: read as what the first byte says.
pub fn documents(data: &[u8]) -> String {
    let Some((kind, data)) = data.split_first() else { return "nothing".into() };
    match kind % 11 {
        0 => document::<Collection>(data),
        1 => document::<Run>(data),
        2 => document::<Attempt>(data),
        3 => document::<Outcome>(data),
        4 => document::<Receipt>(data),
        5 => document::<Verdict>(data),
        6 => document::<Plan>(data),
        7 => document::<Tickets>(data),
        8 => document::<Census>(data),
        9 => document::<Part>(data),
        _ => document::<Manifest>(data),
    }
}

/// Names and digests: what parses is written as it was read, and no key climbs out of its prefix.
pub fn names(data: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(data) else { return "not text".into() };
    let mut answer = String::new();
    if let Ok(key) = text.parse::<Key>() {
        assert_eq!(key.as_str(), text);
        let path = std::path::Path::new(text);
        assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))), "{text}");
        answer.push_str("a key ");
    }
    if let Ok(plan) = text.parse::<PlanId>() {
        assert_eq!(plan.to_string(), text);
        answer.push_str("a plan ");
    }
    if let Ok(nonce) = text.parse::<Nonce>() {
        assert_eq!(nonce.to_string(), text);
        answer.push_str("a nonce ");
    }
    if let Ok(digest) = text.parse::<Sha256Digest>() {
        assert_eq!(digest.to_string(), text);
        answer.push_str("a digest ");
    }
    answer
}

/// Destinations: a URL that is taken is written as one that means the same, and never with a password; an
/// error is short.
pub fn store_urls(data: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(data) else { return "not text".into() };
    match StoreUrl::parse(text) {
        Ok(url) => {
            let written = url.to_string();
            if matches!(&url, StoreUrl::File(folder) if folder.root == std::path::Path::new("/")) {
                return "the root of a file system".into(); // written without its only slash, and nobody's store
            }
            assert_eq!(StoreUrl::parse(&written), Ok(url), "{written}");
            "a store".into()
        }
        Err(error) => {
            let said = error.to_string();
            assert!(said.len() < 4096, "an error of {} bytes", said.len());
            said
        }
    }
}
