//! What is written is read back; damage is an error and never a panic.

use std::io::Cursor;

use super::{BoltError, BoltFile, Bucket, Item, write_bolt};

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn value(index: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (index * 7 + at) as u8).collect()
}

fn made(items: usize) -> (Vec<u8>, Pairs) {
    // Now and then a value takes several pages.
    let bytes = |index: usize| if index.is_multiple_of(97) { 9_000 } else { index % 300 };
    let expected: Pairs = (0..items)
        .map(|index| (format!("{index:017}").into_bytes(), value(index, bytes(index))))
        .collect();
    let item = |(key, value): &(Vec<u8>, Vec<u8>)| Item {
        key: key.clone().into(),
        value_bytes: value.len(),
    };
    let buckets = [
        Bucket { name: "empty", items: Vec::new() },
        Bucket { name: "key", items: expected.iter().map(item).collect() },
    ];
    let mut file = Vec::new();
    let bring = |_: &Bucket, index: usize| Ok::<_, std::io::Error>(value(index, bytes(index)));
    write_bolt(&mut file, &buckets, bring).unwrap();
    (file, expected)
}

fn read(file: &[u8]) -> Result<Pairs, BoltError> {
    let mut found = Vec::new();
    let mut file = BoltFile::open(Cursor::new(file))?;
    let there = file.each(b"key", |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        Ok::<(), BoltError>(())
    })?;
    assert!(there || found.is_empty());
    Ok(found)
}

#[test]
fn files_of_any_size_are_read_back_as_they_were_written() {
    for items in [0, 1, 2, 13, 200, 5_000, 60_000] {
        let (file, expected) = made(items);
        assert_eq!(file.len() % 4096, 0);
        let found = read(&file).unwrap();
        assert!(found == expected, "{items} items became {}", found.len());
        let mut file = BoltFile::open(Cursor::new(&file[..])).unwrap();
        assert!(file.each(b"empty", |_, _| Err(BoltError::NoMeta)).unwrap());
        assert!(!file.each(b"other", |_, _| Ok::<(), BoltError>(())).unwrap());
    }
}

#[test]
fn damage_never_panics() {
    let (file, _) = made(300);
    for at in (0..file.len()).step_by(3) {
        let mut bad = file.clone();
        bad[at] ^= 0xff;
        let _found_or_refused = read(&bad);
    }
    for cut in (0..file.len()).step_by(1_001) {
        let _found_or_refused = read(&file[..cut]);
    }
}
