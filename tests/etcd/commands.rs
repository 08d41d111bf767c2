//! Scripts of `etcdctl` command lines, each to ours and to a real etcd: both must print the
//! same and end the same, with the tools of each release that is here.

use crate::beside::{Beside, RELEASES};

async fn alike(script: &str) {
    for release in RELEASES {
        let Some(mut beside) = Beside::start(release, 1).await else { continue };
        beside.script(script).await;
        beside.assert_alike();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_put_got_and_deleted_alike() {
    alike(include_str!("commands/keys.txt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_read_and_answered_alike() {
    alike(include_str!("commands/txn.txt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_granted_renewed_and_revoked_alike() {
    alike(include_str!("commands/leases.txt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_members_alarms_and_compaction_answer_alike() {
    alike(include_str!("commands/upkeep.txt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_roles_and_their_permissions_answer_alike() {
    alike(include_str!("commands/users.txt")).await;
}
