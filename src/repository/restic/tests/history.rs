//! Random histories of backups, forgotten snapshots, prunes and crashes, against the model.

use super::*;
use crate::repository::backend::testing::{Fault, FaultyBackend};

fn some_request(dice: &mut Dice) -> PruneRequest {
    let max_unused = [MaxUnused::Bytes(0), MaxUnused::Bytes(2000), MaxUnused::Percent(20.0), MaxUnused::Unlimited][dice.roll(4)];
    PruneRequest {
        max_unused,
        max_repack_bytes: (dice.roll(3) == 0).then(|| dice.roll(20_000) as u64),
        repack_small: dice.roll(3) == 0,
        repack_cacheable_only: dice.roll(5) == 0,
        dry_run: dice.roll(8) == 0,
    }
}

/// Two that do not see each other's data store it twice.
fn two_at_once(world: &mut World, dice: &mut Dice) {
    let (one, other) = (world.repository(), world.repository());
    // Each has loaded its index before the other has written anything.
    let _ = (one.stats(&Control::new()).unwrap(), other.stats(&Control::new()).unwrap());
    let files = some_files(dice);
    let mut more = files.clone();
    more.extend(some_files(dice));
    for (repository, files) in [(one, files), (other, more)] {
        world.clock += 1;
        let id = back_up(&repository, &files, world.clock).unwrap();
        world.snapshots.insert(id, files);
    }
}

fn crashing(world: &mut World, dice: &mut Dice) {
    let fault = [Fault::Fails, Fault::Ends, Fault::Short][dice.roll(3)];
    let faulty = Arc::new(FaultyBackend::new(world.memory.clone(), fault, dice.roll(60)));
    let repository = repository(&world.open, faulty);
    match dice.roll(3) {
        0 => drop(prune(&repository, &some_request(dice))),
        1 => {
            let goes = some_snapshots(world, dice);
            let told = repository.forget(&goes, &Control::new());
            let left: BTreeSet<SnapshotId> = world.repository().snapshots().unwrap().into_iter().map(|snapshot| snapshot.id).collect();
            let gone: Vec<&SnapshotId> = goes.iter().filter(|id| !left.contains(id)).collect();
            // An error says that nothing was removed. What is told to be gone is gone, and whatever is gone was to go.
            assert!(told.is_ok() || gone.is_empty(), "{told:?}, but these are gone: {gone:?}");
            assert!(told.is_err() || told.unwrap().removed.iter().all(|id| gone.contains(&id)), "what was told to be gone is there");
            world.snapshots.retain(|id, _| left.contains(id) || !goes.contains(id));
        }
        _ => {
            let files = some_files(dice);
            world.clock += 1;
            drop(back_up(&repository, &files, world.clock));
            let listed = world.repository().snapshots().unwrap();
            if let Some(new) = listed.into_iter().find(|snapshot| !world.snapshots.contains_key(&snapshot.id)) {
                world.snapshots.insert(new.id, files);
            }
        }
    }
    drop(repository);
    world.bury();
}

/// Up to three of those that are there.
fn some_snapshots(world: &World, dice: &mut Dice) -> Vec<SnapshotId> {
    let all: Vec<&SnapshotId> = world.snapshots.keys().collect();
    let count = (1 + dice.roll(3)).min(all.len());
    let first = dice.roll(all.len().max(1));
    all.iter().cycle().skip(first).take(count).map(|id| (*id).clone()).collect()
}

fn history(seed: u64, steps: usize) {
    let mut dice = Dice::new(seed);
    let mut world = World::new();
    for step in 0..steps {
        let when = format!("seed {seed}, step {step}");
        match dice.roll(10) {
            0..3 => {
                let files = some_files(&mut dice);
                world.back_up(files);
            }
            3 => two_at_once(&mut world, &mut dice),
            4..6 => {
                let goes = some_snapshots(&world, &mut dice);
                let told = world.repository().forget(&goes, &Control::new()).unwrap();
                assert!(told.removed == goes && told.problems.is_empty() && !told.cancelled, "{when}: {told:?} instead of {goes:?}");
                world.snapshots.retain(|id, _| !goes.contains(id));
            }
            6 => prune(&world.repository(), &some_request(&mut dice)).unwrap(),
            7 => {
                prune(&world.repository(), &full_prune()).unwrap();
                world.assert_nothing_unused(&when);
            }
            _ => crashing(&mut world, &mut dice),
        }
        world.assert_whole(&when);
    }
    prune(&world.repository(), &full_prune()).unwrap();
    world.assert_whole("at the end");
    world.assert_nothing_unused("at the end");
}

#[test]
fn nothing_needed_is_lost_and_nothing_else_stays() {
    for seed in 0..8 {
        history(seed, 40);
    }
}

/// For a night: `cargo test --release --lib -- --ignored a_thousand_histories`.
#[test]
#[ignore = "takes long"]
fn a_thousand_histories() {
    for seed in 1000..2000 {
        history(seed, 60);
    }
}
