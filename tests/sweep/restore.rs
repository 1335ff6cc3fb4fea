//! Faults between a restore and the store that it reads from, at the trait and on the wire.

use std::sync::Arc;

use vouchsafe::engine::back_up;
use vouchsafe::engine::restore::restore;

use super::cases::{self, Case, End, Extent, carry_out};
use super::fault::{Level, Must};
use super::rig::Rig;
use super::server::OfServer;
use super::world::{Source, World};

async fn sweep(name: &str, level: Level, extent: &Extent) {
    let world = World::of(OfServer::Minio).await;
    // What all cases restore.
    let folder = format!("c{}", world.number());
    let rig = Rig::new(&world, level, &folder, &[]).await;
    back_up(&world.backup_job(Source::Small, &rig.stores)).await.unwrap();
    let reading = Rig::new(&world, level, &folder, &[]).await;
    let database = format!("r{}_", world.number());
    restore(&world.restore_job(&reading.stores, world.postgres.port(), &database)).await.unwrap();
    world.must_equal(Source::Small, &database).await.unwrap();
    let requests = reading.requests();
    assert!(requests.len() > 30, "{requests:?}");
    let all = cases::cases(extent, level, Source::Small, &requests, |_| true);
    let cases = extent.cases(all, |mark| mark.fault.must_in_restore(mark.kind));
    carry_out(name, extent, cases, Case::words, |case| {
        let (world, folder) = (Arc::clone(&world), folder.clone());
        async move { read(&world, level, &folder, &case).await }
    })
    .await;
}

/// One case: the restore under its faults, and what is there afterwards.
async fn read(world: &Arc<World>, level: Level, folder: &str, case: &Case) -> Result<End, String> {
    let database = format!("r{}_", world.number());
    let faults: Vec<_> = case.marks.iter().map(|mark| (mark.kind, mark.nth, mark.fault)).collect();
    let rig = Rig::new(world, level, folder, &faults).await;
    let ended = restore(&world.restore_job(&rig.stores, world.postgres.port(), &database)).await;
    rig.heal();
    let left = world.databases(&database).await;
    let judged = async {
        rig.all_fired(&case.marks).map_err(|unfired| format!("{unfired}; it ended {ended:?}"))?;
        let end = match &ended {
            Ok(_) if left.contains(&database) => {
                world.must_equal(Source::Small, &database).await?;
                End::Proven
            }
            Err(error) if !left.contains(&database) && error.reason() != "Internal" => End::Failed,
            _ => return Err(format!("neither restored nor failed: {ended:?}, and there are {left:?}")),
        };
        match case.marks[0].fault.must_in_restore(case.marks[0].kind) {
            Must::Succeed if end != End::Proven => Err(format!("it must succeed: {ended:?}")),
            Must::Fail if end == End::Proven => Err("it must fail, and succeeded".to_owned()),
            _ => Ok(end),
        }
    };
    let judged = judged.await;
    world.drop_databases(left).await;
    judged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn restore_reading_at_the_trait() {
    sweep("Restore, faults of its store at the trait", Level::Trait, &Extent::wanted()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn restore_reading_on_the_wire() {
    sweep("Restore, faults of its store on the wire", Level::Wire, &Extent::wanted()).await;
}
