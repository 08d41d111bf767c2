//! A crash at every operation of a history, with every fate of what was not synced: what
//! was committed is there, what was not is whole or absent, and the file goes on.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::fragile::{Fate, Fragile};
use super::{Rows, commit, open, read_all};

/// Rows that a commit writes; `None` removes.
type Step = BTreeMap<u32, Option<Vec<u8>>>;

/// The commits of a history, between which the file is closed and opened. A large one
/// grows into a second group of checksums and shrinks again.
fn steps(large: bool) -> Vec<Step> {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut steps = Vec::new();
    for step in 0..10_u32 {
        let mut rows = BTreeMap::new();
        for _ in 0..20 {
            let bytes = if rng.random_bool(0.1) { 30_000 } else { rng.random_range(10..300) };
            let value = vec![rng.random::<u8>(); bytes];
            rows.insert(rng.random_range(0..200), rng.random_bool(0.8).then_some(value));
        }
        if large && step == 4 {
            rows.extend((1_000..1_100).map(|key| (key, Some(vec![step as u8; 50_000]))));
        }
        if large && step == 6 {
            rows.extend((1_000..1_100).map(|key| (key, None)));
        }
        steps.push(rows);
    }
    steps
}

fn applied(steps: &[Step]) -> Rows {
    let mut rows = Rows::new();
    for (key, value) in steps.iter().flatten() {
        match value {
            Some(value) => drop(rows.insert(*key, value.clone())),
            None => drop(rows.remove(key)),
        }
    }
    rows
}

/// Runs the history until the file fails; says how many commits were acknowledged.
fn run(file: &Fragile, steps: &[Step]) -> usize {
    let mut done = 0;
    for part in steps.chunks(3) {
        let Ok(db) = open(file) else { return done };
        for step in part {
            if commit(&db, step).is_err() {
                return done;
            }
            done += 1;
        }
    }
    done
}

/// What is in the file is what was acknowledged, or one commit more; it is sound and can
/// be written to.
fn look(file: &Fragile, steps: &[Step], done: usize) -> Result<(), String> {
    let said = |error: redb::Error| error.to_string();
    let mut db = open(file).map_err(said)?;
    let rows = read_all(&db).map_err(said)?;
    let more = (done + 1).min(steps.len());
    if rows != applied(&steps[..done]) && rows != applied(&steps[..more]) {
        return Err(format!("not the rows of {done} commits or one more"));
    }
    if !db.check_integrity().map_err(|error| error.to_string())? {
        return Err("redb finds it unsound".into());
    }
    let one_more = BTreeMap::from([(5_000, Some(vec![1; 40_000]))]);
    commit(&db, &one_more).map_err(said)?;
    drop(db);
    let again = open(file).and_then(|db| read_all(&db)).map_err(said)?;
    if again.len() == rows.len() + 1 { Ok(()) } else { Err("the next commit is lost".into()) }
}

/// A crash at every `each`th operation; says where something was wrong.
fn crashes(large: bool, each: usize, lies: bool) -> Vec<String> {
    let steps = steps(large);
    let whole = Fragile::default();
    assert_eq!(run(&whole, &steps), steps.len());
    assert_eq!(look(&whole, &steps, steps.len()), Ok(()));
    let operations = whole.operations();
    assert!(operations > 200, "{operations}");
    let mut wrong = Vec::new();
    for at in (0..operations).step_by(each) {
        let file = Fragile::default();
        file.fail_at(at);
        file.lie(lies);
        let done = run(&file, &steps);
        let fate = [Fate::Lost, Fate::Kept, Fate::Some, Fate::Torn][at / 2 % 4];
        let mut rng = SmallRng::seed_from_u64(at as u64);
        let mut left = file.crash(fate, &mut rng);
        // Half of them crash again while they recover.
        if at % 2 == 1 && !lies {
            left.fail_at(rng.random_range(0..12));
            drop(open(&left));
            if left.has_failed() {
                left = left.crash(fate, &mut rng);
            }
            left.fail_at(usize::MAX);
        }
        // On what a lying disk lost redb may panic.
        let looked = AssertUnwindSafe(|| look(&left, &steps, done));
        match catch_unwind(looked) {
            Ok(Ok(())) => {}
            Ok(Err(what)) => wrong.push(format!("operation {at}, {fate:?}: {what}")),
            Err(_) => wrong.push(format!("operation {at}, {fate:?}: a panic")),
        }
    }
    wrong
}

#[test]
fn a_crash_at_any_operation_leaves_what_was_committed() {
    assert_eq!(crashes(false, 1, false), Vec::<String>::new());
}

#[test]
fn a_crash_of_a_file_that_grows_and_shrinks_leaves_what_was_committed() {
    assert_eq!(crashes(true, 5, false), Vec::<String>::new());
}

/// The planted fault: a disk that calls writes safe before they are.
#[test]
fn a_file_on_a_disk_that_lies_is_found() {
    assert!(!crashes(false, 7, true).is_empty());
}
