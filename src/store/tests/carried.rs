//! What is beside the keys goes through a snapshot, a restore and a recovery.

use std::io::Cursor;
use std::time::Duration;

use super::{Cluster, get};
use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::logic::lease::LeaseMark;
use crate::model::auth::{AuthChange, Caller, Permission, PermissionKind};
use crate::model::kv::{Op, PutRequest, RangeRequest, TxnRequest};
use crate::store::admin_api::{Alarm, AlarmKind, Auth, Leases, Maintenance};
use crate::store::snapshot_file::AnySnapshot;
use crate::store::{
    EtcdKv, Founding, Kv, Replay, SnapshotFormat, StateRest, StoppedMember, Store, StoreError,
    found_member,
};

const ME: Caller = Caller::Internal;

/// A member with a lease that has keys and a noted remainder, one without keys, users, and
/// an alarm.
async fn rich() -> Cluster {
    let mut cluster = Cluster::new();
    let store = cluster.open(1).await;
    store.initialize_single("n1", "one").await.unwrap();
    for (lease, ttl_s) in [(7, 1_000), (8, 600)] {
        store.lease_grant(&ME, lease, ttl_s).await.unwrap();
    }
    for key in ["a", "b", "moved"] {
        put_leased(&store, key, 7).await;
    }
    put_leased(&store, "moved", 0).await;
    let one = TxnRequest { success: vec![Op::put("free", "1")], ..TxnRequest::default() };
    store.txn(one).await.unwrap();
    let name = |name: &str| name.to_owned();
    let add =
        |user: &str| AuthChange::UserAdd { name: name(user), password: Some(format!("{user}!")) };
    let permission =
        Permission { kind: PermissionKind::Read, key: "a".into(), range_end: "b".into() };
    for change in [
        add("root"),
        add("ann"),
        AuthChange::UserGrantRole { user: name("root"), role: name("root") },
        AuthChange::RoleAdd { name: name("app") },
        AuthChange::RoleGrantPermission { role: name("app"), permission },
        AuthChange::UserGrantRole { user: name("ann"), role: name("app") },
        AuthChange::Enable,
    ] {
        store.auth_change(&Caller::Anonymous, change).await.unwrap();
    }
    let alarm = Alarm { member: MemberId(1), kind: AlarmKind::Corrupt };
    store.set_alarm(&ME, alarm, true).await.unwrap();
    let (term, _) = store.shared.state.timer.mark_all().unwrap();
    let mark = LeaseMark { id: 7, epoch: 0, remaining_s: Some(400) };
    store.shared.mark_leases(term, vec![mark]).await;
    let noted = store.shared.state.lease(7).unwrap().remaining_s;
    assert_eq!(noted, Some(400));
    drop(store);
    cluster.stop(1).await;
    cluster
}

async fn put_leased(store: &Store, key: &'static str, lease: i64) {
    let put = PutRequest { key: key.into(), value: "v".into(), lease, ..PutRequest::default() };
    store.put_as(&ME, put).await.unwrap();
}

fn founding(cluster: ClusterId, revision: i64) -> Founding {
    Founding {
        cluster,
        generation: Generation(2),
        member: MemberId(2_001),
        name: "n".into(),
        address: "x".into(),
        revision,
        log_position: (50, 5_000),
    }
}

async fn leases_are_there(store: &Store, left_s: i64) {
    let seven = store.lease_time_to_live(&ME, 7, true).await.unwrap();
    assert_eq!((seven.granted_ttl_s, &seven.keys[..]), (1_000, &["a".into(), "b".into()][..]));
    assert!((left_s - 20..=left_s).contains(&seven.ttl_s), "{seven:?}");
    let eight = store.lease_time_to_live(&ME, 8, true).await.unwrap();
    assert_eq!((eight.granted_ttl_s, eight.keys.len()), (600, 0));
    store.lease_revoke(&ME, 7).await.unwrap();
    let left = store.range(RangeRequest::prefix("")).await;
    assert!(left.is_err(), "an empty key is refused");
    assert_eq!((get(store, "a").await, get(store, "b").await), (None, None));
    assert_eq!(get(store, "moved").await.as_deref(), Some("v"));
    assert_eq!(get(store, "free").await.as_deref(), Some("1"));
}

async fn all_is_there(store: &Store) {
    leases_are_there(store, 400).await;
    assert!(store.auth_enabled());
    // It is the new member's now, so that it is not the alarm of nobody.
    let alarm = Alarm { member: MemberId(2_001), kind: AlarmKind::Corrupt };
    assert_eq!(store.alarms(&ME).await.unwrap(), vec![alarm]);
    store.set_alarm(&ME, alarm, false).await.unwrap();
    let token = store.authenticate("ann", "ann!").await.unwrap();
    let ann = store.caller_of_token(&token).await.unwrap();
    store.range_as(&ann, RangeRequest::key("a")).await.unwrap();
    let denied = store.range_as(&ann, RangeRequest::key("free")).await.unwrap_err();
    assert!(matches!(denied, StoreError::Refused(_)), "{denied}");
}

async fn opened(cluster: &mut Cluster, founding: &Founding) -> std::sync::Arc<Store> {
    (cluster.id, cluster.generation) = (founding.cluster, founding.generation);
    let store = cluster.open(founding.member.0).await;
    store.shared.wait_for_leader(Duration::from_secs(10)).await.unwrap();
    store
}

#[tokio::test]
async fn a_recovery_keeps_leases_users_and_alarms() {
    let mut cluster = rich().await;
    let survivor = StoppedMember::open(&cluster.path(1)).unwrap();
    let rest = survivor.rest(Replay::Everything).await.unwrap();
    let founding = founding(cluster.id, 1_000);
    let mut records = survivor.live_records(Replay::Everything).await.unwrap();
    let path = cluster.path(2_001);
    assert_eq!(found_member(&path, &founding, &rest, &mut records).unwrap(), 4);
    drop((records, survivor));
    let report = StoppedMember::check(&path).unwrap();
    assert_eq!(report.findings, vec![]);
    let store = opened(&mut cluster, &founding).await;
    all_is_there(&store).await;
}

/// Saves the stopped member, reads the file and begins a store with it.
async fn restored(format: SnapshotFormat) -> (Cluster, Founding, StateRest) {
    let cluster = rich().await;
    let member = StoppedMember::open(&cluster.path(1)).unwrap();
    let mut bytes = Vec::new();
    member.write_snapshot(format, &mut bytes).await.unwrap();
    drop(member);
    let mut snapshot = AnySnapshot::open(Cursor::new(bytes)).unwrap();
    snapshot.check().unwrap();
    let rest = snapshot.rest().clone();
    let founding = founding(ClusterId(uuid::Uuid::new_v4()), 1_000);
    let mut records = snapshot.records().unwrap();
    found_member(&cluster.path(2_001), &founding, &rest, &mut records).unwrap();
    drop(records);
    (cluster, founding, rest)
}

#[tokio::test]
async fn a_snapshot_keeps_leases_users_and_alarms() {
    let (mut cluster, founding, rest) = restored(SnapshotFormat::Holdfast).await;
    assert_eq!((rest.leases.len(), rest.alarms.len()), (2, 1));
    let store = opened(&mut cluster, &founding).await;
    all_is_there(&store).await;
}

#[tokio::test]
async fn a_snapshot_in_etcds_format_keeps_leases() {
    let (mut cluster, founding, rest) = restored(SnapshotFormat::Etcd).await;
    assert_eq!((rest.leases.len(), rest.auth, rest.alarms.len()), (2, None, 0));
    let store = opened(&mut cluster, &founding).await;
    leases_are_there(&store, 400).await;
    assert!(!store.auth_enabled());
}

#[tokio::test]
async fn a_key_whose_lease_is_nowhere_is_attached_to_none() {
    let cluster = rich().await;
    let member = StoppedMember::open(&cluster.path(1)).unwrap();
    let mut records = member.live_records(Replay::Everything).await.unwrap();
    let founding = founding(cluster.id, 1_000);
    let path = cluster.path(2_001);
    found_member(&path, &founding, &StateRest::default(), &mut records).unwrap();
    let report = StoppedMember::check(&path).unwrap();
    assert_eq!((report.findings, report.keys), (vec![], 4));
}
