//! The codec against streams that PostgreSQL wrote, against every cut and every flipped bit of them, and
//! against hostile frames.

#![allow(clippy::unwrap_used, reason = "what helpers of tests unwrap fails the test")]

use bytes::Bytes;
use proptest::prelude::*;
use rstest::rstest;
use vouchsafe::codec::{
    CodecError, Decoder, FRAME_BYTES, RAW_CHUNK_BYTES, RowHasher, RowTotals, SpanReader, SpanWriter,
    StoredTotals,
};
use vouchsafe::format::relation::CopyFormat::{self, Binary, Text};
use vouchsafe::format::{Fingerprint, Sha256Digest};
use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

/// `COPY zoo TO STDOUT (FORMAT binary)` of PostgreSQL 15.18, table
/// `(id int4, name text, n numeric, b bytea, a int4[], t timestamptz, f bool, j jsonb)`, four rows.
const ZOO_BINARY: &str = "\
    5047434f50590aff0d0a00000000000000000000080000000400000001000000075ac3bc726963680000000c000200000000\
    0002000c13880000000300ff5c0000002800000001000000010000001700000003000000010000000400000001ffffffff00\
    0000040000000300000008000303c7b504d52000000001010000000e017b2261223a205b312c20325d7d0008000000040000\
    00020000001374616209686572650a616e64205c206261636b0000000800000000c0000000ffffffff0000000c0000000000\
    00000000000017000000087fffffffffffffff0000000100ffffffff0008000000040000000300000000ffffffff00000000\
    ffffffff00000008ff1af9e8fb46d000ffffffff000000040122782200080000000400000004000000025c2e0000000a0001\
    ffff400000040001000000036109620000001c00000001000000000000001700000001000000010000000400000007000000\
    080000000000000000000000010100000005016e756c6cffff";
/// Where its rows begin, and the trailer. Each begins with eight fields, of which the first is an int4.
const ZOO_ROWS: [usize; 5] = [19, 142, 228, 278, 373];

/// The same rows in text format.
const ZOO_TEXT: &str = "1\tZürich\t12.50\t\\\\x00ff5c\t{1,NULL,3}\t2026-11-21 13:00:00.5+00\tt\t{\"a\": [1, 2]}\n\
    2\ttab\\there\\nand \\\\ back\tNaN\t\\N\t{}\tinfinity\tf\t\\N\n\
    3\t\t\\N\t\\\\x\t\\N\t0044-03-15 12:00:00+00 BC\t\\N\t\"x\"\n\
    4\t\\\\.\t-0.0001\t\\\\x610962\t{7}\t2000-01-01 00:00:00+00\tt\tnull\n";

const ZOO_COLUMNS: usize = 8;

/// `(t text)` with `\.`, the empty string, NULL, `\N` and `a\`.
const ONE_TEXT: &[u8] = b"\\\\.\n\n\\N\n\\\\N\na\\\\\n";

fn zoo(format: CopyFormat) -> Vec<u8> {
    match format {
        Binary => hex::decode(ZOO_BINARY).unwrap(),
        Text => ZOO_TEXT.as_bytes().to_vec(),
    }
}

fn hash_pieces<'a>(
    format: CopyFormat,
    columns: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<RowTotals, CodecError> {
    let mut rows = RowHasher::new(format, columns);
    for piece in pieces {
        rows.push(piece)?;
    }
    rows.finish()
}

fn hash(format: CopyFormat, columns: usize, raw: &[u8]) -> Result<RowTotals, CodecError> {
    hash_pieces(format, columns, [raw])
}

fn write(format: CopyFormat, columns: usize, raw: &[u8]) -> (Vec<u8>, RowTotals) {
    let mut writer = SpanWriter::new(format, columns).unwrap();
    let mut out = Vec::new();
    writer.push(raw, &mut out).unwrap();
    let totals = writer.finish(&mut out).unwrap();
    (out.concat(), totals)
}

fn read(format: CopyFormat, columns: usize, limit: u64, stored: &[u8]) -> Result<StoredTotals, CodecError> {
    let mut reader = SpanReader::new(format, columns, limit)?;
    reader.push(stored)?;
    reader.finish()
}

/// Totals of a stream that was not asked anything.
fn totals_of(fingerprint: Fingerprint, raw: &[u8]) -> RowTotals {
    RowTotals { fingerprint, raw_bytes: raw.len() as u64, challenge: Fingerprint::EMPTY }
}

/// `raw` cut at the given places.
fn cut<'a>(raw: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(raw.len() + 1)).collect();
    at.push(0);
    at.push(raw.len());
    at.sort_unstable();
    at.windows(2).map(|pair| &raw[pair[0]..pair[1]]).collect()
}

#[test]
fn the_fingerprint_of_a_binary_stream_is_the_sum_of_its_tuples_hashes() {
    let raw = zoo(Binary);
    let mut expected = Fingerprint::EMPTY;
    ZOO_ROWS.windows(2).for_each(|row| expected.add_row(xxh3_128(&raw[row[0]..row[1]])));
    let totals = hash(Binary, ZOO_COLUMNS, &raw).unwrap();
    assert_eq!(totals, totals_of(expected, &raw));
}

#[test]
fn the_fingerprint_of_a_text_stream_is_the_sum_of_its_lines_hashes() {
    let mut expected = Fingerprint::EMPTY;
    ZOO_TEXT.lines().for_each(|line| expected.add_row(xxh3_128(line.as_bytes())));
    let totals = hash(Text, ZOO_COLUMNS, ZOO_TEXT.as_bytes()).unwrap();
    assert_eq!(totals, totals_of(expected, ZOO_TEXT.as_bytes()));
}

/// Fingerprints lie in buckets for years: no release may compute them otherwise.
#[test]
fn fingerprints_are_those_of_the_first_release() {
    let of = |format| format!("{:?}", hash(format, ZOO_COLUMNS, &zoo(format)).unwrap().fingerprint);
    insta::assert_snapshot!(of(Binary), @"4 rows, 7e33033bfac60aec7a71683e42af7ad1");
    insta::assert_snapshot!(of(Text), @"4 rows, 2a6ba46111a76c0d6f4a2fce8bcd0446");
    // XXH3-128 of nothing, as its specification's reference implementation prints it.
    let empty_line = hash(Text, 0, b"\n").unwrap().fingerprint;
    assert_eq!(empty_line.sum, 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
}

#[test]
fn a_binary_stream_that_ends_early_is_truncated_wherever_it_ends() {
    let raw = zoo(Binary);
    for end in 0..raw.len() {
        let error = hash(Binary, ZOO_COLUMNS, &raw[..end]).unwrap_err();
        let row = 1 + ZOO_ROWS[1..].iter().filter(|start| **start <= end).count() as u64;
        match error {
            CodecError::Truncated { row: at, offset, .. } => assert_eq!((at, offset), (row, end as u64)),
            other => panic!("{end}: {other}"),
        }
    }
}

#[test]
fn a_text_stream_that_ends_within_a_row_is_truncated_and_between_rows_lacks_them() {
    let raw = zoo(Text);
    for end in 0..raw.len() {
        let rows = raw[..end].iter().filter(|byte| **byte == b'\n').count() as u64;
        match hash(Text, ZOO_COLUMNS, &raw[..end]) {
            Ok(totals) => {
                assert!(end == 0 || raw[end - 1] == b'\n', "{end}");
                assert_eq!((totals.fingerprint.rows, totals.raw_bytes), (rows, end as u64));
                assert_ne!(rows, 4);
            }
            Err(CodecError::Truncated { row, offset, .. }) => {
                assert_eq!((row, offset), (rows + 1, end as u64))
            }
            Err(other) => panic!("{end}: {other}"),
        }
    }
}

#[test]
fn tables_of_no_and_of_one_column() {
    let header = &zoo(Binary)[..19];
    assert_eq!(hash(Binary, 0, &[header, &[0, 0, 0, 0, 255, 255]].concat()).unwrap().fingerprint.rows, 2);
    assert_eq!(hash(Binary, 3, &[header, &[255, 255]].concat()).unwrap().fingerprint, Fingerprint::EMPTY);
    assert_eq!(hash(Text, 0, b"\n\n").unwrap().fingerprint.rows, 2);
    assert_eq!(hash(Text, 1, ONE_TEXT).unwrap().fingerprint.rows, 5);
    assert_eq!(hash(Text, 3, b"").unwrap().fingerprint, Fingerprint::EMPTY);
}

const HEAD: &str = "5047434f50590aff0d0a000000000000000000";

#[rstest]
#[case::signature("5047434f50590aff0d0b000000000000000000ffff", 1, 0, "signature")]
#[case::text_as_binary("31093109310931093109310931093109310931", 1, 0, "signature")]
#[case::oids("5047434f50590aff0d0a000001000000000000ffff", 1, 11, "object identifiers")]
#[case::critical("5047434f50590aff0d0a008000000000000000ffff", 1, 11, "critical flags 0x80000000")]
#[case::extension("5047434f50590aff0d0a0000000000ffffffffffff", 1, 15, "extension of 4294967295 bytes")]
#[case::fewer_fields(&format!("{HEAD}0001ffffffffffff"), 1, 19, "1 fields, and the table has 2 columns")]
#[case::more_fields(&format!("{HEAD}0003ffffffffffff"), 1, 19, "3 fields")]
#[case::negative_count(&format!("{HEAD}fffe"), 1, 19, "-2 fields")]
#[case::second_row(&format!("{HEAD}0002ffffffffffffffff0001"), 2, 29, "1 fields")]
#[case::negative_length(&format!("{HEAD}0002fffffffffffffffe"), 1, 25, "a field of -2 bytes")]
#[case::length_of_more_than_a_value(&format!("{HEAD}000240000000"), 1, 21, "a field of 1073741824 bytes")]
#[case::after_the_trailer(&format!("{HEAD}0002ffffffffffffffffffff00"), 2, 31, "after the trailer")]
#[case::two_trailers(&format!("{HEAD}ffffffff"), 1, 21, "after the trailer")]
fn binary_that_postgresql_does_not_write(
    #[case] stream: &str,
    #[case] row: u64,
    #[case] offset: u64,
    #[case] why: &str,
) {
    let raw = hex::decode(stream).unwrap();
    check_malformed(Binary, 2, &raw, (row, offset, why));
}

#[rstest]
#[case::fewer(b"a\tb\na\n", 2, 5, "1 columns, and the table has 2")]
#[case::more(b"a\tb\tc\n", 1, 5, "3 columns")]
#[case::none(b"\n", 1, 0, "1 columns")]
#[case::end_marker(b"a\tb\n\\.\n", 2, 6, "end marker")]
#[case::escaped_tab(b"a\tb\nab\\\tc\td\n", 2, 7, "backslash before a tab")]
#[case::escaped_newline(b"a\tb\\\nc\td\n", 1, 4, "backslash before a newline")]
#[case::binary_as_text(b"PGCOPY\n\xff\r\n\0", 1, 6, "1 columns")]
fn text_that_postgresql_does_not_write(
    #[case] raw: &[u8],
    #[case] row: u64,
    #[case] offset: u64,
    #[case] why: &str,
) {
    check_malformed(Text, 2, raw, (row, offset, why));
}

/// The column's value `\.` is written as `\\.`.
#[test]
fn an_end_marker_is_no_row_of_one_column() {
    check_malformed(Text, 1, b"a\n\\.\n", (2, 4, "end marker"));
}

#[test]
fn rows_of_a_table_without_columns_are_empty_lines() {
    check_malformed(Text, 0, b"\na\n", (2, 2, "1 columns, and the table has 0"));
}

/// The error is the same in one piece and byte by byte, and after it nothing can end well.
fn check_malformed(format: CopyFormat, columns: usize, raw: &[u8], expected: (u64, u64, &str)) {
    for piece in [raw.len(), 1] {
        let mut rows = RowHasher::new(format, columns);
        let failed = raw.chunks(piece).find_map(|piece| rows.push(piece).err());
        match failed.expect("it was taken") {
            CodecError::Malformed { row, offset, why } => {
                assert!(why.contains(expected.2), "{why}");
                assert_eq!((row, offset), (expected.0, expected.1), "{why}");
            }
            other => panic!("{other}"),
        }
        assert!(matches!(rows.push(b""), Err(CodecError::Failed)));
        assert!(matches!(rows.finish(), Err(CodecError::Failed)));
    }
}

/// Wherever it lies: tabs are counted in runs.
#[test]
fn an_escaped_tab_is_refused_even_where_it_makes_the_columns_right() {
    for before in 0..600 {
        let line = [&b"x".repeat(before)[..], b"\\\ty\n"].concat();
        check_malformed(Text, 2, &line, (1, before as u64 + 1, "backslash before a tab"));
        let line = [&b"x".repeat(before)[..], b"\\\\\ty\n"].concat();
        assert_eq!(hash(Text, 2, &line).unwrap().fingerprint.rows, 1);
    }
}

#[test]
fn escaped_backslashes_before_tabs_and_newlines_are_data() {
    assert_eq!(hash(Text, 2, b"a\\\\\tb\\\\\n\\\\\\\\\t\\\\\n").unwrap().fingerprint.rows, 2);
}

#[rstest]
#[case(Binary)]
#[case(Text)]
fn a_stored_object_holds_what_was_written_for_any_zstd(#[case] format: CopyFormat) {
    let raw = zoo(format);
    let (stored, totals) = write(format, ZOO_COLUMNS, &raw);
    assert_eq!(zstd::decode_all(&stored[..]).unwrap(), raw);
    // Magic number; a checksum, a size, and with it no window of its own (RFC 8878, section 3.1.1.1).
    assert_eq!((&stored[..4], stored[4] & 0b11_1111), (&[0x28, 0xb5, 0x2f, 0xfd][..], 0b10_0100));
    let found = read(format, ZOO_COLUMNS, raw.len() as u64, &stored).unwrap();
    let RowTotals { fingerprint, raw_bytes, challenge } = totals;
    let (length, sha256) = (stored.len() as u64, Sha256Digest::of(&stored));
    assert_eq!(found, StoredTotals { length, sha256, fingerprint, raw_bytes, challenge });
}

#[test]
fn an_empty_table_is_a_frame_too() {
    let (stored, totals) = write(Text, 3, b"");
    assert_eq!(totals, RowTotals::default());
    assert_eq!(read(Text, 3, 0, &stored).unwrap().fingerprint, Fingerprint::EMPTY);
    assert!(matches!(read(Text, 3, 0, b""), Err(CodecError::FrameTruncated { length: 0 })));
}

#[test]
fn a_writer_does_not_finish_a_truncated_stream() {
    let mut writer = SpanWriter::new(Binary, ZOO_COLUMNS).unwrap();
    writer.push(&zoo(Binary)[..373], &mut Vec::new()).unwrap();
    assert!(matches!(writer.finish(&mut Vec::new()), Err(CodecError::Truncated { row: 5, .. })));
}

/// RFC 8878 leaves bits of a frame without meaning, so a flip may go unseen here; it never changes what is
/// read, and the digest of the stored bytes finds it.
#[rstest]
#[case(Binary)]
#[case(Text)]
fn no_flipped_bit_changes_what_is_read(#[case] format: CopyFormat) {
    let raw = zoo(format).repeat(if format == Text { 40 } else { 1 });
    let (stored, _) = write(format, ZOO_COLUMNS, &raw);
    let intact = read(format, ZOO_COLUMNS, raw.len() as u64, &stored).unwrap();
    let mut unseen = 0;
    for bit in 0..stored.len() * 8 {
        let mut damaged = stored.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        match read(format, ZOO_COLUMNS, raw.len() as u64, &damaged) {
            Ok(found) => {
                assert_ne!(found.sha256, intact.sha256, "bit {bit}");
                assert_eq!((found.fingerprint, found.raw_bytes), (intact.fingerprint, intact.raw_bytes));
                unseen += 1;
            }
            Err(error) => {
                let range = error.stored_range().unwrap_or_else(|| panic!("no range: {error}"));
                assert!(range.start <= range.end && range.end <= stored.len() as u64, "{error}");
            }
        }
    }
    assert!(unseen < 32, "{unseen} bits have no meaning?");
}

#[rstest]
#[case(Binary)]
#[case(Text)]
fn a_stored_object_that_ends_early_is_truncated_wherever_it_ends(#[case] format: CopyFormat) {
    let raw = zoo(format);
    let (stored, _) = write(format, ZOO_COLUMNS, &raw);
    for end in 0..stored.len() {
        let error = read(format, ZOO_COLUMNS, raw.len() as u64, &stored[..end]).unwrap_err();
        assert!(
            matches!(error, CodecError::FrameTruncated { length } if length == end as u64),
            "{end}: {error}"
        );
    }
}

#[test]
fn nothing_may_follow_the_last_frame() {
    let (stored, _) = write(Text, ZOO_COLUMNS, ZOO_TEXT.as_bytes());
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]; // RFC 8878, section 3.1.2
    for tail in [&b"\0"[..], &stored, &skippable] {
        let error = read(Text, ZOO_COLUMNS, 1 << 20, &[&stored, tail].concat()).unwrap_err();
        assert!(matches!(error, CodecError::Trailing { offset } if offset == stored.len() as u64), "{error}");
    }
    let mut reader = SpanReader::new(Text, ZOO_COLUMNS, 1 << 20).unwrap();
    reader.push(&stored).unwrap();
    reader.push(b"").unwrap();
    assert!(reader.push(b"x").is_err());
    assert!(matches!(reader.finish(), Err(CodecError::Failed)));
}

#[rstest]
#[case::skippable(vec![0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], "does not begin as a zstd frame")]
#[case::gzip(vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0], "does not begin as a zstd frame")]
#[case::without_checksum(zstd::encode_all(&b"1\n"[..], 1).unwrap(), "has no checksum")]
#[case::dictionary(vec![0x28, 0xb5, 0x2f, 0xfd, 0b101, 0x48, 7], "needs a dictionary")]
// A window of 2^24: one step more than is believed.
#[case::window(vec![0x28, 0xb5, 0x2f, 0xfd, 0b100, 14 << 3, 1, 0, 0], "memory")]
fn frames_that_we_do_not_write(#[case] frame: Vec<u8>, #[case] expected: &str) {
    for piece in [frame.len(), 1] {
        let mut reader = SpanReader::new(Text, 1, 1 << 20).unwrap();
        let error = frame.chunks(piece).find_map(|piece| reader.push(piece).err()).expect("it was taken");
        assert!(matches!(&error, CodecError::Frame { why, .. } if why.contains(expected)), "{error}");
    }
}

#[test]
fn a_decompression_bomb_ends_at_what_the_receipt_allows() {
    // A gigabyte of one byte; 33 kB stored.
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0b100, 0x48];
    for _ in 0..8192 {
        bomb.extend_from_slice(&[0b010, 0, 16, b'a']); // RLE block of 2^17 (RFC 8878, section 3.1.1.2)
    }
    let limit = 1 << 20;
    let mut decoder = Decoder::new(limit).unwrap();
    let (mut stored, mut produced) = (&bomb[..], 0);
    let error = loop {
        match decoder.read(&mut stored) {
            Ok(raw) => produced += raw.expect("it ended").len() as u64,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, CodecError::TooLarge { limit: 0x10_0000, .. }), "{error}");
    assert_eq!(produced, limit);
    assert!(error.stored_range().unwrap().end < 64, "{error}");
    assert!(decoder.read(&mut stored).is_err());
}

#[test]
fn an_error_names_the_block_that_does_not_decode() {
    let raw = numbers(90_000);
    assert!(raw.len() < FRAME_BYTES, "one frame");
    let (stored, _) = write(Text, 1, &raw);
    // Walk the blocks (RFC 8878, section 3.1.1.2), and give one in the middle the reserved type.
    // Magic number, descriptor, window, and a size of four bytes come before them.
    let (mut at, mut starts) = (10, Vec::new());
    loop {
        starts.push(at);
        let header = u32::from_le_bytes([stored[at], stored[at + 1], stored[at + 2], 0]);
        at += 3 + (header >> 3) as usize;
        if header & 1 == 1 {
            break;
        }
    }
    assert_eq!(at + 4, stored.len());
    let block = starts[starts.len() / 2];
    let mut damaged = stored.clone();
    damaged[block] |= 0b110;
    let error = read(Text, 1, raw.len() as u64, &damaged).unwrap_err();
    let range = error.stored_range().unwrap();
    assert!(matches!(error, CodecError::Frame { .. }), "{error}");
    assert!(range.contains(&(block as u64)) && range.end - range.start < 400_000, "{range:?} for {block}");

    // A flip in the content checksum itself: every row decodes, and the frame is refused.
    let mut damaged = stored;
    *damaged.last_mut().unwrap() ^= 1;
    let error = read(Text, 1, raw.len() as u64, &damaged).unwrap_err();
    assert!(matches!(error, CodecError::Checksum { .. }), "{error}");
}

#[test]
fn damaged_rows_in_an_intact_frame_are_named_by_row_and_by_place() {
    let mut raw = zoo(Binary);
    raw[ZOO_ROWS[2] + 1] = 9;
    let stored = {
        let mut encoder = vouchsafe::codec::Encoder::new().unwrap();
        let mut out = Vec::new();
        encoder.push(&raw, &mut out).unwrap();
        encoder.finish(&mut out).unwrap();
        out.concat()
    };
    let error = read(Binary, ZOO_COLUMNS, raw.len() as u64, &stored).unwrap_err();
    let CodecError::Rows { stored: range, source } = error else { panic!("{error}") };
    assert!(range.end <= stored.len() as u64 && !range.is_empty());
    assert_eq!(
        source.to_string(),
        "COPY data is malformed at byte 228, in row 3: 9 fields, and the table has 8 columns"
    );
}

fn numbers(rows: u32) -> Vec<u8> {
    (0..rows).flat_map(|n| format!("{}\n", n.wrapping_mul(0x9e37_79b9)).into_bytes()).collect()
}

#[test]
fn what_is_handed_out_is_bounded_in_both_directions() {
    let raw = numbers(2_000_000);
    let mut writer = SpanWriter::new(Text, 1).unwrap();
    let mut out: Vec<Bytes> = Vec::new();
    for piece in raw.chunks(777_777) {
        let before = out.len();
        writer.push(piece, &mut out).unwrap();
        assert!(out.len() <= before + 1, "a frame at a time");
    }
    writer.finish(&mut out).unwrap();
    assert_eq!(out.len(), raw.len() / FRAME_BYTES + 1);

    let mut reader = SpanReader::new(Text, 1, raw.len() as u64).unwrap();
    let (stored, mut back) = (out.concat(), Vec::new());
    assert_eq!(zstd::decode_all(&stored[..]).unwrap(), raw, "zstd reads them as one");
    let mut rest = &stored[..];
    while let Some(raw) = reader.read(&mut rest).unwrap() {
        assert!(raw.len() <= RAW_CHUNK_BYTES);
        back.extend_from_slice(raw);
    }
    assert!(rest.is_empty() && back == raw);
    assert_eq!(reader.bytes_so_far(), stored.len() as u64);
    reader.finish().unwrap();
}

#[test]
fn objects_end_well_around_the_end_of_a_frame() {
    let noise = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8 | 0x80;
    let around = |end: usize| end - 4..end + 4;
    for length in
        around(FRAME_BYTES).chain(around(2 * FRAME_BYTES)).chain((0..4 * FRAME_BYTES).step_by(277_777))
    {
        let mut raw: Vec<u8> = (0..length as u64).map(|n| noise(n * n)).collect();
        raw.push(b'\n');
        let (stored, written) = write(Text, 1, &raw);
        let found = read(Text, 1, raw.len() as u64, &stored).unwrap();
        assert_eq!((found.fingerprint, found.length), (written.fingerprint, stored.len() as u64), "{length}");
    }
}

/// Where the frames of `stored` begin, and its end.
fn frame_starts(stored: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    while let Some(start) = starts.last().copied().filter(|start| *start < stored.len()) {
        starts.push(start + zstd::zstd_safe::find_frame_compressed_size(&stored[start..]).unwrap());
    }
    starts
}

/// Rows of two bytes, so that rows end where frames do: neither the text format nor a frame's checksum shows it.
#[test]
fn an_object_cut_between_two_frames_or_with_one_left_out_or_added_is_found() {
    let raw = b"7\n".repeat(3 * FRAME_BYTES / 2);
    let (stored, _) = write(Text, 1, &raw);
    let starts = frame_starts(&stored);
    assert_eq!(starts.len(), 5, "three full frames and an empty one");
    for cut in &starts[..4] {
        let error = read(Text, 1, raw.len() as u64, &stored[..*cut]).unwrap_err();
        assert!(matches!(error, CodecError::FrameTruncated { length } if length == *cut as u64), "{error}");
    }
    let raw_without_one = read(Text, 1, raw.len() as u64, &stored[starts[1]..]).unwrap().raw_bytes;
    assert_eq!(raw_without_one, 2 * FRAME_BYTES as u64, "the numbers show a frame that is left out");
    let twice = [&stored[..starts[1]], &stored].concat();
    let error = read(Text, 1, raw.len() as u64, &twice).unwrap_err();
    assert!(matches!(error, CodecError::TooLarge { .. }), "{error}");
    let after_its_end = [&stored, &stored[..starts[1]]].concat();
    let error = read(Text, 1, 2 * raw.len() as u64, &after_its_end).unwrap_err();
    assert!(matches!(error, CodecError::Trailing { offset } if offset == stored.len() as u64), "{error}");
}

#[test]
fn a_frame_larger_than_we_write_is_refused() {
    let raw = numbers(200_000);
    let mut zstd = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    zstd.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut zstd, &raw).unwrap();
    let error = read(Text, 1, raw.len() as u64, &zstd.finish().unwrap()).unwrap_err();
    assert!(matches!(&error, CodecError::Frame { why, .. } if why.contains("more than 1048576")), "{error}");
}

#[test]
fn damage_is_placed_in_its_frame() {
    let raw = numbers(400_000);
    let (stored, _) = write(Text, 1, &raw);
    let starts = frame_starts(&stored);
    let (begin, end) = (starts[2], starts[3]);
    let mut damaged = stored.clone();
    damaged[end - 1] ^= 1; // its checksum
    let error = read(Text, 1, raw.len() as u64, &damaged).unwrap_err();
    assert!(
        matches!(&error, CodecError::Checksum { stored } if *stored == (begin as u64..end as u64)),
        "{error}"
    );
    damaged = stored;
    damaged[begin] ^= 1; // its magic number
    let error = read(Text, 1, raw.len() as u64, &damaged).unwrap_err();
    assert!(matches!(&error, CodecError::Frame { stored, .. } if stored.start == begin as u64), "{error}");
}

/// In a process of its own, whose peak memory is then this test's.
#[test]
fn a_huge_value_passes_in_constant_memory() {
    const VALUE_BYTES: u32 = 256 << 20;
    const PEAK_KIB: u64 = 64 << 10;
    const ALONE: &str = "VOUCHSAFE_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let test = std::thread::current().name().unwrap().to_owned();
        let alone = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &test, "--test-threads=1"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stdout));
        return;
    }
    let mut writer = SpanWriter::new(Binary, 1).unwrap();
    let mut reader = SpanReader::new(Binary, 1, u64::MAX).unwrap();
    let mut out = Vec::new();
    let mut whole = xxhash_rust::xxh3::Xxh3Default::new();
    let start = [&zoo(Binary)[..19], &[0, 1], &VALUE_BYTES.to_be_bytes()].concat();
    let value: Vec<u8> = (0..1_u32 << 16).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    writer.push(&start, &mut out).unwrap();
    whole.update(&start[19..]);
    for _ in 0..VALUE_BYTES as usize / value.len() {
        writer.push(&value, &mut out).unwrap();
        whole.update(&value);
        out.drain(..).for_each(|chunk| reader.push(&chunk).unwrap());
    }
    writer.push(&[255, 255], &mut out).unwrap();
    let totals = writer.finish(&mut out).unwrap();
    out.drain(..).for_each(|chunk| reader.push(&chunk).unwrap());
    assert_eq!(reader.finish().unwrap().fingerprint, totals.fingerprint);
    assert_eq!(totals.fingerprint, Fingerprint { rows: 1, sum: whole.digest128() });
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < PEAK_KIB, "{peak} KiB");
}

/// Fields of every length that matters to the hash (16, 128, 240 bytes are its steps), and NULL.
fn field() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        Just(None),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Some),
        (any::<u8>(), 0..5000_usize).prop_map(|(byte, length)| Some(vec![byte; length])),
    ]
}

fn table() -> impl Strategy<Value = (usize, Vec<Vec<Option<Vec<u8>>>>)> {
    (0..5_usize).prop_flat_map(|columns| {
        (Just(columns), prop::collection::vec(prop::collection::vec(field(), columns), 0..12))
    })
}

/// As PostgreSQL writes them: the stream, and its rows' tuples.
fn to_binary(rows: &[Vec<Option<Vec<u8>>>]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let tuple = |row: &Vec<Option<Vec<u8>>>| {
        let mut tuple = (row.len() as i16).to_be_bytes().to_vec();
        for field in row {
            match field {
                None => tuple.extend((-1_i32).to_be_bytes()),
                Some(bytes) => {
                    tuple.extend((bytes.len() as i32).to_be_bytes());
                    tuple.extend(bytes);
                }
            }
        }
        tuple
    };
    let tuples: Vec<Vec<u8>> = rows.iter().map(tuple).collect();
    let header = hex::decode(HEAD).unwrap();
    ([&header, &tuples.concat()[..], &[255, 255]].concat(), tuples)
}

fn to_text(rows: &[Vec<Option<Vec<u8>>>]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let escape = |bytes: &Vec<u8>| -> Vec<u8> {
        let escaped = bytes.iter().map(|byte| match byte {
            b'\t' => b"\\t".to_vec(),
            b'\n' => b"\\n".to_vec(),
            b'\r' => b"\\r".to_vec(),
            b'\\' => b"\\\\".to_vec(),
            other => vec![*other],
        });
        escaped.flatten().collect()
    };
    let line = |row: &Vec<Option<Vec<u8>>>| -> Vec<u8> {
        let fields: Vec<Vec<u8>> =
            row.iter().map(|field| field.as_ref().map_or(b"\\N".to_vec(), escape)).collect();
        fields.join(&b'\t')
    };
    let lines: Vec<Vec<u8>> = rows.iter().map(line).collect();
    (lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect(), lines)
}

fn sum(tuples: &[Vec<u8>]) -> Fingerprint {
    let mut all = Fingerprint::EMPTY;
    tuples.iter().for_each(|tuple| all.add_row(xxh3_128(tuple)));
    all
}

proptest! {
    #[test]
    fn rows_are_the_same_however_the_stream_is_cut(
        (columns, rows) in table(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        small in 1..40_usize,
    ) {
        for (format, (raw, tuples)) in [(Binary, to_binary(&rows)), (Text, to_text(&rows))] {
            let expected = totals_of(sum(&tuples), &raw);
            prop_assert_eq!(hash(format, columns, &raw).unwrap(), expected);
            prop_assert_eq!(hash_pieces(format, columns, cut(&raw, &cuts)).unwrap(), expected);
            prop_assert_eq!(hash_pieces(format, columns, raw.chunks(small)).unwrap(), expected);
        }
    }

    #[test]
    fn a_challenge_is_answered_from_every_rows_hash(
        (columns, rows) in table(),
        seed: u64,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        for (format, (raw, tuples)) in [(Binary, to_binary(&rows)), (Text, to_text(&rows))] {
            let mut answer = Fingerprint::EMPTY;
            let hash_again = |tuple: &Vec<u8>| xxh3_128_with_seed(&xxh3_128(tuple).to_le_bytes(), seed);
            tuples.iter().map(hash_again).for_each(|hash| answer.add_row(hash));
            let (stored, written) = write(format, columns, &raw);
            prop_assert_eq!(written.challenge, Fingerprint::EMPTY);
            let mut reader = SpanReader::new(format, columns, raw.len() as u64).unwrap().seeded(seed);
            for piece in cut(&stored, &cuts) {
                reader.push(piece).unwrap();
            }
            let found = reader.finish().unwrap();
            prop_assert_eq!((found.fingerprint, found.challenge), (written.fingerprint, answer));
        }
    }

    #[test]
    fn errors_are_the_same_however_the_stream_is_cut(
        (columns, rows) in table(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        end: prop::sample::Index,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        for (format, (mut raw, _)) in [(Binary, to_binary(&rows)), (Text, to_text(&rows))] {
            if !raw.is_empty() {
                for (at, byte) in &damage {
                    let at = at.index(raw.len());
                    raw[at] = *byte;
                }
            }
            raw.truncate(raw.len().saturating_sub(end.index(8)));
            let show = |result: Result<RowTotals, CodecError>| result.map_err(|error| error.to_string());
            let whole = show(hash(format, columns, &raw));
            prop_assert_eq!(&show(hash_pieces(format, columns, cut(&raw, &cuts))), &whole);
            prop_assert_eq!(&show(hash_pieces(format, columns, raw.chunks(1))), &whole);
        }
    }

    #[test]
    fn what_a_writer_stores_a_reader_reads(
        (columns, rows) in table(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        stored_cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        for (format, (raw, tuples)) in [(Binary, to_binary(&rows)), (Text, to_text(&rows))] {
            let mut writer = SpanWriter::new(format, columns).unwrap();
            let mut out = Vec::new();
            for piece in cut(&raw, &cuts) {
                writer.push(piece, &mut out).unwrap();
            }
            let written = writer.finish(&mut out).unwrap();
            prop_assert_eq!(written, totals_of(sum(&tuples), &raw));
            let (stored, mut back) = (out.concat(), Vec::new());
            let mut reader = SpanReader::new(format, columns, raw.len() as u64).unwrap();
            for mut piece in cut(&stored, &stored_cuts) {
                while let Some(raw) = reader.read(&mut piece).unwrap() {
                    back.extend_from_slice(raw);
                }
            }
            prop_assert_eq!(&back, &raw);
            prop_assert_eq!(reader.finish().unwrap(), StoredTotals {
                length: stored.len() as u64,
                sha256: Sha256Digest::of(&stored),
                fingerprint: written.fingerprint,
                raw_bytes: written.raw_bytes,
                challenge: Fingerprint::EMPTY,
            });
        }
    }
}
