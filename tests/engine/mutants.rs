//! The deliberate lies of rule 8, each told by a process of its own, and the guard that must catch it.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use vouchsafe::format::{Decision, Receipt, Settlement, decode};
use vouchsafe::mutant::Mutant;

use super::shop::{Ended, Shop, end, run};

/// Mutants that are caught in any backup of the shop, by the reason that their guard gives.
const CAUGHT_ANYWHERE: [(Mutant, &str); 7] = [
    (Mutant::SkipATicket, "TicketsOpen"),
    (Mutant::ExportTheNeighboursRange, "EqualSpans"),
    (Mutant::SwallowTheFinalFlush, "DamageFound"),
    (Mutant::VerifierThatEchoes, "VerdictRefused"),
    (Mutant::StaleVerdict, "VerdictRefused"),
    (Mutant::SealBeforeTheLastVerdict, "VerdictRefused"),
    (Mutant::CheckOnlyDigests, "VerdictRefused"),
];

/// Mutants that lie only when something else goes wrong: each has a test below that arranges it.
const ARRANGED: [Mutant; 4] = [
    Mutant::ReturnTheOtherError,
    Mutant::CountFromReceipts,
    Mutant::AcceptAnotherPlansReceipt,
    Mutant::ConflictMeansMine,
];

/// Slow enough that something can be put beside a run's own objects meanwhile.
const SLOW: [&str; 2] = ["--rate-limit", "16Ki"];

/// The run failed for `reason`, says so, and is void for it.
async fn must_be_void(shop: &Shop, run: u32, ended: &Ended, reason: &str) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.reason(), reason, "{ended:?}");
    let decision = shop.decision(run).await;
    assert!(matches!(&decision, Some(Decision::Void { reason: r, .. }) if r == reason), "{decision:?}");
}

fn receipts(folder: &Path) -> Vec<(String, Vec<u8>, Receipt)> {
    let entries = std::fs::read_dir(folder.join("receipts")).unwrap();
    let receipts = entries.map(|entry| {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let receipt = decode(&bytes).unwrap();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), bytes, receipt)
    });
    receipts.collect()
}

#[test]
fn every_mutant_has_its_test() {
    let tested = CAUGHT_ANYWHERE.iter().map(|(mutant, _)| mutant).chain(&ARRANGED);
    let untested: Vec<_> =
        Mutant::ALL.iter().filter(|mutant| !tested.clone().any(|it| it == *mutant)).collect();
    assert!(untested.is_empty(), "{untested:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mutant_the_same_command_succeeds() {
    let shop = Shop::open("honest");
    run(shop.backup()).must_succeed();
    shop.must_be_proven(1).await;
    // What the mutants are to be caught by is there: spans of one table with equal row counts, in one
    // destination of two, and an empty table.
    let receipts = receipts(&shop.wait_for_plan(1));
    let equal = receipts.iter().filter(|(_, _, receipt)| receipt.settlement.fingerprint().rows == 58).count();
    assert!(equal >= 3, "{receipts:?}");
    assert!(receipts.iter().any(|(_, _, receipt)| receipt.settlement == Settlement::Empty));
    assert!(shop.there.path().join("runs").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn mutants_of_a_plain_backup_are_caught_by_their_guards() {
    for (mutant, reason) in CAUGHT_ANYWHERE {
        let shop = Shop::open("mutant");
        let ended = run(shop.backup_as(&format!("{mutant:?}")));
        println!("{mutant:?}: {} ({reason} is wanted)", ended.stdout);
        must_be_void(&shop, 1, &ended, reason).await;
    }
}

/// An object that is too large for the limit on files fails its upload; the mutant acknowledges it.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_upload_that_is_called_committed_is_damage() {
    let shop = Shop::with(
        "error",
        "CREATE TABLE large AS SELECT i, (SELECT string_agg(md5(random()::text || j || i), '') AS noise
             FROM generate_series(1, 128) j) FROM generate_series(1, 400) i;
         CREATE TABLE events AS SELECT 1 AS id",
    );
    let limited = ["env", "--ignore-signal=XFSZ", "prlimit", "--fsize=262144"];
    let honest = run(shop.backup_under(&limited, "64Mi"));
    must_be_void(&shop, 1, &honest, "NoSpace").await;
    let mut lying = shop.backup_under(&limited, "64Mi");
    lying.env("VOUCHSAFE_MUTANT", format!("{:?}", Mutant::ReturnTheOtherError));
    must_be_void(&shop, 2, &run(lying), "DamageFound").await;
}

/// All rows lie in the last span and the one before is empty, so that a worker which exports its neighbour's
/// range loses them without a trace in the fingerprints. Only the database's own count shows it.
#[tokio::test(flavor = "multi_thread")]
async fn counts_from_receipts_are_a_false_success_that_the_databases_counts_prevent() {
    let shop = Shop::with(
        "counts",
        "CREATE TABLE orders(id int, note char(100));
         INSERT INTO orders SELECT i, 'order ' || i FROM generate_series(1, 8 * 58) i;
         DELETE FROM orders WHERE id <= 7 * 58;
         CREATE TABLE events AS SELECT 1 AS id",
    );
    let lost = format!("{:?}", Mutant::ExportTheNeighboursRange);
    must_be_void(&shop, 1, &run(shop.backup_as(&lost)), "CountsDisagree").await;

    // With the guard gone the lie goes through, up to the comparison with the source.
    let ended = run(shop.backup_as(&format!("{lost},{:?}", Mutant::CountFromReceipts)));
    ended.must_succeed();
    let restored = format!("{}_restored", shop.database);
    run(shop.restore(&restored)).must_succeed();
    let count = "SELECT count(*) FROM orders";
    assert_eq!(shop.sql(count), "58");
    assert_eq!(shop.server.psql(&restored, count).unwrap(), "0", "then the mutant does nothing");
}

/// Receipts of an earlier run, under names that come first in the listing of the next one.
#[tokio::test(flavor = "multi_thread")]
async fn another_plans_receipts_do_not_settle_tickets() {
    for (mutant, reason) in [(None, None), (Some(Mutant::AcceptAnotherPlansReceipt), Some("DamageFound"))] {
        let shop = Shop::open("receipts");
        run(shop.backup()).must_succeed();
        let earlier = receipts(&shop.wait_for_plan(1));
        let mut command = shop.backup_as(&mutant.map_or_else(String::new, |mutant| format!("{mutant:?}")));
        let child = command.args(SLOW).spawn().unwrap();
        let folder = shop.wait_for_plan(2).join("receipts");
        std::fs::create_dir_all(&folder).unwrap();
        let first = format!("n{:032}", 0);
        for (name, bytes, _) in &earlier {
            // A second one of a catalog contradicts the first, so the mutant would not come as far as the verifier.
            if String::from_utf8_lossy(bytes).contains(r#"{"catalog":{"#) {
                continue;
            }
            let ticket = name.split('.').next().unwrap();
            // Whole at once, as any store shows an object.
            let mut file = tempfile::NamedTempFile::new_in(shop.here.path()).unwrap();
            file.write_all(bytes).unwrap();
            file.persist(folder.join(format!("{ticket}.{first}.json"))).unwrap();
        }
        let ended = end(child);
        match reason {
            Some(reason) => must_be_void(&shop, 2, &ended, reason).await,
            None => {
                ended.must_succeed();
                shop.must_be_proven(2).await;
            }
        }
    }
}

/// The mutant is caught before it can claim a run: the probe of each destination creates an object twice, and
/// refuses a store that says yes both times.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_that_is_called_a_success_is_found_by_the_probe() {
    let shop = Shop::open("probe");
    let ended = run(shop.backup_as(&format!("{:?}", Mutant::ConflictMeansMine)));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.reason(), "Unsupported", "{ended:?}");
    assert_eq!(shop.newest().await, 0, "a run was claimed");
}

/// Something else has the name that the census is to be written under.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_ends_the_run_and_leaves_what_is_there() {
    let shop = Shop::open("conflict");
    let child = shop.backup().args(SLOW).spawn().unwrap();
    let census = shop.wait_for_plan(1).join("census.json.zst");
    let theirs = b"the census of another process";
    File::create_new(&census).unwrap().write_all(theirs).unwrap();
    let ended = end(child);
    must_be_void(&shop, 1, &ended, "AlreadyExists").await;
    assert_eq!(std::fs::read(census).unwrap(), theirs);
}
