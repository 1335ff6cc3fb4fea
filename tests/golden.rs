//! One file per kind of document and version, as some release has written it: each must decode for ever, to the
//! same value, and today's encoder must still write it.

#![allow(clippy::unwrap_used, reason = "what helpers of tests unwrap fails the test")]

#[path = "golden/catalogs.rs"]
mod catalogs;
#[path = "golden/documents.rs"]
mod documents;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use vouchsafe::format::{Document, Sha256Digest, decode, encode};

/// SHA-256 of every file, as it was when it was put there. From the first release on a new version gets new files, and
/// these never change; until then version 1 is not closed (the census has got its counts of catalogs under it).
const FILES: [(&str, &str); 24] = [
    ("attempt.json", "18f7290b79adfafc1c820c434f7cb2a1061d0dadd8cef57af81688019613ee96"),
    ("beat.json", "ccee3d322326272a6ec17557d1f8bd66a45d59021b5a8e00a14e9d875f06e611"),
    ("catalog-database.json", "df8452de5d6058eada3c9a943297e1e122797a207ba803da87ffbae1651cf92a"),
    ("catalog-large-objects.json", "bacd7f42518916f7be9e06e858f8a55533272c1d703ba94a62c7a42ec1b41ba7"),
    ("catalog-roles.json", "3e681a152c9a1207d31da42e28682bbcb9948511270b2cef0e3a3c7aec5a2845"),
    ("catalog-sequences.json", "c8a162bef393d928cf99ae5389d7c7b291444add8a5702aafcb3a39928ba69a4"),
    ("census.json.zst", "a3347ebc68941033c8eefdd5ddbcdbbbf592a49e8e3177ba64c8164073f7be4e"),
    ("collection.json", "3f6eef4366ddb98a0af198b1281df58e19e226064f96e0a46864553a40eb7b62"),
    ("copied.json", "a055c6c8ab14edc41cc4f0d5ed0c19c3e33a8f4aa641503493e60857cd474084"),
    ("copy.json", "cf9ef6cd2865edaa728350b6caf3d7ff707db8a660a2f3f29d92ff9e0b947f15"),
    ("manifest.json.zst", "f8098a9b618271da15aff87c10f2718f3312e6d37eb2de3c0d0edf14c9379a4e"),
    ("outcome-pruned.json", "f85d7d07c9a84a629163ebc34e6faa87163c645502c5652491573499f4576b84"),
    ("outcome-sealed.json", "b983bde7506ce3b1d41e023007c05d35f6057eda402153bf805deb63363a33a2"),
    ("outcome-void.json", "a708dc91d0482f4659a28456d9e41398e220679b807de5bd1c84344bb8058164"),
    ("part.json.zst", "a48e7d732d4e3a9bc8e90dacf2b6bc152dfdf370142c7b9ba3ede06caff154ab"),
    ("plan.json.zst", "b3f77e35d51ca3ae8dc0923b5f9e37f29770ad6baa4a49ed6ff6b15db6023977"),
    ("receipt-catalog.json", "56e52f5e40bc908f39808db36b58b94f0c4bb5ca3d0265c90135fcd96ece2ad0"),
    ("receipt-empty.json", "60ccb926bb29fe9a6948245d3ad2c0ad8ab846b53349a37c15dcc347abfe002c"),
    ("receipt-rows.json", "0bd48ce692e638abc88f52b155aa65a0652e742d304420b3f2243d6e76cb21d8"),
    ("retired.json", "4b726fb98cd21e40215d032eb2f9d67184d5d6d4ca9c4e4b4f61fd636dcc4a6f"),
    ("run-first.json", "b972ed11987249b1fa0e57c5453ea3049c6fd5702e2be5f13cba5ece04527520"),
    ("run.json", "6afc7e0e9f8ae4f34292e3262b3f39f1482117603afee0196dace41ce69fdc3d"),
    ("tickets.json.zst", "c9746567da62fa43350aca7011f430456ea9c2664335e1782531b63c57451c2f"),
    ("verdict.json", "391ec737022aa01fe79f40514379f4e7932ea17ddfc38485e9216a3d2e1286a6"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// What a stored document holds, decompressed: of the compressed bytes the compressor's version decides.
fn plain<D: Document>(bytes: &[u8]) -> Vec<u8> {
    if D::COMPRESSED { zstd::decode_all(bytes).unwrap() } else { bytes.to_vec() }
}

/// The file of this name decodes to `value`, and `value` is written as the file says.
fn check<D: Document + PartialEq + Debug>(name: &str, value: &D) {
    let path = folder().join(format!("{name}.json{}", if D::COMPRESSED { ".zst" } else { "" }));
    let encoded = encode(value).unwrap();
    let Ok(stored) = std::fs::read(&path) else {
        std::fs::write(&path, encoded).unwrap();
        panic!("{} was missing: it is written now; look at it, and keep it", path.display());
    };
    assert_eq!(&decode::<D>(&stored).unwrap(), value, "{name}");
    let (now, then) = (plain::<D>(&encoded), plain::<D>(&stored));
    assert_eq!(String::from_utf8(now).unwrap(), String::from_utf8(then).unwrap(), "{name}");
    assert!(D::COMPRESSED || encoded == stored);
    // A file for this version of this kind: another version needs another one.
    let line = format!("{{\"format\":\"vouchsafe.dev/{}\",\"version\":{},", D::KIND, D::VERSION);
    assert!(plain::<D>(&stored).starts_with(line.as_bytes()), "{name}");
    assert_eq!(
        D::VERSION,
        1,
        "{name} has another version: keep v1's file and its decoder, and add one for this"
    );
}

#[test]
fn every_document_decodes_and_is_written_as_it_was() {
    documents::check_all();
    catalogs::check_all();
}

#[test]
fn no_golden_file_changes() {
    let known: BTreeSet<(String, String)> =
        FILES.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned())).collect();
    let found: BTreeSet<(String, String)> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, Sha256Digest::of(&std::fs::read(path).unwrap()).to_string())
        })
        .collect();
    assert_eq!(found, known);
}

#[test]
fn every_kind_has_a_file() {
    let mut kinds = BTreeSet::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/format")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for rest in text.split("const KIND: &'static str = \"").skip(1) {
            kinds.insert(rest.split('"').next().unwrap().to_owned());
        }
    }
    kinds.retain(|kind| !kind.starts_with("test-"));
    assert!(kinds.len() >= 11, "{kinds:?}");
    for kind in kinds {
        let name = |(file, _): &(&str, &str)| {
            file.starts_with(&format!("{kind}.")) || file.starts_with(&format!("{kind}-"))
        };
        assert!(FILES.iter().any(name), "no golden file of {kind}");
    }
}
