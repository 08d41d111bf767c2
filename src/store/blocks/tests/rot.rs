//! Flipped bits, blocks in the wrong place, lost writes and cut files: found, never served.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use redb::{Database, StorageBackend};

use super::super::layout::{BLOCK, block_offset, sums_offset};
use super::{CACHE_BYTES, CheckedFile, Fragile, Rows, commit, open, read_all};

fn rows(number: u32) -> BTreeMap<u32, Option<Vec<u8>>> {
    let value = |key: u32| Some(format!("{number} {key} ").repeat(60).into_bytes());
    (0..6_000).step_by(1 + number as usize).map(|key| (key, value(key))).collect()
}

/// A closed file of more than one group, after each of three commits.
fn built() -> (Vec<Vec<u8>>, Rows) {
    let file = Fragile::default();
    let mut images = Vec::new();
    let mut all = Rows::new();
    for number in 0..3 {
        let db = open(&file).unwrap();
        commit(&db, &rows(number)).unwrap();
        all.extend(rows(number).into_iter().filter_map(|(key, value)| Some((key, value?))));
        drop(db);
        images.push(file.bytes());
    }
    assert!(images[2].len() > sums_offset(1) as usize + 100 * BLOCK);
    (images, all)
}

enum Outcome {
    /// All that was read is right.
    Right,
    Found,
    Served,
}

/// Reads everything and says what came of it.
fn outcome(read: Result<Rows, redb::Error>, expected: &Rows) -> Outcome {
    match read {
        Ok(rows) if rows == *expected => Outcome::Right,
        Ok(_) => Outcome::Served,
        Err(redb::Error::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
            Outcome::Found
        }
        Err(error) => panic!("{error}"),
    }
}

fn checked(bytes: Vec<u8>, expected: &Rows) -> Outcome {
    let told = Arc::new(Mutex::new(Vec::new()));
    let teller = told.clone();
    let file = Box::new(Fragile::holding(bytes));
    let on_damage = Box::new(move |what: &str| teller.lock().unwrap().push(what.to_owned()));
    let file = CheckedFile::new("state", file, on_damage);
    let mut builder = Database::builder();
    let opened = builder.set_cache_size(CACHE_BYTES).create_with_backend(file);
    let read = opened.map_err(redb::Error::from).and_then(|db| read_all(&db));
    let outcome = outcome(read, expected);
    match (outcome, told.lock().unwrap().is_empty()) {
        (Outcome::Found, true) => panic!("damage was found and not told"),
        // Found by the commit with which redb closes a file.
        (Outcome::Right, false) => Outcome::Found,
        (outcome, _) => outcome,
    }
}

#[test]
fn a_flipped_bit_in_any_block_is_found_when_it_is_read_and_never_served() {
    let (images, all) = built();
    let image = &images[2];
    let mut rng = SmallRng::seed_from_u64(3);
    let blocks = image.len() / BLOCK;
    let (mut found, mut right) = (0, 0);
    for block in (0..blocks).filter(|block| block % 3 == 0 || *block < 8 || *block > blocks - 60) {
        let mut bytes = image.clone();
        bytes[block * BLOCK + rng.random_range(0..BLOCK)] ^= 1 << rng.random_range(0..8);
        match checked(bytes, &all) {
            Outcome::Found => found += 1,
            Outcome::Right => right += 1,
            Outcome::Served => panic!("block {block} was served with a flipped bit"),
        }
    }
    // A flipped bit in a block that holds nothing harms nobody.
    assert!(found > blocks / 6 && right > 0, "{found} found, {right} right of {blocks}");
}

/// The same without checksums: the fault that the test above must be able to find.
#[test]
fn redb_alone_serves_flipped_bits() {
    let file = Fragile::default();
    let bare = |file: &Fragile| Database::builder().create_with_backend(file.clone());
    let db = bare(&file).unwrap();
    commit(&db, &rows(0)).unwrap();
    drop(db);
    let all: Rows = rows(0).into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    let image = file.bytes();
    let served = (300..500).step_by(20).filter(|block| {
        let mut bytes = image.clone();
        bytes[block * BLOCK + 2_000] ^= 4;
        let db = bare(&Fragile::holding(bytes)).unwrap();
        matches!(outcome(read_all(&db), &all), Outcome::Served)
    });
    assert!(served.count() > 3);
}

fn swapped(image: &[u8], one: u64, other: u64) -> Vec<u8> {
    let mut bytes = image.to_vec();
    let (one, other) = (one as usize, other as usize);
    bytes[one..one + BLOCK].copy_from_slice(&image[other..other + BLOCK]);
    bytes[other..other + BLOCK].copy_from_slice(&image[one..one + BLOCK]);
    bytes
}

#[test]
fn what_stands_in_the_wrong_place_or_was_never_written_is_found() {
    let (images, all) = built();
    let [_, older, newest] = &images[..] else { panic!("three images") };
    assert!(matches!(checked(newest.clone(), &all), Outcome::Right));
    for (one, other) in [
        (block_offset(100), block_offset(101)),
        (block_offset(100), block_offset(1_200)),
        (sums_offset(0), sums_offset(1)),
    ] {
        assert!(matches!(checked(swapped(newest, one, other), &all), Outcome::Found));
    }
    let mut lost = 0;
    let written = |at: &usize| older.get(*at..at + BLOCK) != newest.get(*at..at + BLOCK);
    let both = older.len().min(newest.len());
    for at in (0..both).step_by(BLOCK).skip(2).filter(written).step_by(16) {
        let mut bytes = newest.clone();
        bytes[at..at + BLOCK].copy_from_slice(&older[at..at + BLOCK]);
        match checked(bytes, &all) {
            Outcome::Found => lost += 1,
            Outcome::Right => {}
            Outcome::Served => panic!("an older block at {at} was served"),
        }
    }
    assert!(lost > 5, "{lost}");
    let mut bytes = newest.clone();
    bytes[..2 * BLOCK].copy_from_slice(&older[..2 * BLOCK]);
    assert!(matches!(checked(bytes, &all), Outcome::Found), "an older header");
}

#[test]
fn a_file_that_was_cut_is_found_when_it_is_opened() {
    let (images, _) = built();
    let image = &images[2];
    for len in (512..image.len()).step_by(40_000).chain([4_096, 8_192, image.len() - 1]) {
        let refused = open(&Fragile::holding(image[..len].to_vec()));
        let refused = refused.err().unwrap_or_else(|| panic!("{len} bytes were opened"));
        assert!(refused.to_string().contains("bytes are left of"), "{len}: {refused}");
    }
}

#[test]
fn a_file_of_another_version_is_refused_and_not_called_damaged() {
    let file = Fragile::default();
    drop(Database::builder().create_with_backend(file.clone()).unwrap());
    let told = Arc::new(Mutex::new(0));
    let teller = told.clone();
    let on_damage = Box::new(move |_: &str| *teller.lock().unwrap() += 1);
    let checked = CheckedFile::new("state.redb", Box::new(file), on_damage);
    let refused = checked.len().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::Unsupported);
    assert_eq!(refused.to_string(), "state.redb is of version 1, which this release does not read");
    assert_eq!(*told.lock().unwrap(), 0);
}
