//! Who may do what once authentication is enabled, by the rules of etcd's newest releases.
//!
//! Why not beside a real etcd: 3.4 and 3.5.1 let everybody do some of this, which etcd has
//! since mended (its advisories on members, alarms, leases and compaction, on nested
//! transactions, on `prev_kv` and leases inside transactions, on watches from a key on).
//! What those releases do have is compared in `commands/users.txt`.

use etcd_client::{
    AlarmAction, AlarmType, Client, Compare, CompareOp, Error, GetOptions, Permission, PutOptions,
    Txn, TxnOp, WatchOptions,
};
use tonic::Code;

use crate::channel::client;
use crate::rust_client::{next, refusal};
use crate::served::Served;

/// Three certificates: `root`, `app` with its keys under `app/`, and `stranger`, no user.
async fn guarded() -> (Served, [Client; 3]) {
    let served = Served::start().await;
    for name in ["root", "app", "stranger"] {
        served.issue(name);
    }
    let mut clients = Vec::new();
    for name in ["root", "app", "stranger"] {
        clients.push(client(served.dir.path(), name, &served.url(), None).await.unwrap());
    }
    let [mut root, app, stranger] = clients.try_into().ok().unwrap();
    root.put("app/1", "mine", None).await.unwrap();
    root.put("secret", "theirs", None).await.unwrap();
    root.role_add("root").await.unwrap();
    root.role_add("app").await.unwrap();
    root.role_grant_permission("app", Permission::read_write("app/").with_prefix()).await.unwrap();
    root.role_grant_permission("app", Permission::write("blind/").with_prefix()).await.unwrap();
    for name in ["root", "app"] {
        let options = etcd_client::UserAddOptions::new().with_no_pwd();
        root.user_add(name, "", Some(options)).await.unwrap();
        root.user_grant_role(name, name).await.unwrap();
    }
    root.auth_enable().await.unwrap();
    (served, [root, app, stranger])
}

fn denied<T>(answer: Result<T, Error>) -> bool {
    answer.is_err_and(|error| refusal(error).0 == Code::PermissionDenied)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_may_look_at_the_cluster_and_only_root_may_change_it() {
    let (_served, [mut root, mut app, mut stranger]) = guarded().await;
    assert_eq!(app.member_list().await.unwrap().members().len(), 1);
    assert_eq!(app.status().await.unwrap().version(), "3.7.0");
    let get = (AlarmAction::Get, AlarmType::None);
    assert!(app.alarm(get.0, get.1, None).await.unwrap().alarms().is_empty());
    let lease = app.lease_grant(60, None).await.unwrap().id();
    assert_eq!(app.leases().await.unwrap().leases().len(), 1);
    app.lease_revoke(lease).await.unwrap();
    app.compact(2, None).await.unwrap();

    let raise = (AlarmAction::Activate, AlarmType::Corrupt);
    assert!(denied(app.alarm(raise.0, raise.1, None).await));
    assert!(denied(app.defragment().await));
    assert!(denied(app.hash().await));
    assert!(denied(app.hash_kv(0).await));
    assert!(denied(app.snapshot().await));
    assert!(denied(app.move_leader(1).await));
    assert!(denied(app.member_add(["https://127.0.0.9:1"], None).await));
    assert!(denied(app.member_remove(1).await));
    assert!(denied(app.user_list().await));
    assert!(denied(app.role_add("x").await));
    assert!(denied(app.auth_disable().await));

    // Who is no user is let in by the port and told nothing.
    assert!(denied(stranger.member_list().await));
    assert!(denied(stranger.status().await));
    assert!(denied(stranger.alarm(get.0, get.1, None).await));
    assert!(denied(stranger.lease_grant(60, None).await));
    assert!(denied(stranger.leases().await));
    assert!(denied(stranger.compact(2, None).await));
    assert!(denied(stranger.get("app/1", None).await));

    let raised = root.alarm(raise.0, raise.1, None).await.unwrap();
    assert_eq!(raised.alarms().len(), 1);
    // An alarm does not put the rules out of force, and does not hide what is there.
    assert!(denied(app.get("secret", None).await));
    assert!(denied(app.auth_disable().await));
    assert_eq!(app.get("app/1", None).await.unwrap().count(), 1);
    let (code, text) = refusal(app.put("app/1", "x", None).await.unwrap_err());
    assert_eq!((code, &*text), (Code::DataLoss, "etcdserver: corrupt cluster"));
    root.alarm(AlarmAction::Deactivate, AlarmType::Corrupt, None).await.unwrap();
    app.put("app/1", "x", None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_round_leads_to_keys_of_others() {
    let (_served, [mut root, mut app, _]) = guarded().await;
    let txn = async |app: &mut Client, op: TxnOp| {
        let inner = Txn::new().and_then([op.clone()]);
        let nested = Txn::new().and_then([TxnOp::txn(inner)]);
        let otherwise = Txn::new()
            .when([Compare::version("app/1", CompareOp::Equal, 99)])
            .and_then([TxnOp::get("app/1", None)])
            .or_else([op.clone()]);
        denied(app.txn(Txn::new().and_then([op])).await)
            && denied(app.txn(nested).await)
            && denied(app.txn(otherwise).await)
    };
    let from_key = Some(GetOptions::new().with_from_key());
    assert!(denied(app.get("app/1", from_key.clone()).await));
    assert!(denied(app.kv_client().get_stream("app/1", from_key.clone()).await));
    assert!(txn(&mut app, TxnOp::get("secret", None)).await);
    assert!(txn(&mut app, TxnOp::get("app/1", from_key)).await);
    assert!(txn(&mut app, TxnOp::put("secret", "x", None)).await);
    assert!(txn(&mut app, TxnOp::delete("secret", None)).await);
    // What may be written only may not be read by way of its old value.
    app.put("blind/1", "x", None).await.unwrap();
    let old = Some(PutOptions::new().with_prev_key());
    assert!(denied(app.put("blind/1", "y", old.clone()).await));
    assert!(txn(&mut app, TxnOp::put("blind/1", "y", old)).await);
    let compare = Txn::new().when([Compare::value("secret", CompareOp::Greater, "a")]);
    assert!(denied(app.txn(compare).await));
    // A lease that holds somebody else's key is not to be joined, nor ended.
    let lease = root.lease_grant(600, None).await.unwrap().id();
    let on = || Some(PutOptions::new().with_lease(lease));
    root.put("secret", "theirs", on()).await.unwrap();
    assert!(denied(app.put("app/2", "x", on()).await));
    assert!(txn(&mut app, TxnOp::put("app/2", "x", on())).await);
    assert!(denied(app.lease_revoke(lease).await));
    // Watches: its own keys, and nothing that reaches beyond them.
    let wanted = WatchOptions::new().with_prefix();
    let mut stream = app.watch("app/", Some(wanted)).await.unwrap();
    assert!(!next(&mut stream).await.canceled());
    for options in [
        WatchOptions::new().with_from_key(),
        WatchOptions::new().with_all_keys(),
        WatchOptions::new().with_range("z"),
    ] {
        stream.watch("app/1", Some(options)).await.unwrap();
        let answer = next(&mut stream).await;
        assert!(answer.created() && answer.canceled(), "{answer:?}");
        assert!(answer.cancel_reason().contains("permission denied"), "{answer:?}");
    }
    assert_eq!(root.get("secret", None).await.unwrap().kvs()[0].value(), b"theirs");
}
