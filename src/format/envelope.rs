//! The envelope around every document: kind, version, and the digest of the body.
//!
//! `{"format":"vouchsafe.dev/<kind>","version":1,"sha256":"…","body":…}` and a newline. The digest covers
//! kind, version and body, and a reader writes the document again and compares: so any flipped bit, also in
//! white space or in the envelope itself, is found. Names ending in `.zst` hold the same, as one zstd frame
//! with a content checksum; the digests of their stored bytes stand in other documents, up to the outcome.

use std::io::Read;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::digest::Sha256Digest;

/// Largest document, decompressed. A plan takes about 400 bytes a ticket; a hundred thousand tables with a
/// million tickets stay below this, and a decompression bomb ends here.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 30;

/// Most commas in a document: a million tickets have some eight million, a hundred thousand tables of a hundred
/// columns ten. An entry takes 32 bytes in memory at least, so what is read of a hostile document of nothing but
/// tiny entries ends at a gigabyte.
pub const MAX_DOCUMENT_ENTRIES: usize = 32 << 20;

/// Largest window of a frame that is believed, as log2 of bytes: what RFC 8878, section 3.1.1.1.2, asks of
/// decoders at least. The header alone decides how much memory a decoder takes; ours write windows of 512 KiB.
const MAX_WINDOW_LOG: u32 = 23;

/// A kind of document: its name, its version, and how it lies in the bucket.
pub trait Document: Serialize + DeserializeOwned {
    /// Name within `vouchsafe.dev/`.
    const KIND: &'static str;
    /// Version that this build writes; it reads this one only.
    const VERSION: u32 = 1;
    /// Whether it is stored as a zstd frame.
    const COMPRESSED: bool = false;
}

/// A stored document that can't be believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Not JSON of the envelope's form.
    #[error("not a {kind} document: {why}")]
    Malformed {
        /// The kind that was expected.
        kind: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Another kind of document lies here.
    #[error("a {found} document lies where a {expected} document belongs")]
    Kind {
        /// The kind that was expected.
        expected: &'static str,
        /// The kind that was found.
        found: String,
    },
    /// Written by another release.
    #[error(
        "{kind} document of format version {found}, and this release reads {supported}; use the release that wrote it"
    )]
    Version {
        /// The kind.
        kind: &'static str,
        /// The version found.
        found: u32,
        /// The version that this build reads.
        supported: u32,
    },
    /// The bytes are not those that were written.
    #[error("{kind} document is damaged: its bytes do not match its digest")]
    Damaged {
        /// The kind.
        kind: &'static str,
    },
    /// More than [`MAX_DOCUMENT_BYTES`].
    #[error("{kind} document is larger than {MAX_DOCUMENT_BYTES} bytes when decompressed")]
    TooLarge {
        /// The kind.
        kind: &'static str,
    },
    /// More than [`MAX_DOCUMENT_ENTRIES`].
    #[error("{kind} document has more than {MAX_DOCUMENT_ENTRIES} entries")]
    TooMany {
        /// The kind.
        kind: &'static str,
    },
}

#[derive(Serialize)]
struct Sealed<'a> {
    format: &'a str,
    version: u32,
    sha256: Sha256Digest,
    body: &'a RawValue,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Opened<'a> {
    format: String,
    version: u32,
    sha256: Sha256Digest,
    #[serde(borrow)]
    body: &'a RawValue,
}

fn digest(format: &str, version: u32, body: &str) -> Sha256Digest {
    Sha256Digest::of(format!("{format}\n{version}\n{body}").as_bytes())
}

fn render(format: &str, version: u32, body: &RawValue) -> Result<Vec<u8>, serde_json::Error> {
    let sha256 = digest(format, version, body.get());
    let mut bytes = serde_json::to_vec(&Sealed { format, version, sha256, body })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The bytes to store for `document`.
///
/// # Errors
/// [`FormatError::Malformed`] if it can't be written as JSON, which no document of ours does.
pub fn encode<D: Document>(document: &D) -> Result<Vec<u8>, FormatError> {
    let malformed = |why: String| FormatError::Malformed { kind: D::KIND, why };
    let body = serde_json::value::to_raw_value(document).map_err(|e| malformed(e.to_string()))?;
    let format = format!("vouchsafe.dev/{}", D::KIND);
    let plain = render(&format, D::VERSION, &body).map_err(|e| malformed(e.to_string()))?;
    if D::COMPRESSED { compress(&plain).map_err(|e| malformed(e.to_string())) } else { Ok(plain) }
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// Anything that is not, to the last byte, a document of this kind and version: see [`FormatError`].
pub fn decode<D: Document>(bytes: &[u8]) -> Result<D, FormatError> {
    let malformed = |why: String| FormatError::Malformed { kind: D::KIND, why };
    let plain;
    let plain: &[u8] = if D::COMPRESSED {
        plain = decompress(bytes, D::KIND, MAX_DOCUMENT_BYTES)?;
        &plain
    } else {
        bytes
    };
    if count_entries(plain) > MAX_DOCUMENT_ENTRIES {
        return Err(FormatError::TooMany { kind: D::KIND });
    }
    let opened: Opened<'_> = serde_json::from_slice(plain).map_err(|e| malformed(e.to_string()))?;
    let expected = format!("vouchsafe.dev/{}", D::KIND);
    if opened.format != expected {
        let found = opened.format.chars().take(80).collect();
        return Err(FormatError::Kind { expected: D::KIND, found });
    }
    if opened.version != D::VERSION {
        let (kind, found, supported) = (D::KIND, opened.version, D::VERSION);
        return Err(FormatError::Version { kind, found, supported });
    }
    if opened.sha256 != digest(&expected, D::VERSION, opened.body.get()) {
        return Err(FormatError::Damaged { kind: D::KIND });
    }
    let again = render(&expected, D::VERSION, opened.body).map_err(|e| malformed(e.to_string()))?;
    if again != plain {
        return Err(FormatError::Damaged { kind: D::KIND });
    }
    serde_json::from_str(opened.body.get()).map_err(|e| malformed(e.to_string()))
}

fn compress(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Write;
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1)?;
    encoder.include_checksum(true)?;
    encoder.write_all(plain)?;
    encoder.finish()
}

/// Commas, wherever they stand: those in texts are counted, too, and make no difference.
fn count_entries(plain: &[u8]) -> usize {
    plain.iter().filter(|byte| **byte == b',').count()
}

fn decompress(bytes: &[u8], kind: &'static str, limit: usize) -> Result<Vec<u8>, FormatError> {
    let malformed = |e: std::io::Error| FormatError::Malformed { kind, why: e.to_string() };
    let mut decoder = zstd::stream::Decoder::with_buffer(bytes).map_err(malformed)?.single_frame();
    decoder.window_log_max(MAX_WINDOW_LOG).map_err(malformed)?;
    let mut plain = Vec::new();
    let read = decoder.by_ref().take(limit as u64 + 1).read_to_end(&mut plain).map_err(malformed)?;
    if read > limit {
        return Err(FormatError::TooLarge { kind });
    }
    if !decoder.finish().is_empty() {
        return Err(FormatError::Damaged { kind });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Plain {
        text: String,
        numbers: Vec<u64>,
    }
    impl Document for Plain {
        const KIND: &'static str = "test-plain";
    }
    #[derive(Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Packed(Plain);
    impl Document for Packed {
        const KIND: &'static str = "test-packed";
        const COMPRESSED: bool = true;
    }
    #[derive(Serialize, serde::Deserialize, Debug)]
    struct Newer(u8);
    impl Document for Newer {
        const KIND: &'static str = "test-plain";
        const VERSION: u32 = 2;
    }

    fn plain() -> Plain {
        Plain { text: "größe \"x\"".into(), numbers: vec![0, u64::MAX] }
    }

    #[test]
    fn every_flipped_bit_of_a_document_is_found() {
        let bytes = encode(&plain()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<Plain>(&damaged).is_err(), "bit {bit} was flipped unseen");
        }
    }

    /// A zstd frame has header bits that decoders ignore (RFC 8878, section 3.1.1.1.1), so here a flip may
    /// go unseen, but never changes what is read; the digests of stored bytes, which other documents
    /// hold, find those too.
    #[test]
    fn no_flipped_bit_of_a_compressed_document_changes_it() {
        let bytes = encode(&Packed(plain())).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = decode::<Packed>(&damaged) {
                assert_eq!(read, Packed(plain()), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_newer_document_says_so() {
        let error = decode::<Plain>(&encode(&Newer(1)).unwrap()).unwrap_err();
        assert!(matches!(error, FormatError::Version { found: 2, supported: 1, .. }), "{error}");
    }

    #[test]
    fn another_kind_says_so() {
        #[derive(Serialize, serde::Deserialize, Debug)]
        struct Other(u8);
        impl Document for Other {
            const KIND: &'static str = "test-other";
        }
        let error = decode::<Plain>(&encode(&Other(1)).unwrap()).unwrap_err();
        assert!(error.to_string().contains("test-other"), "{error}");
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        let bomb = compress(&vec![b' '; 4 << 20]).unwrap();
        assert!(bomb.len() < 1 << 10, "{} bytes", bomb.len());
        assert!(matches!(decompress(&bomb, "test", 1 << 20), Err(FormatError::TooLarge { kind: "test" })));
        assert_eq!(decompress(&bomb, "test", 4 << 20).unwrap().len(), 4 << 20);
    }

    #[test]
    fn a_frame_that_asks_for_much_memory_is_refused_by_its_header() {
        let frame = |window: u8| {
            // No single segment, no checksum; then the window's logarithm, less ten, in five bits, and a last, raw
            // block of two bytes (RFC 8878, section 3.1.1).
            vec![0x28, 0xb5, 0x2f, 0xfd, 0, (window - 10) << 3, 0b1_0001, 0, 0, b'{', b'}']
        };
        assert_eq!(decompress(&frame(23), "test", 1 << 20).unwrap(), b"{}");
        let error = decompress(&frame(24), "test", 1 << 20).unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
    }

    #[test]
    fn a_document_of_nothing_but_entries_is_refused_before_it_is_parsed() {
        let document = Plain { text: String::new(), numbers: vec![0; 1 << 10] };
        assert_eq!(count_entries(&encode(&document).unwrap()), (1 << 10) - 1 + 4);
        let mut bytes = br#"{"format":"vouchsafe.dev/test-plain","version":1,"sha256":""#.to_vec();
        bytes.extend(std::iter::repeat_n(b',', MAX_DOCUMENT_ENTRIES + 1));
        assert!(matches!(decode::<Plain>(&bytes), Err(FormatError::TooMany { .. })));
    }

    #[test]
    fn padding_after_a_frame_is_found() {
        let mut bytes = encode(&Packed(plain())).unwrap();
        bytes.extend_from_slice(&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]); // a skippable frame, RFC 8878 section 3.1.2
        assert!(decode::<Packed>(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn documents_come_back(text: String, numbers: Vec<u64>) {
            let document = Plain { text, numbers };
            prop_assert_eq!(&decode::<Plain>(&encode(&document).unwrap()).unwrap(), &document);
            let packed = Packed(document);
            prop_assert_eq!(decode::<Packed>(&encode(&packed).unwrap()).unwrap(), packed);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = decode::<Plain>(&bytes);
            let _ = decode::<Packed>(&bytes);
        }
    }
}
