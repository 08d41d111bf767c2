//! Joining, leaving, coming back with an old disk, and what each member knows of the others.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::EntryPayload;

use super::{Cluster, PATIENCE, put};
use crate::base::ids::{BootCount, MemberId};
use crate::store::codec::encode;
use crate::store::log::{Claim, LogChange, LogFile, SegmentLog};
use crate::store::types::{Command, Entry, LogId, StartNote};
use crate::store::{HostDisk, Kv, Store, StoreError};

fn voters(store: &Store) -> Vec<u64> {
    let status = store.status();
    status.members.iter().filter(|known| known.voter).map(|known| known.member.0).collect()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_removed_member_is_gone_for_good_and_so_is_its_id() {
    let mut cluster = Cluster::three().await;
    let leader = cluster.leader().await;
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|member| *member != leader).collect();
    let (gone, asked) = (others[0], others[1]);
    cluster.stores[&asked].remove_member(MemberId(gone)).await.unwrap();
    cluster.stores[&asked].remove_member(MemberId(gone)).await.unwrap();
    assert_eq!(voters(&cluster.stores[&leader]).len(), 2);
    cluster.stores[&asked].txn(put("a", "1")).await.unwrap();
    let again = cluster.stores[&leader].add_member(MemberId(gone), "again", "x", true).await;
    assert!(matches!(again, Err(StoreError::BadRequest { .. })), "{again:?}");
    cluster.kill(gone);

    cluster.open(4).await;
    cluster.stores[&asked].add_member(MemberId(4), "n4", "x", true).await.unwrap();
    cluster.stores[&asked].remove_member(MemberId(leader)).await.unwrap();
    let left = cluster.stores[&leader].clone();
    until("a leader that left leads no more", || {
        !left.is_leader() && left.status().leader != Some(MemberId(leader))
    })
    .await;
    drop(left);
    cluster.kill(leader);
    cluster.stores[&4].txn(put("b", "1")).await.unwrap();
    assert_eq!(super::get(&cluster.stores[&4], "a").await.as_deref(), Some("1"));
    let asked_store = cluster.stores[&asked].clone();
    until("two voters are left", || voters(&asked_store) == vec![asked, 4]).await;
}

#[tokio::test]
async fn a_removed_member_learns_it_whether_it_saw_the_change_or_not() {
    let mut cluster = Cluster::three().await;
    let leader = cluster.leader().await;
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|member| *member != leader).collect();
    // One is down while it is removed and comes back with its old membership.
    let (away, asked) = (others[0], others[1]);
    cluster.kill(away);
    cluster.stores[&asked].remove_member(MemberId(away)).await.unwrap();
    let back = cluster.open(away).await;
    let error = tokio::time::timeout(PATIENCE, back.failed()).await.unwrap();
    assert!(matches!(error, StoreError::Removed), "{error}");
    assert!(matches!(back.txn(put("c", "1")).await, Err(StoreError::Removed)));
    assert!(error.to_string().contains("holdfast reset"), "{error}");
    // The others elect and write as before.
    cluster.stores[&asked].txn(put("a", "1")).await.unwrap();
    // The leader itself sees the change.
    let left = cluster.stores[&leader].clone();
    cluster.stores[&asked].remove_member(MemberId(leader)).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, left.failed()).await.unwrap();
    assert!(matches!(error, StoreError::Removed), "{error}");
    cluster.stores[&asked].txn(put("b", "1")).await.unwrap();
}

#[tokio::test]
async fn a_member_that_is_being_added_never_looks_removed() {
    let mut cluster = Cluster::three().await;
    for member in 4..8 {
        let fresh = cluster.open(member).await;
        let leader = cluster.leader().await;
        cluster.stores[&leader].add_member(MemberId(member), "new", "x", true).await.unwrap();
        fresh.txn(put("x", "1")).await.unwrap();
        assert_eq!(fresh.status().health, "serving");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Starts of the original between the copy being taken and being put back. After one, the
/// copy's next start has the same number as the original's last.
async fn copy_is_refused_after(starts: u64) {
    let mut cluster = Cluster::three().await;
    cluster.stores[&1].txn(put("a", "1")).await.unwrap();
    let stopped = cluster.stores[&3].clone();
    stopped.shutdown().await;
    drop(stopped);
    cluster.kill(3);
    let (original, old) = (cluster.dir.path().join("3"), cluster.dir.path().join("3-old"));
    copy(&original, &old);
    for start in 0..starts {
        let store = cluster.open(3).await;
        assert_eq!(store.status().boot.0, 2 + start);
        let others = [cluster.stores[&1].clone(), cluster.stores[&2].clone()];
        until("the start is noted", || {
            others.iter().all(|other| {
                let noted = other.shared.state.remembered_start(3);
                noted.is_some_and(|noted| noted.boot.0 == 2 + start)
            })
        })
        .await;
        store.shutdown().await;
        drop(store);
        cluster.kill(3);
    }
    cluster.stores[&1].txn(put("b", "1")).await.unwrap();
    let copied = cluster.open_at(3, &old).await;
    let error = tokio::time::timeout(PATIENCE, copied.failed()).await.unwrap();
    assert!(error.to_string().contains("rejoin"), "{error}");
    assert!(copied.txn(put("c", "1")).await.is_err());
    cluster.stores[&2].txn(put("d", "1")).await.unwrap();
}

#[tokio::test]
async fn a_copy_of_a_disk_is_refused_after_one_start_of_the_original() {
    copy_is_refused_after(1).await;
}

#[tokio::test]
async fn a_copy_of_a_disk_is_refused_after_two_starts_of_the_original() {
    copy_is_refused_after(2).await;
}

#[tokio::test]
async fn a_follower_shows_the_lag_that_the_leader_knows() {
    let mut cluster = Cluster::three().await;
    let leader = cluster.leader().await;
    let follower = cluster.stores.keys().copied().find(|member| *member != leader).unwrap();
    let follower = cluster.stores[&follower].clone();
    let last = follower.txn(put("a", "1")).await.unwrap().revision;
    assert!(follower.status().members.iter().all(|known| known.lag.is_none()));
    let status = follower.status_with_lag(PATIENCE).await;
    assert_eq!((status.member, status.members.len()), (follower.member_id(), 3));
    assert!(status.members.iter().all(|known| known.lag.is_some()), "{status:?}");
    assert!(status.revision <= last);
    cluster.kill(leader);
    let alone = follower.status_with_lag(Duration::from_millis(50)).await;
    assert_eq!(alone.members.len(), 3);
}

/// The note of a start that no leader has committed yet is in one member's log.
#[tokio::test]
async fn a_copy_is_refused_by_who_has_a_newer_start_in_its_log_and_not_applied_it() {
    let mut cluster = Cluster::three().await;
    cluster.stores[&1].txn(put("a", "1")).await.unwrap();
    let original = cluster.stores[&3].shared.identity.note();
    let first = cluster.stores[&1].clone();
    until("the start is noted", || first.shared.state.remembered_start(3) == Some(original)).await;
    drop(first);
    for member in [1, 2, 3] {
        cluster.stop(member).await;
    }
    let disk = Arc::new(HostDisk::new(&cluster.path(1)).unwrap());
    let claim = Claim { cluster: cluster.id, generation: cluster.generation, member: MemberId(1) };
    let (log, _) = SegmentLog::open(disk, claim, 1 << 20, 1, 1).unwrap();
    let last = log.head().unwrap().last.unwrap();
    let note = StartNote { boot: BootCount(original.boot.0 + 1), session: 4_711, ..original };
    let boot = EntryPayload::Normal(Command::Boot { member: MemberId(3), note });
    let entry = Entry { log_id: LogId::new(last.leader_id, last.index + 1), payload: boot };
    let record = encode(&entry).into();
    log.commit(vec![LogChange::Append { index: last.index + 1, record }]).unwrap();
    drop(log);

    // Alone it commits nothing.
    let first = cluster.open(1).await;
    assert_eq!(first.shared.state.remembered_start(3), Some(original));
    assert_eq!(first.shared.outbound.newest_start(3), Some(note));
    // A copy from before that start, started as often: of the same number, another session.
    let copied = cluster.open(3).await;
    assert_eq!(copied.shared.identity.boot, note.boot);
    let error = tokio::time::timeout(PATIENCE, copied.failed()).await.unwrap();
    assert!(error.to_string().contains("rejoin"), "{error}");
}
