//! What the checksums cost: `cargo test --lib store::blocks::tests::speed -- --ignored
//! --nocapture` prints commits, a cold read and an opening with them and without.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

use redb::backends::FileBackend;
use redb::{Database, StorageBackend};

use super::{CheckedFile, commit, read_all};

const COMMITS: u32 = 200;
const ROWS: u32 = 2_000;

fn file(path: &Path) -> FileBackend {
    let mut options = OpenOptions::new();
    let file: File =
        options.read(true).write(true).create(true).truncate(false).open(path).unwrap();
    FileBackend::new(file).unwrap()
}

fn opened(path: &Path, with: bool) -> Database {
    fn made(backend: impl StorageBackend) -> Database {
        Database::builder().set_cache_size(64 << 20).create_with_backend(backend).unwrap()
    }
    if with {
        made(CheckedFile::new("state", Box::new(file(path)), Box::new(|_| {})))
    } else {
        made(file(path))
    }
}

/// All commits, reading all, opening.
fn measure(dir: &Path, with: bool) -> [Duration; 3] {
    let path = dir.join(format!("{with}"));
    let db = opened(&path, with);
    let since = Instant::now();
    for number in 0..COMMITS {
        // Spread over the whole table, as changes of a large store are.
        let row = |key: u32| (key * COMMITS + number, Some(vec![number as u8; 256]));
        commit(&db, &(0..ROWS).map(row).collect::<BTreeMap<_, _>>()).unwrap();
    }
    let commits = since.elapsed();
    drop(db);
    let since = Instant::now();
    let db = opened(&path, with);
    let opening = since.elapsed();
    let since = Instant::now();
    assert_eq!(read_all(&db).unwrap().len() as u32, COMMITS * ROWS);
    [commits, since.elapsed(), opening]
}

#[test]
#[ignore = "prints figures, decides nothing"]
fn with_checksums_and_without() {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    for round in 0..3 {
        for with in [round % 2 == 0, round % 2 == 1] {
            let [commits, reading, opening] = measure(dir.path(), with);
            println!(
                "checksums {with}: commits {commits:?}, reading {reading:?}, opening {opening:?}"
            );
            std::fs::remove_file(dir.path().join(format!("{with}"))).unwrap();
        }
    }
}
