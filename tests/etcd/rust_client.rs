//! The crate `etcd-client`, unmodified: every service it knows. The same calls go to a real
//! etcd, so that what is expected here is what etcd does.

use etcd_client::{
    AlarmAction, AlarmType, Client, Compare, CompareOp, ConnectOptions, DeleteOptions, Error,
    EventType, GetOptions, LeaseGrantOptions, LeaseTimeToLiveOptions, LockOptions, Permission,
    ProclaimOptions, PutOptions, ResignOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse,
    WatchFilterType, WatchOptions, WatchStream,
};
use tokio::task::JoinSet;
use tonic::Code;

use crate::PATIENCE;
use crate::channel::client;
use crate::real::Etcd;
use crate::served::{Served, program_in};

/// Ours, and a real etcd with the same certificates where there is one.
pub(crate) struct Both {
    pub(crate) served: Served,
    pub(crate) etcd: Option<Etcd>,
}

impl Both {
    pub(crate) async fn start() -> Self {
        let served = Served::start().await;
        let etcd = match program_in("etcd/3.5", "etcd") {
            Some(program) => Some(Etcd::group(&program, served.dir.path(), 1).await),
            None => None,
        };
        Self { served, etcd }
    }

    /// Ours first.
    pub(crate) fn urls(&self) -> Vec<String> {
        let theirs = self.etcd.iter().map(|etcd| etcd.url.clone());
        std::iter::once(self.served.url()).chain(theirs).collect()
    }

    /// A client of each, ours first.
    pub(crate) async fn clients(&self) -> Vec<Client> {
        let mut clients = Vec::new();
        for url in self.urls() {
            clients.push(client(self.served.dir.path(), "admin", &url, None).await.unwrap());
        }
        clients
    }
}

/// The gRPC code and text of a refusal.
pub(crate) fn refusal(error: Error) -> (Code, String) {
    match error {
        Error::GRpcStatus(status) => (status.code(), status.message().to_owned()),
        other => panic!("{other}"),
    }
}

pub(crate) async fn next(stream: &mut WatchStream) -> etcd_client::WatchResponse {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await;
    message.expect("an answer comes").unwrap().expect("the stream goes on")
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_transactions() {
    let both = Both::start().await;
    for mut c in both.clients().await {
        let first = c.put("k/1", "a", None).await.unwrap();
        assert_eq!(first.header().unwrap().revision(), 2);
        let second = c.put("k/1", "b", Some(PutOptions::new().with_prev_key())).await.unwrap();
        assert_eq!(second.prev_key().unwrap().value(), b"a");
        c.put("k/2", "c", None).await.unwrap();
        let sorted = GetOptions::new().with_prefix().with_sort(SortTarget::Mod, SortOrder::Descend);
        let got = c.get("k/", Some(sorted.with_limit(1))).await.unwrap();
        assert_eq!((got.kvs()[0].key(), got.count(), got.more()), (&b"k/2"[..], 2, true));
        let old = c.get("k/1", Some(GetOptions::new().with_revision(2))).await.unwrap();
        assert_eq!(old.kvs()[0].value(), b"a");
        let nested = Txn::new()
            .when([Compare::version("k/1", CompareOp::Equal, 2)])
            .and_then([TxnOp::put("n", "1", None)]);
        let txn = Txn::new()
            .when([
                Compare::value("k/1", CompareOp::Equal, "b"),
                Compare::create_revision("k/", CompareOp::Greater, 1).with_prefix(),
                Compare::mod_revision("absent", CompareOp::Equal, 0),
                Compare::lease("k/1", CompareOp::Equal, 0),
            ])
            .and_then([TxnOp::txn(nested), TxnOp::get("k/1", None)])
            .or_else([TxnOp::delete("k/1", None)]);
        let done = c.txn(txn).await.unwrap();
        assert!(done.succeeded());
        let [TxnOpResponse::Txn(inner), TxnOpResponse::Get(got)] = &done.op_responses()[..] else {
            panic!("{done:?}")
        };
        assert!(inner.succeeded() && got.kvs()[0].value() == b"b");
        let gone = DeleteOptions::new().with_prefix().with_prev_key();
        let gone = c.delete("k/", Some(gone)).await.unwrap();
        assert_eq!((gone.deleted(), gone.prev_kvs().len()), (2, 2));
        c.compact(5, None).await.unwrap();
        let (code, text) =
            refusal(c.get("n", Some(GetOptions::new().with_revision(2))).await.unwrap_err());
        assert_eq!(code, Code::OutOfRange);
        assert_eq!(text, "etcdserver: mvcc: required revision has been compacted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_of_one_stream() {
    let both = Both::start().await;
    for mut c in both.clients().await {
        c.put("w/1", "a", None).await.unwrap();
        let mut stream = c
            .watch(
                "w/",
                Some(WatchOptions::new().with_prefix().with_start_revision(2).with_prev_key()),
            )
            .await
            .unwrap();
        assert!(next(&mut stream).await.created());
        assert_eq!(next(&mut stream).await.events()[0].kv().unwrap().value(), b"a");
        let filtered = WatchOptions::new().with_filters([WatchFilterType::NoPut]).with_watch_id(7);
        stream.watch("w/1", Some(filtered)).await.unwrap();
        let created = next(&mut stream).await;
        assert!(created.created() && created.watch_id() == 7);
        stream.watch("w/1", Some(WatchOptions::new().with_watch_id(7))).await.unwrap();
        let refused = next(&mut stream).await;
        assert!(refused.canceled() && refused.created(), "{refused:?}");
        let txn = Txn::new().and_then([TxnOp::put("w/2", "b", None), TxnOp::put("w/3", "c", None)]);
        c.txn(txn).await.unwrap();
        let both_at_once = next(&mut stream).await;
        assert_eq!((both_at_once.watch_id(), both_at_once.events().len()), (0, 2));
        c.delete("w/1", None).await.unwrap();
        let mut seen = [next(&mut stream).await, next(&mut stream).await];
        seen.sort_by_key(|answer| answer.watch_id());
        for answer in &seen {
            assert_eq!(answer.events()[0].event_type(), EventType::Delete);
        }
        assert_eq!(seen[0].events()[0].prev_kv().unwrap().value(), b"a");
        assert!(seen[1].watch_id() == 7 && seen[1].events()[0].prev_kv().is_none());
        stream.request_progress().await.unwrap();
        let progress = next(&mut stream).await;
        assert!(progress.events().is_empty());
        assert_eq!(progress.header().unwrap().revision(), 4);
        stream.cancel(7).await.unwrap();
        let cancelled = next(&mut stream).await;
        assert!(cancelled.canceled() && cancelled.watch_id() == 7);
        c.compact(4, None).await.unwrap();
        stream.watch("w/1", Some(WatchOptions::new().with_start_revision(2))).await.unwrap();
        assert!(next(&mut stream).await.created());
        let compacted = next(&mut stream).await;
        assert!(compacted.canceled() && compacted.compact_revision() == 4, "{compacted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_locks_and_elections() {
    let both = Both::start().await;
    for mut c in both.clients().await {
        let granted = c.lease_grant(300, Some(LeaseGrantOptions::new().with_id(77))).await.unwrap();
        assert_eq!((granted.id(), granted.ttl()), (77, 300));
        let twice = c.lease_grant(300, Some(LeaseGrantOptions::new().with_id(77))).await;
        assert_eq!(refusal(twice.unwrap_err()).1, "etcdserver: lease already exists");
        c.put("l", "v", Some(PutOptions::new().with_lease(77))).await.unwrap();
        let (mut keeper, mut kept) = c.lease_keep_alive(77).await.unwrap();
        keeper.keep_alive().await.unwrap();
        let renewed = tokio::time::timeout(PATIENCE, kept.message()).await.unwrap();
        assert_eq!(renewed.unwrap().unwrap().ttl(), 300);
        let left = LeaseTimeToLiveOptions::new().with_keys();
        let left = c.lease_time_to_live(77, Some(left)).await.unwrap();
        assert!(left.granted_ttl() == 300 && left.ttl() > 0 && left.keys() == [b"l".to_vec()]);
        assert_eq!(c.leases().await.unwrap().leases()[0].id(), 77);

        let lock = c.lock("name", Some(LockOptions::new().with_lease(77))).await.unwrap();
        assert_eq!(lock.key(), b"name/4d");
        let other = c.lease_grant(300, None).await.unwrap().id();
        let mut waiting = c.clone();
        let mut waits = JoinSet::new();
        waits.spawn(async move {
            waiting.lock("name", Some(LockOptions::new().with_lease(other))).await
        });
        c.unlock(lock.key()).await.unwrap();
        let second = tokio::time::timeout(PATIENCE, waits.join_next()).await.unwrap();
        let second = second.unwrap().unwrap().unwrap();
        c.unlock(second.key()).await.unwrap();

        let won = c.campaign("e", "one", 77).await.unwrap();
        let leader = won.leader().unwrap().clone();
        let mut observed = c.observe("e").await.unwrap();
        let first = tokio::time::timeout(PATIENCE, observed.message()).await.unwrap();
        assert_eq!(first.unwrap().unwrap().kv().unwrap().value(), b"one");
        c.proclaim("two", Some(ProclaimOptions::new().with_leader(leader.clone()))).await.unwrap();
        let then = tokio::time::timeout(PATIENCE, observed.message()).await.unwrap();
        assert_eq!(then.unwrap().unwrap().kv().unwrap().value(), b"two");
        assert_eq!(c.leader("e").await.unwrap().kv().unwrap().value(), b"two");
        c.resign(Some(ResignOptions::new().with_leader(leader))).await.unwrap();
        assert_eq!(refusal(c.leader("e").await.unwrap_err()).1, "election: no leader");
        c.lease_revoke(77).await.unwrap();
        assert_eq!(c.get("l", None).await.unwrap().count(), 0);
        let gone = c.lease_revoke(77).await.unwrap_err();
        assert_eq!(refusal(gone), (Code::NotFound, "etcdserver: requested lease not found".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_roles() {
    let both = Both::start().await;
    let dir = both.served.dir.path();
    for (mut c, url) in both.clients().await.into_iter().zip(both.urls()) {
        c.put("app/1", "x", None).await.unwrap();
        c.user_add("root", "secret", None).await.unwrap();
        c.role_add("root").await.unwrap();
        c.user_grant_role("root", "root").await.unwrap();
        c.role_add("app").await.unwrap();
        c.role_grant_permission("app", Permission::read_write("app/").with_prefix()).await.unwrap();
        c.user_add("ann", "pw", None).await.unwrap();
        c.user_grant_role("ann", "app").await.unwrap();
        assert_eq!(c.role_get("app").await.unwrap().permissions().len(), 1);
        assert_eq!(c.user_list().await.unwrap().users(), ["ann", "root"]);
        c.auth_enable().await.unwrap();
        // The certificate's name is no user.
        let (code, _) = refusal(c.get("app/1", None).await.unwrap_err());
        assert_eq!(code, Code::PermissionDenied);
        let wrong = ConnectOptions::new().with_user("ann", "no");
        let (_, text) = refusal(client(dir, "admin", &url, Some(wrong)).await.err().unwrap());
        assert_eq!(text, "etcdserver: authentication failed, invalid user ID or password");
        let ann = ConnectOptions::new().with_user("ann", "pw");
        let mut ann = client(dir, "admin", &url, Some(ann)).await.unwrap();
        assert_eq!(ann.get("app/1", None).await.unwrap().count(), 1);
        let all = ann.get("app/1", Some(GetOptions::new().with_from_key())).await;
        assert_eq!(
            refusal(all.unwrap_err()),
            (Code::PermissionDenied, "etcdserver: permission denied".into())
        );
        let root = ConnectOptions::new().with_user("root", "secret");
        let mut root = client(dir, "admin", &url, Some(root)).await.unwrap();
        root.user_revoke_role("ann", "app").await.unwrap();
        let (code, _) = refusal(ann.get("app/1", None).await.unwrap_err());
        assert_eq!(code, Code::PermissionDenied);
        root.auth_disable().await.unwrap();
        assert_eq!(c.get("app/1", None).await.unwrap().count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_status_alarms_hashes_and_a_snapshot() {
    let both = Both::start().await;
    let mut hashes = Vec::new();
    for mut c in both.clients().await {
        for value in ["1", "2", "3"] {
            c.put("k", value, None).await.unwrap();
        }
        let listed = c.member_list().await.unwrap();
        let status = c.status().await.unwrap();
        assert_eq!((listed.members().len(), listed.members()[0].id()), (1, status.leader()));
        assert!(!status.is_learner() && status.errors().is_empty());
        hashes.push(c.hash_kv(3).await.unwrap().hash());
        let alarms = c.alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap();
        assert!(alarms.alarms().is_empty());
        c.defragment().await.unwrap();
        let mut snapshot = c.snapshot().await.unwrap();
        let mut bytes = 0;
        while let Some(piece) =
            tokio::time::timeout(PATIENCE, snapshot.message()).await.unwrap().unwrap()
        {
            bytes += piece.blob().len();
        }
        assert_eq!(bytes % 512, 32, "pages and a checksum");
        let gone = c.member_remove(1_234).await.unwrap_err();
        assert_eq!(refusal(gone), (Code::NotFound, "etcdserver: member not found".into()));
        let own = status.leader();
        c.move_leader(own).await.unwrap();
        let nobody = refusal(c.move_leader(1_234).await.unwrap_err());
        assert_eq!(nobody, (Code::FailedPrecondition, "etcdserver: bad leader transferee".into()));
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}
