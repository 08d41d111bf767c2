//! A crash and an error at every operation on a member's disk: every write, sync, making,
//! renaming and removing of the log's, the state's and the small files.
//!
//! Each number of an operation gets a run of its own of a fixed history; after it the disk
//! is what a crash leaves of it, the member starts again, and all that was acknowledged is
//! there, nothing is half done, and it goes on.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::failing_disk::{FailingDisk, Failure};
use super::{Cluster, Hub, put};
use crate::base::ids::{Generation, MemberId};
use crate::model::auth::Caller;
use crate::model::kv::{Op, PutRequest, RangeRequest, TxnRequest};
use crate::model::recovery::{GenerationRecord, LogEnd, SignedGeneration};
use crate::store::admin_api::Leases;
use crate::store::{
    EtcdKv, GenerationTrust, Kv, OpenError, Store, StoreConfig, StoreDeps, StoreDisk, StoreError,
    StoreTuning,
};

/// Time is simulated, so this costs nothing.
const PATIENCE: Duration = Duration::from_secs(300);
const STEPS: usize = 24;
/// So small that the log fills several segments, and purges and reuses them.
const TUNING: StoreTuning = StoreTuning { snapshot_every: 6, keep_entries: 3, segment_bytes: 4096 };
const LEASE: i64 = 77;

/// On a runtime of its own, with its own time; what the run left behind ends with it.
fn in_time<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().unwrap().block_on(future)
}

fn cluster() -> Cluster {
    Cluster { tuning: TUNING, id: crate::base::ids::ClusterId(uuid::Uuid::nil()), ..Cluster::new() }
}

async fn open(
    cluster: &mut Cluster,
    member: u64,
    disk: &FailingDisk,
) -> Result<Arc<Store>, OpenError> {
    let config = StoreConfig {
        cluster_id: cluster.id,
        generation: Generation(1),
        member_id: MemberId(member),
        tuning: cluster.tuning,
    };
    let hub: Arc<Hub> = cluster.hub.clone();
    let deps = StoreDeps { network: hub.clone(), disk: Arc::new(disk.clone()) };
    let store = Arc::new(Store::open(config, deps).await?);
    hub.members.lock().unwrap().insert(member, Arc::downgrade(&store));
    cluster.stores.insert(member, store.clone());
    Ok(store)
}

fn value(step: usize) -> String {
    format!("{step} ").repeat(150)
}

/// The keys after so many steps.
fn keys_after(steps: usize) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    for step in 0..steps {
        match step {
            5 | 11 | 17 => drop(keys.remove(&format!("n{}", step % 4))),
            8 | 14 | 20 => {}
            _ => drop(keys.insert(format!("n{}", step % 4), value(step))),
        }
    }
    keys
}

async fn do_step(store: &Store, step: usize) -> Result<(), StoreError> {
    let key = format!("n{}", step % 4);
    match step {
        5 | 11 | 17 => {
            let delete = TxnRequest { success: vec![Op::delete(key)], ..TxnRequest::default() };
            store.txn(delete).await.map(drop)
        }
        8 => match store.lease_grant(&Caller::Internal, LEASE, 9_000).await {
            Err(StoreError::Refused(_)) => Ok(()),
            granted => granted.map(drop),
        },
        9 => {
            let put = PutRequest {
                key: key.into(),
                value: value(step).into(),
                lease: LEASE,
                ..PutRequest::default()
            };
            store.put_as(&Caller::Internal, put).await.map(drop)
        }
        14 => {
            let revision = store.status().revision;
            match store.compact(revision).await {
                Err(StoreError::Compacted { .. }) => Ok(()),
                compacted => compacted,
            }
        }
        20 => {
            let fatal = |error| StoreError::Fatal { reason: crate::base::chain::chain(&error) };
            store.shared.state.defragment().await.map_err(fatal)
        }
        _ => store.txn(put(&key, &value(step))).await.map(drop),
    }
}

/// Runs the history on one member until something fails; says how many steps were
/// acknowledged.
async fn history(disk: &FailingDisk) -> usize {
    let mut cluster = cluster();
    let Ok(store) = open(&mut cluster, 1, disk).await else { return 0 };
    if store.initialize_single("n1", "one").await.is_err() {
        return 0;
    }
    for step in 0..STEPS {
        let done = tokio::time::timeout(PATIENCE, do_step(&store, step)).await;
        if done.expect("a step ends").is_err() {
            return step;
        }
        // The state is flushed, the log purged.
        tokio::time::sleep(Duration::from_millis(if step % 5 == 4 { 700 } else { 1 })).await;
    }
    store.shutdown().await;
    STEPS
}

async fn keys_of(store: &Store) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let found = store.range(RangeRequest::prefix("n")).await.unwrap();
    found.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect()
}

/// Starts on what the crash left and says what is wrong with it.
async fn look(disk: &FailingDisk, done: usize) -> Result<(), String> {
    let mut cluster = cluster();
    let store = open(&mut cluster, 1, disk).await;
    let store =
        store.map_err(|error| format!("does not start: {}", crate::base::chain::chain(&error)))?;
    let led = tokio::time::timeout(PATIENCE, store.initialize_single("n1", "one")).await;
    led.map_err(|_| "never leads")?.map_err(|error| format!("does not lead: {error}"))?;
    let found = keys_of(&store).await;
    if found != keys_after(done) && found != keys_after(done + 1) {
        return Err(format!("{done} steps were acknowledged, found {:?}", found.keys()));
    }
    if done > 8 && store.lease_time_to_live(&Caller::Internal, LEASE, true).await.is_err() {
        return Err("the lease is gone".into());
    }
    store.txn(put("after", "it goes on")).await.map_err(|error| error.to_string())?;
    store.shared.state.flush().await.map_err(|error| error.to_string())?;
    let mut problems = Vec::new();
    let view = store.shared.state.view();
    view.check(&mut |problem| problems.push(problem)).map_err(|error| error.to_string())?;
    if !problems.is_empty() {
        return Err(problems.join("; "));
    }
    store.shutdown().await;
    Ok(())
}

/// Runs the history with a failure at each operation, and looks at what is left; says what
/// is wrong.
fn at_each_operation(failures: &[Failure], lies: bool) -> Vec<String> {
    let whole = FailingDisk::new();
    assert_eq!(in_time(history(&whole)), STEPS);
    let operations = whole.operations();
    for kind in ["make log", "rename log", "rename compact", "sync log", "sync state"] {
        assert!(operations.iter().any(|done| done.starts_with(kind)), "never: {kind}");
    }
    let (mut wrong, mut failed) = (Vec::new(), 0);
    for at in 0..operations.len() {
        let failure = failures[at % failures.len()];
        let disk = FailingDisk::new();
        disk.fail_at(at, failure);
        if lies {
            disk.lie();
        }
        let done = in_time(history(&disk));
        failed += usize::from(disk.has_failed());
        let left = disk.crash(at as u64);
        // On what a lying disk lost redb may panic.
        let looked = catch_unwind(AssertUnwindSafe(|| in_time(look(&left, done))));
        if let Err(what) = looked.unwrap_or_else(|_| Err("a panic".into())) {
            let name = disk.operations().get(at).cloned().unwrap_or_default();
            wrong.push(format!("{failure:?} at {at} ({name}) after {done} steps: {what}"));
        }
    }
    // Chance may make a run a little shorter than the first one.
    assert!(failed > operations.len() * 9 / 10, "{failed} of {}", operations.len());
    wrong
}

#[test]
fn a_crash_at_any_operation_on_the_disk_loses_nothing_and_leaves_nothing_half_done() {
    assert_eq!(at_each_operation(&[Failure::Crash], false), Vec::<String>::new());
}

/// The planted fault: a disk that calls writes safe before they are.
#[test]
fn a_member_on_a_disk_that_lies_is_found() {
    assert!(!at_each_operation(&[Failure::Crash], true).is_empty());
}

#[test]
fn an_error_at_any_operation_on_the_disk_loses_nothing_and_leaves_nothing_half_done() {
    let failures = [
        Failure::Refused(ErrorKind::Other),
        Failure::Refused(ErrorKind::StorageFull),
        Failure::Full,
    ];
    assert_eq!(at_each_operation(&failures, false), Vec::<String>::new());
}

/// A second member that joins behind the purged log: it takes a snapshot.
async fn join(disk: &FailingDisk) -> Cluster {
    let mut cluster = cluster();
    let first = open(&mut cluster, 1, &FailingDisk::new()).await.unwrap();
    first.initialize_single("n1", "one").await.unwrap();
    for step in 0..STEPS {
        do_step(&first, step).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    if open(&mut cluster, 2, disk).await.is_ok() {
        // Ends when it is a voter, or without an end when it died on the way.
        let joined = first.add_member(MemberId(2), "n2", "two", true);
        let died = async {
            while !disk.has_failed() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        };
        tokio::select! {
            joined = joined => drop(joined),
            () = died => {}
        }
    }
    cluster
}

/// Its state is whole, or the same joining makes it so.
async fn joins_after_all(cluster: &mut Cluster, left: &FailingDisk) -> Result<(), String> {
    cluster.hub.members.lock().unwrap().remove(&2);
    drop(cluster.stores.remove(&2));
    let second = open(cluster, 2, left).await;
    let second =
        second.map_err(|error| format!("does not start: {}", crate::base::chain::chain(&error)))?;
    let first = cluster.stores[&1].clone();
    let whole = async {
        while first.add_member(MemberId(2), "n2", "two", true).await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        while second.txn(put("after", "it goes on")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        keys_of(&second).await
    };
    let whole = tokio::time::timeout(PATIENCE, whole).await;
    let found = whole.map_err(|_| format!("never joins: {}", second.status().health))?;
    if found != keys_after(STEPS) {
        return Err(format!("found {:?}", found.keys()));
    }
    Ok(())
}

#[test]
fn a_crash_at_any_operation_of_joining_by_a_snapshot_leaves_a_member_that_joins() {
    let whole = FailingDisk::new();
    in_time(async { drop(join(&whole).await) });
    let operations = whole.operations();
    assert!(operations.iter().any(|done| done == "rename incoming.redb to state.redb"));
    let mut wrong = Vec::new();
    for at in 0..operations.len() {
        let disk = FailingDisk::new();
        disk.fail_at(at, Failure::Crash);
        let joined = in_time(async {
            let mut cluster = join(&disk).await;
            joins_after_all(&mut cluster, &disk.crash(at as u64)).await
        });
        if let Err(what) = joined {
            let name = disk.operations().get(at).cloned().unwrap_or_default();
            wrong.push(format!("{at} ({name}): {what}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_crash_at_any_operation_of_a_repair_leaves_a_member_that_is_repaired() {
    let repaired = async |at: Option<usize>| {
        let disk = FailingDisk::new();
        let mut cluster = join(&disk).await;
        cluster.stores[&2].shared.state.note_what("the test says so");
        cluster.hub.members.lock().unwrap().remove(&2);
        drop(cluster.stores.remove(&2));
        let damaged = disk.crash(1);
        assert!(damaged.exists("state.damaged").unwrap(), "the note was lost");
        if let Some(at) = at {
            damaged.fail_at(at, Failure::Crash);
        }
        drop(open(&mut cluster, 2, &damaged).await);
        let operations = damaged.operations();
        let left = damaged.crash(at.unwrap_or_default() as u64);
        let whole = joins_after_all(&mut cluster, &left).await;
        let noted = left.exists("state.damaged").unwrap();
        (operations, whole.and_then(|()| if noted { Err("still damaged".into()) } else { Ok(()) }))
    };
    let (operations, whole) = in_time(repaired(None));
    assert_eq!(whole, Ok(()));
    assert!(operations.iter().any(|done| done == "remove state.damaged"));
    for at in 0..operations.len() {
        let (operations, whole) = in_time(repaired(Some(at)));
        assert_eq!(whole, Ok(()), "crash at {at} ({:?})", operations.get(at));
    }
}

#[derive(Debug)]
struct Trusting;

impl GenerationTrust for Trusting {
    fn is_signed(&self, _record: &SignedGeneration) -> bool {
        true
    }
}

#[test]
fn a_crash_while_the_end_of_a_generation_is_noted_leaves_the_note_or_none() {
    let record = |cluster: &Cluster| {
        let record = GenerationRecord {
            cluster: cluster.id,
            generation: Generation(2),
            parents: vec![Generation(1)],
            fork: LogEnd::default(),
            member: MemberId(2_001),
            name: "n3".into(),
            former: Vec::new(),
            reason: "test".into(),
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let record = serde_json::to_string(&record).unwrap();
        SignedGeneration { record, signature: "signed".into() }
    };
    let fenced = async |fails: Option<usize>| {
        let disk = FailingDisk::new();
        let mut cluster = cluster();
        let store = open(&mut cluster, 1, &disk).await.unwrap();
        store.initialize_single("n1", "one").await.unwrap();
        store.know_generations(Arc::new(Trusting), None);
        let before = disk.operations().len();
        if let Some(at) = fails {
            disk.fail_at(before + at, Failure::Crash);
        }
        store.shared.generations.fence(&record(&cluster));
        let noted = fails.is_none() || !disk.has_failed();
        let left = disk.crash(fails.unwrap_or_default() as u64);
        cluster.stores.clear();
        drop(store);
        let store = open(&mut cluster, 1, &left).await.unwrap();
        (disk.operations().len() - before, noted, store.status().health)
    };
    let (operations, _, health) = in_time(fenced(None));
    assert!(operations >= 5 && health.starts_with("removed"), "{operations}, {health}");
    for at in 0..operations {
        let (_, noted, health) = in_time(fenced(Some(at)));
        let ended = health.starts_with("removed");
        assert!(ended || (!noted && health == "serving"), "crash at {at}: {health}");
    }
}
