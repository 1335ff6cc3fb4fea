//! Objects of several frames: damage is told by its place, wherever it is.

use super::bad_input::databases;
use super::shop::{Shop, objects_of, run};

/// Some 4 MiB of COPY data in one object: noise, so that a frame is about as long as its content.
const NOISE: &str = "
    CREATE TABLE noise AS SELECT i, md5(i::text) || md5((-i)::text) AS v FROM generate_series(1, 50000) i;
    CREATE TABLE events(x int)";

/// Where the frames of an object begin, and its end.
fn frames(stored: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    while let Some(start) = starts.last().copied().filter(|start| *start < stored.len()) {
        starts.push(start + zstd::zstd_safe::find_frame_compressed_size(&stored[start..]).unwrap());
    }
    starts
}

#[test]
fn damage_in_any_frame_is_found_by_its_place_and_not_restored() {
    let shop = Shop::with("frames", NOISE);
    run(shop.backup_under(&[], "1Gi")).must_succeed();
    let objects = objects_of(shop.here.path(), false);
    let path = objects.iter().max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let whole = std::fs::read(path).unwrap();
    let starts = frames(&whole);
    assert!(starts.len() > 4, "{starts:?} are too few frames");
    let target = format!("{}_again", shop.database);
    for (number, ends) in starts.windows(2).enumerate() {
        let (begin, end) = (ends[0], ends[1]);
        // In the first block of even frames: its place begins with the frame, and not in the one before.
        let at = if number % 2 == 0 { begin + 20 } else { begin + (end - begin) / 2 };
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(path, &damaged).unwrap();
        let ended = run(shop.verify());
        assert_eq!(ended.code, Some(3), "frame {number}: {ended:?}");
        let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        let damages = report["damages"].as_array().unwrap();
        assert_eq!(damages.len(), 1, "frame {number}: {report}");
        let damage = &damages[0];
        assert!(path.ends_with(damage["object"].as_str().unwrap()), "frame {number}: {report}");
        assert_eq!(damage["table"], "public.noise");
        let offsets: Vec<u64> = serde_json::from_value(damage["offsets"].clone()).unwrap();
        let told = offsets[0]..offsets[1];
        assert!(
            told.start >= begin as u64 && told.end <= end as u64,
            "frame {number}: {told:?} of {begin}..{end}"
        );
        let ended = run(shop.restore(&target));
        assert_eq!((ended.code, &*ended.reason()), (Some(3), "DamageFound"), "frame {number}: {ended:?}");
    }
    for cut in &starts[1..starts.len() - 1] {
        std::fs::write(path, &whole[..*cut]).unwrap();
        let ended = run(shop.verify());
        assert_eq!(ended.code, Some(3), "cut at {cut}: {ended:?}");
        assert!(ended.stdout.contains("public.noise"), "cut at {cut}: {ended:?}");
    }
    assert!(databases(shop.server, &target).is_empty());
    std::fs::write(path, &whole).unwrap();
    run(shop.verify()).must_succeed();
    run(shop.restore(&target)).must_succeed();
}
