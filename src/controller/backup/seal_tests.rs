//! Which seals are believed.

use serde_json::json;

use super::tests::{NONCE, PLAN, World, sealed, verdict_of};
use super::*;

#[test]
fn a_seal_without_its_witnesses_is_no_success() {
    let mut alone = World::new(&json!({}));
    alone.step();
    alone.ends("coordinator", Some(sealed(&["eu", "us"])));
    alone.step();
    assert_eq!((alone.phase(), alone.reason()), (BackupPhase::Failed, "WitnessesDiffer".into()));

    let mut half = World::new(&json!({}));
    half.export();
    half.ask();
    half.answer("eu");
    half.ends("coordinator", Some(sealed(&["eu"])));
    half.step();
    assert_eq!((half.phase(), half.reason()), (BackupPhase::Failed, "WitnessesDiffer".into()));

    let mut other = World::new(&json!({}));
    other.export();
    other.ask();
    other.answer("eu");
    other.ends("verifier-us", Some(LastWord::Verdict { nonce: PLAN.into(), sha256: verdict_of("us") }));
    other.step();
    other.ends("coordinator", Some(sealed(&["eu", "us"])));
    other.step();
    assert_eq!((other.phase(), other.reason()), (BackupPhase::Failed, "WitnessesDiffer".into()));
}

/// The first attempt was believed dead, and sealed when the second had begun anew, or had asked anew.
#[test]
fn a_seal_of_an_earlier_question_is_believed_by_its_own_witnesses() {
    for asked_anew in [false, true] {
        let mut world = World::new(&json!({}));
        world.export();
        world.ask();
        world.answer("eu");
        world.answer("us");
        world.overtake();
        if asked_anew {
            let other = "00000000000000000000000000000003";
            world.publish("Verifying", true);
            world.backup.status.as_mut().unwrap().run.as_mut().unwrap().nonce = Some(other.into());
            world.step();
            let word = LastWord::Verdict { nonce: other.into(), sha256: "d".repeat(64) };
            world.ends("verifier-eu", Some(word));
            world.step();
            let proof = world.backup.status.as_ref().unwrap().proof.clone().unwrap();
            assert_eq!((proof.witnesses.len(), &*proof.witnesses[0].nonce), (1, other));
        }
        world.ends("coordinator", Some(sealed(&["eu", "us"])));
        world.step();
        assert_eq!((world.phase(), world.reason()), (BackupPhase::Succeeded, String::new()), "{asked_anew}");
        let witnesses = world.backup.status.unwrap().proof.unwrap().witnesses;
        assert!(witnesses.len() == 2 && witnesses.iter().all(|it| it.nonce == NONCE), "{witnesses:?}");
    }
}

#[test]
fn a_seal_of_an_earlier_question_that_one_has_not_answered_is_no_success() {
    let mut half = World::new(&json!({}));
    half.export();
    half.ask();
    half.answer("eu");
    half.overtake();
    half.ends("coordinator", Some(sealed(&["eu"])));
    half.step();
    assert_eq!((half.phase(), half.reason()), (BackupPhase::Failed, "WitnessesDiffer".into()));

    // Verdicts of two questions are not one proof.
    let mut mixed = World::new(&json!({}));
    mixed.export();
    mixed.ask();
    mixed.answer("eu");
    mixed.overtake();
    mixed.publish("Verifying", true);
    mixed.backup.status.as_mut().unwrap().run.as_mut().unwrap().nonce = Some(PLAN.into());
    mixed.step();
    mixed.ends("verifier-us", Some(LastWord::Verdict { nonce: PLAN.into(), sha256: verdict_of("us") }));
    mixed.step();
    mixed.ends("coordinator", Some(sealed(&["eu", "us"])));
    mixed.step();
    assert_eq!((mixed.phase(), mixed.reason()), (BackupPhase::Failed, "WitnessesDiffer".into()));
}
