//! The decoders against mutated inputs, for a while: `fuzz/src/lib.rs` says what must hold.
//!
//! `VOUCHSAFE_FUZZ_SECONDS` is how long each target runs (2); `VOUCHSAFE_FUZZ_SEED` repeats a run.

#![allow(clippy::unwrap_used, reason = "what helpers of tests unwrap fails the test")]

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use vouchsafe::codec::{FRAME_BYTES, SpanWriter};
use vouchsafe::format::envelope;
use vouchsafe::format::key::{Key, Nonce, PlanId};
use vouchsafe::format::ledger_documents::{Receipt, Settlement, StoredObject};
use vouchsafe::format::register::{Decision, Outcome, VerdictReference};
use vouchsafe::format::relation::CopyFormat;
use vouchsafe::format::{Fingerprint, Sha256Digest};

#[allow(unreachable_pub, reason = "a library of its own for libFuzzer")]
#[path = "../fuzz/src/lib.rs"]
mod promises;

/// Longest input, in bytes: mutations only move what is there, so longer ones find nothing more, more slowly.
const MAX_INPUT_BYTES: usize = 4096;

/// Most inputs that are kept for having got a new answer.
const MAX_CORPUS: usize = 2000;

/// Most mutations on top of each other.
const MAX_MUTATIONS: u64 = 5;

/// SplitMix64 (Steele, Lea and Flood, 2014): a run is repeated by its seed, whatever the version of any crate.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Numbers at which decoders turn, as big-endian bytes of the sizes that formats have.
const TURNS: [&[u8]; 16] = [
    &[0],
    &[0x7f],
    &[0x80],
    &[0xff],
    b"\n",
    b"\t",
    b"\\",
    b"\\.\n",
    &[0, 0],
    &[0xff, 0xff],
    &[0xff, 0xfe],
    &[0x7f, 0xff],
    &[0, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff],
    &[0x3f, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0],
];

fn mutate(random: &mut Random, input: &mut Vec<u8>, others: &[Vec<u8>]) {
    let at = random.below(input.len());
    let end = at + random.below((input.len() - at).min(64) + 1);
    match random.below(9) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.next() as u8,
        2 => {
            let turn = TURNS[random.below(TURNS.len())];
            input.splice(at..(at + turn.len()).min(input.len()), turn.iter().copied());
        }
        3 => {
            let turn = TURNS[random.below(TURNS.len())];
            input.splice(at..at, turn.iter().copied());
        }
        4 => drop(input.drain(at..end)),
        5 => {
            let again = input[at..end].to_vec();
            input.splice(end..end, again);
        }
        6 => input.truncate(at),
        7 => {
            let other = &others[random.below(others.len())];
            let from = random.below(other.len());
            let to = from + random.below((other.len() - from).min(64) + 1);
            input.splice(at..end, other[from..to].iter().copied());
        }
        _ => input.extend((0..random.below(8)).map(|_| random.next() as u8)),
    }
    input.truncate(MAX_INPUT_BYTES);
}

/// The words of an answer, without its numbers and names: row 7 and row 8 are the same news.
fn kind_of(answer: &str) -> String {
    answer.split(' ').filter(|word| word.chars().all(|c| c.is_ascii_alphabetic() || c == ':')).collect()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Runs `promise` on the seeds, of which each must give the answer it is listed with, and on mutations of
/// them and of whatever got a new answer.
fn drive(name: &str, promise: fn(&[u8]) -> String, seeds: Vec<(&str, Vec<u8>)>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = setting("VOUCHSAFE_FUZZ_SEED").unwrap_or(now.as_nanos() as u64);
    let time = Duration::from_secs(setting("VOUCHSAFE_FUZZ_SECONDS").unwrap_or(2));
    for (answer, input) in &seeds {
        let found = promise(input);
        assert!(found.contains(answer), "{name}: a seed for {answer:?} got {found:?}");
    }
    let mut corpus: Vec<Vec<u8>> = seeds.into_iter().map(|(_, input)| input).collect();
    let (mut random, mut answers, mut rounds) = (Random(seed), HashSet::new(), 0_u64);
    let start = Instant::now();
    while start.elapsed() < time {
        let mut input = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.next() % MAX_MUTATIONS {
            mutate(&mut random, &mut input, &corpus);
        }
        rounds += 1;
        match catch_unwind(AssertUnwindSafe(|| promise(&input))) {
            Ok(answer) => {
                if corpus.len() < MAX_CORPUS && answers.insert(kind_of(&answer)) {
                    corpus.push(input);
                }
            }
            Err(panic) => {
                eprintln!(
                    "{name}: VOUCHSAFE_FUZZ_SEED={seed}, round {rounds}, input {}",
                    hex::encode(&input)
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{name}: {rounds} inputs, {} kinds of answers, VOUCHSAFE_FUZZ_SEED={seed}", answers.len());
    assert!(answers.len() > 1, "{name}: one answer to everything");
}

/// Three rows of a number, a text and NULL.
fn binary() -> Vec<u8> {
    let mut stream = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for id in 1..=3_u8 {
        stream.extend([0, 3, 0, 0, 0, 4, 0, 0, 0, id, 0, 0, 0, 6]);
        stream.extend(b"order-");
        stream.extend([255; 4]);
    }
    stream.extend([255, 255]);
    stream
}

const TEXT: &[u8] = b"1\torder\\t1\t\\N\n2\tback\\\\\t\\N\n3\t\t\\\\.\n";

fn stored(format: CopyFormat, raw: &[u8]) -> Vec<u8> {
    let mut writer = SpanWriter::new(format, 3).unwrap();
    let mut out = Vec::new();
    writer.push(raw, &mut out).unwrap();
    writer.finish(&mut out).unwrap();
    out.concat()
}

/// An input of `promises`: `head` holds its parameters.
fn with(head: &[u8], body: &[u8]) -> Vec<u8> {
    [head, body].concat()
}

#[test]
fn binary_rows() {
    let seeds = vec![
        ("fine", with(&[3, 6], &binary())),
        ("fine", with(&[0, 1], &[&binary()[..19], &[0, 0, 255, 255]].concat())),
        ("truncated", with(&[3, 16], &binary()[..50])),
        ("3 fields", with(&[2, 16], &binary())),
    ];
    drive("binary rows", promises::binary_rows, seeds);
}

#[test]
fn text_rows() {
    let seeds = vec![
        ("fine", with(&[3, 6], TEXT)),
        ("fine", with(&[0, 0], b"\n\n")),
        ("truncated", with(&[3, 2], b"1\t2\t3")),
        ("end marker", with(&[1, 2], b"a\n\\.\n")),
    ];
    drive("text rows", promises::text_rows, seeds);
}

#[test]
fn frames() {
    // The frame that ends full ones: a size, an empty block and a checksum after the descriptor.
    let mut announced = stored(CopyFormat::Text, &b"1\t2\t345\n".repeat(FRAME_BYTES / 4));
    let size = announced.len() - 8;
    assert_eq!(announced[size - 1..size + 4], [0x24, 0, 1, 0, 0]);
    announced[size] = 8;
    let seeds = vec![
        ("fine", with(&[0, 7], &stored(CopyFormat::Text, TEXT))),
        ("fine", with(&[0, 7], &stored(CopyFormat::Binary, &binary()))),
        ("fine", with(&[0, 99], &stored(CopyFormat::Text, &TEXT.repeat(20_000)))),
        // Two frames, and two that are full with an empty one.
        ("fine", with(&[0, 99], &stored(CopyFormat::Text, &b"1\t2\t3\n".repeat(300_000)))),
        ("fine", with(&[0, 7], &stored(CopyFormat::Text, &b"1\t2\t345\n".repeat(FRAME_BYTES / 4)))),
        ("no checksum", with(&[0, 7], &zstd::encode_all(TEXT, 1).unwrap())),
        ("announces 8 bytes and holds 0", with(&[0, 7], &announced)),
    ];
    drive("frames", promises::frame, seeds);
}

#[test]
fn stored_objects() {
    let seeds = vec![
        ("fine", with(&[3, 7, 1], &stored(CopyFormat::Text, TEXT))),
        ("fine", with(&[3, 7, 0], &stored(CopyFormat::Binary, &binary()))),
        ("rows: ", with(&[2, 7, 0], &stored(CopyFormat::Binary, &binary()))),
    ];
    drive("stored objects", promises::stored_object, seeds);
}

#[test]
fn writing() {
    let seeds = vec![
        ("truncated", with(&[3, 7, 1, 100, 150], TEXT)),
        ("damaged", with(&[3, 7, 0, 200, 3], &binary())),
        ("damaged", with(&[3, 7, 0, 255, 200], &binary())),
    ];
    drive("writing", promises::writing, seeds);
}

#[test]
fn documents() {
    let (plan, nonce) = (PlanId::from_random(7), Nonce::from_random(9));
    let sha256 = Sha256Digest::of(b"x");
    let sealed = Outcome {
        run: 3,
        claim: sha256,
        attempts: vec![sha256],
        decision: Decision::Sealed {
            plan,
            manifest: sha256,
            verdicts: vec![VerdictReference { destination: "eu".into(), nonce, sha256 }],
        },
        decided_by: nonce,
        decided: "2026-11-21T13:00:00Z".parse().unwrap(),
    };
    let receipt = Receipt {
        run: 3,
        plan,
        tickets: sha256,
        snapshot: "735:735:".into(),
        ticket: 12,
        worker: nonce,
        settlement: Settlement::Rows {
            object: StoredObject {
                key: Key::data(3, &plan, 1, 12, &nonce),
                length: 100,
                sha256,
                checksum: Some("crc64nvme:AAAAAAAAAAA=".into()),
                etag: None,
                version: None,
            },
            fingerprint: Fingerprint { rows: 3, sum: 1 << 127 },
            raw_bytes: 300,
        },
    };
    let sealed = envelope::encode(&sealed).unwrap();
    let receipt = envelope::encode(&receipt).unwrap();
    let seeds = vec![
        ("a outcome", with(&[3], &sealed)),
        ("a receipt", with(&[4], &receipt)),
        ("outcome document lies where", with(&[4], &sealed)),
        ("not a manifest", with(&[10], &zstd::encode_all(&receipt[..20], 1).unwrap())),
    ];
    drive("documents", promises::documents, seeds);
}

#[test]
fn names() {
    let (plan, nonce) = (PlanId::from_random(1 << 100), Nonce::from_random(9));
    let seeds = vec![
        ("a key", Key::data(3, &plan, 1, 12, &nonce).as_str().into()),
        ("a plan", plan.to_string().into()),
        ("a nonce", nonce.to_string().into()),
        ("a digest", Sha256Digest::of(b"").to_string().into()),
    ];
    drive("names", promises::names, seeds);
}

#[test]
fn store_urls() {
    let seeds = vec![
        ("a store", b"file:///backups/shop".to_vec()),
        (
            "a store",
            b"s3://bucket/a/b?region=eu-west-1&endpoint=http://127.0.0.1:9000&addressing=path".to_vec(),
        ),
        ("a store", b"s3://bucket?addressing=virtual&checksums=when-required".to_vec()),
        ("credentials", b"s3://user:secret@bucket/prefix".to_vec()),
        ("a store", b"gs://bucket/a/b?endpoint=https://storage.europe-west1.rep.googleapis.com".to_vec()),
        ("a store", b"azblob://account/container/a/b?endpoint=https://h/account".to_vec()),
        ("credentials", b"azblob://account:secret@container".to_vec()),
        ("names no kind of store", b"ftp://bucket".to_vec()),
    ];
    drive("store URLs", promises::store_urls, seeds);
}
