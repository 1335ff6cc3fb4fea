//! Bytes per second of one core through the codec, in memory: `cargo bench --bench codec`.

use std::time::{Duration, Instant};

use vouchsafe::codec::{RowHasher, SpanReader, SpanWriter};
use vouchsafe::format::relation::CopyFormat;

/// Raw bytes of each table.
const TABLE_BYTES: usize = 256 << 20;
/// The fastest counts: others share the machine.
const ROUNDS: usize = 5;
/// What a read off a socket hands over at most.
const PIECE_BYTES: usize = 64 << 10;

struct Table {
    name: &'static str,
    format: CopyFormat,
    columns: usize,
    /// The messages that a server sends: one per row.
    messages: Vec<Vec<u8>>,
    bytes: usize,
}

/// Numbers that repeat from run to run, by Knuth's multiplicative hashing: compressible about as rows are.
fn mixed(n: usize) -> u64 {
    (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

fn table(name: &'static str, format: CopyFormat, columns: usize, row: impl Fn(usize) -> Vec<u8>) -> Table {
    let mut messages = Vec::new();
    let mut bytes = 0;
    if format == CopyFormat::Binary {
        messages.push(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec());
    }
    while bytes < TABLE_BYTES {
        let row = row(messages.len());
        bytes += row.len();
        messages.push(row);
    }
    if format == CopyFormat::Binary {
        messages.push(vec![0xff, 0xff]);
    }
    let bytes = messages.iter().map(Vec::len).sum();
    Table { name, format, columns, messages, bytes }
}

fn binary_row(fields: &[&[u8]]) -> Vec<u8> {
    let mut row = (fields.len() as u16).to_be_bytes().to_vec();
    for field in fields {
        row.extend((field.len() as u32).to_be_bytes());
        row.extend(*field);
    }
    row
}

fn words(n: usize, bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + 20);
    let mut at = n;
    while text.len() < bytes {
        at += 1;
        text.extend(format!("{:x} order of ", mixed(at)).bytes());
    }
    text.truncate(bytes);
    text
}

fn best(table: &Table, what: &str, mut round: impl FnMut()) {
    let fastest = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        round();
        start.elapsed()
    });
    let fastest = fastest.min().unwrap_or(Duration::MAX);
    println!("{:<28} {what:<28} {:>6.0} MB/s", table.name, table.bytes as f64 / 1e6 / fastest.as_secs_f64());
}

fn measure(table: &Table) {
    let whole = table.messages.concat();
    best(table, "hash, a row at a time", || {
        let mut rows = RowHasher::new(table.format, table.columns);
        table.messages.iter().for_each(|message| rows.push(message).expect("valid rows"));
        rows.finish().expect("valid rows");
    });
    best(table, "hash, 64 KiB at a time", || {
        let mut rows = RowHasher::new(table.format, table.columns);
        whole.chunks(PIECE_BYTES).for_each(|piece| rows.push(piece).expect("valid rows"));
        rows.finish().expect("valid rows");
    });
    let mut stored = Vec::new();
    best(table, "write, a row at a time", || {
        let mut writer = SpanWriter::new(table.format, table.columns).expect("memory");
        stored.clear();
        table.messages.iter().for_each(|message| writer.push(message, &mut stored).expect("valid rows"));
        writer.finish(&mut stored).expect("valid rows");
    });
    best(table, "read", || {
        let mut reader = SpanReader::new(table.format, table.columns, table.bytes as u64).expect("memory");
        stored.iter().for_each(|chunk| reader.push(chunk).expect("what was written"));
        reader.finish().expect("what was written");
    });
    let length: usize = stored.iter().map(bytes::Bytes::len).sum();
    println!("{:<28} {:.1} times smaller", table.name, table.bytes as f64 / length as f64);
}

fn main() {
    measure(&table("binary, 60 bytes a row", CopyFormat::Binary, 5, |n| {
        let (id, value) = ((n as u32).to_be_bytes(), mixed(n).to_be_bytes());
        binary_row(&[&id, &value, &value[4..], &words(n, 20)[..18], &[1]])
    }));
    measure(&table("binary, 2 KB a row", CopyFormat::Binary, 3, |n| {
        binary_row(&[&(n as u32).to_be_bytes(), &words(n, 1000), &words(n * 7, 1000)])
    }));
    measure(&table("binary, 1 MB a row", CopyFormat::Binary, 1, |n| binary_row(&[&words(n, 1 << 20)])));
    measure(&table("text, 60 bytes a row", CopyFormat::Text, 5, |n| {
        let text = String::from_utf8_lossy(&words(n, 16)).into_owned();
        format!("{n}\t{}\t{}\t{text}\tt\n", mixed(n), n % 1000).into_bytes()
    }));
    measure(&table("text, 2 KB a row", CopyFormat::Text, 2, |n| {
        [format!("{n}\t").into_bytes(), words(n, 2000), b"\n".to_vec()].concat()
    }));
    measure(&table("text, 1 MB a row", CopyFormat::Text, 1, |n| {
        [words(n, 1 << 20), b"\n".to_vec()].concat()
    }));
}
