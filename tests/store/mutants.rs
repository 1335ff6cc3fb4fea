//! The mutants planted in the stores do what they are named after, and nothing does without them. That the
//! engine's guards notice them is shown where the guards are.

use std::process::Command;

use vouchsafe::store::fault::{Fault, Operation, Rule, When};
use vouchsafe::store::{StoreErrorKind, Upload, UploadOptions};

use crate::fixture::{Kind, bytes, key};
use crate::retry::Faulty;

const PLANTED: [&str; 3] = ["ReturnTheOtherError", "SwallowTheFinalFlush", "ConflictMeansMine"];

/// Prints the name of each mistake that this process makes. Run by the test below, in processes of their own:
/// a mutant is chosen once per process.
#[tokio::test]
async fn mistakes_of_this_process() {
    let outage = Rule::new(When::Of(Operation::Create, 0..1_000), Fault::Before(StoreErrorKind::Unavailable));
    let faulty = Faulty::new(Kind::Folder, vec![outage]).await;
    let mut upload = Upload::begin(&faulty.store, key("data/x"), UploadOptions::default());
    upload.write(bytes(100, 1)).await.unwrap();
    if upload.finish().await.is_ok() {
        println!("mistake: ReturnTheOtherError");
    }

    let faulty = Faulty::new(Kind::Folder, vec![]).await;
    let options = UploadOptions { first_part: 1_000, concurrency: 1 };
    let mut upload = Upload::begin(&faulty.store, key("data/y"), options);
    upload.write(bytes(1_005, 1)).await.unwrap();
    let committed = upload.finish().await.unwrap();
    assert_eq!(faulty.fixture.store.head(&key("data/y"), None).await.unwrap().length, committed.length());
    if committed.length() == 1_000 {
        println!("mistake: SwallowTheFinalFlush");
    }

    let _ = faulty.fixture.store.create(&key("run.json"), "theirs".into()).await.unwrap();
    if faulty.store.create(&key("run.json"), "ours".into()).await.is_ok() {
        println!("mistake: ConflictMeansMine");
    }
}

#[test]
fn each_mutant_makes_its_own_mistake() {
    for mutant in ["", "SkipATicket"].into_iter().chain(PLANTED) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["mutants::mistakes_of_this_process", "--exact", "--nocapture"])
            .env("VOUCHSAFE_MUTANT", mutant)
            .output()
            .unwrap();
        assert!(output.status.success(), "{mutant}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let made: Vec<&str> =
            text.lines().filter_map(|line| line.split_once("mistake: ")).map(|(_, name)| name).collect();
        let expected: Vec<&str> = PLANTED.into_iter().filter(|planted| *planted == mutant).collect();
        assert_eq!(made, expected, "with {mutant:?}");
    }
}
