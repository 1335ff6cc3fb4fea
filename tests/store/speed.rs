//! How fast stores take and give, for whoever changes them: `cargo test --release --test store -- --ignored
//! --nocapture speed`. Figures, no verdict: machines differ.

use std::time::Instant;

use futures::TryStreamExt;
use rstest::rstest;
use vouchsafe::store::{Upload, UploadOptions};

use crate::fixture::{Fixture, Kind, bytes, key};

const MIB: usize = 1 << 20;
const LENGTH: usize = 1_024 * MIB;

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed_of_two_uploads_and_reading_back(#[case] kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let block = bytes(MIB, 1);
    let started = Instant::now();
    let uploads = (0..2).map(|n| {
        let (store, block) = (fixture.store.clone(), block.clone());
        tokio::spawn(async move {
            let mut upload = Upload::begin(&store, key(&format!("data/{n}")), UploadOptions::default());
            for _ in 0..LENGTH / MIB {
                upload.write(block.clone()).await.unwrap();
            }
            upload.finish().await.unwrap()
        })
    });
    for ended in futures::future::join_all(uploads).await {
        let _ = ended.unwrap();
    }
    let rate = |length: usize, since: Instant| (length / MIB) as f64 / since.elapsed().as_secs_f64();
    println!("{kind:?}: two uploads {:.0} MiB/s", rate(2 * LENGTH, started));
    let started = Instant::now();
    for n in 0..2 {
        let download = fixture.store.get(&key(&format!("data/{n}")), None, None).await.unwrap();
        let read =
            download.body.try_fold(0, |sum, bytes| async move { Ok(sum + bytes.len()) }).await.unwrap();
        assert_eq!(read, LENGTH);
    }
    println!("{kind:?}: reading {:.0} MiB/s", rate(2 * LENGTH, started));
}
