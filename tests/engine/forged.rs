//! Documents that somebody else has written: of a newer format, cut, with a path in a key, or made to take memory.
//! None is believed, and none reaches a target.

use std::io::Write;
use std::path::{Path, PathBuf};

use vouchsafe::format::Sha256Digest;

use super::shop::{Shop, objects_of, run};

/// The document in a file, as text.
fn opened(path: &Path) -> String {
    String::from_utf8(zstd::decode_all(&*std::fs::read(path).unwrap()).unwrap()).unwrap()
}

/// The same with another version or body, and the digest that belongs to it.
fn sealed(plain: &str, version: u32, change: impl Fn(&str) -> String) -> String {
    let document: serde_json::Value = serde_json::from_str(plain).unwrap();
    let format = document["format"].as_str().unwrap();
    let body = plain.split_once("\"body\":").unwrap().1.strip_suffix("}\n").unwrap();
    let body = change(body);
    let sha256 = Sha256Digest::of(format!("{format}\n{version}\n{body}").as_bytes());
    format!("{{\"format\":\"{format}\",\"version\":{version},\"sha256\":\"{sha256}\",\"body\":{body}}}\n")
}

fn compressed(plain: &str) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(plain.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn forged_documents_are_refused_before_the_target_is_touched() {
    let shop = Shop::open("forged");
    run(shop.backup()).must_succeed();
    let named = |name: &str| -> PathBuf {
        objects_of(shop.here.path(), false).into_iter().find(|path| path.ends_with(name)).unwrap()
    };
    let same = |body: &str| body.to_owned();
    let (manifest, part) = (named("manifest.json.zst"), named("part.json.zst"));
    let (plain, plain_part) = (opened(&manifest), opened(&part));
    // The means of forging are right: the document as it is comes out as it was.
    assert_eq!(sealed(&plain, 1, same), plain);
    let whole = std::fs::read(&manifest).unwrap();
    let path = |body: &str| body.replacen("\"key\":\"runs/", "\"key\":\"../runs/", 1);
    assert_ne!(sealed(&plain_part, 1, path), plain_part, "no key in {plain_part}");
    let later = |body: &str| body.replacen("\"written\":\"20", "\"written\":\"21", 1);
    assert_ne!(sealed(&plain, 1, later), plain);
    // Refused before anything of it is parsed.
    let entries = compressed(&"0,".repeat(33 << 20));
    let forged: [(&Path, Vec<u8>, &str, &str); 7] = [
        (&manifest, compressed(&sealed(&plain, 2, same)), "FormatVersion", "format version 2"),
        (&manifest, whole[..whole.len() / 2].to_vec(), "DocumentDamaged", "manifest.json.zst"),
        (&manifest, compressed(&plain[..plain.len() / 2]), "DocumentDamaged", "manifest.json.zst"),
        // Frame header of a window of 1 GiB, and nothing that would need it.
        (&manifest, vec![0x28, 0xb5, 0x2f, 0xfd, 0, 20 << 3, 1, 0, 0], "DocumentDamaged", "memory"),
        (&manifest, entries, "DocumentDamaged", "entries"),
        // A document of ours in all but one fact: only the digest that the next one holds tells.
        (&manifest, compressed(&sealed(&plain, 1, later)), "ObjectChanged", "manifest.json.zst"),
        (&part, compressed(&sealed(&plain_part, 1, path)), "DamageFound", "part.json.zst"),
    ];
    let databases =
        "SELECT string_agg(datname, ' ' ORDER BY oid) FROM pg_database WHERE datname LIKE 'forged%'";
    let before = shop.sql(databases);
    for (target, bytes, reason, said) in forged {
        let original = std::fs::read(target).unwrap();
        std::fs::write(target, bytes).unwrap();
        let ended = run(shop.restore("forged_restored"));
        assert_eq!((ended.code, &*ended.reason()), (Some(3), reason), "{said}: {ended:?}");
        assert!(ended.stdout.contains(said), "{said}: {ended:?}");
        std::fs::write(target, original).unwrap();
    }
    assert_eq!(shop.sql(databases), before);
    run(shop.restore("forged_restored")).must_succeed();
}

/// Every digest of the chain fits, and every object is what its receipt says: only working the books out tells.
#[test]
fn a_manifest_that_its_books_do_not_bear_out_is_damage() {
    let shop = Shop::open("unbalanced");
    run(shop.backup()).must_succeed();
    let files: Vec<PathBuf> =
        [&shop.here, &shop.there].into_iter().flat_map(|folder| objects_of(folder.path(), false)).collect();
    let digest = |path: &Path| Sha256Digest::of(&std::fs::read(path).unwrap()).to_string();
    let mut renamed: Vec<(String, String)> = Vec::new();
    let manifest = files.iter().find(|path| path.ends_with("manifest.json.zst")).unwrap();
    let verdicts = files.iter().filter(|path| path.to_string_lossy().contains("/verdicts/"));
    let outcome = files.iter().find(|path| path.ends_with("outcome.json")).unwrap();
    for path in std::iter::once(manifest).chain(verdicts).chain([outcome]) {
        let before = digest(path);
        let is_manifest = path == manifest;
        let plain = if is_manifest { opened(path) } else { std::fs::read_to_string(path).unwrap() };
        let forged = sealed(&plain, 1, |body| {
            let more = |body: &str| body.replacen("\"rawBytes\":", "\"rawBytes\":1", 1);
            let body = if is_manifest { more(body) } else { body.to_owned() };
            renamed.iter().fold(body, |body, (old, new)| body.replace(old, new))
        });
        assert_ne!(forged, plain, "{}", path.display());
        std::fs::write(path, if is_manifest { compressed(&forged) } else { forged.into_bytes() }).unwrap();
        renamed.push((before, digest(path)));
    }
    assert!(renamed.len() >= 4, "manifest, two verdicts and the outcome: {renamed:?}");
    for command in [shop.verify(), shop.restore("unbalanced_restored")] {
        let ended = run(command);
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert!(ended.stdout.contains("says otherwise of its tables than its books"), "{ended:?}");
    }
}
