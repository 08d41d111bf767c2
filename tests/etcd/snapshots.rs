//! Snapshots between this store and a real etcd, both ways, by the programs of both.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::real::Etcd;
use crate::served::{Served, output, program, restored_store};
use holdfast::base::ids::{ClusterId, MemberId};

async fn run(mut command: Command) -> String {
    command.stdin(Stdio::null());
    let shown = format!("{command:?}");
    let output = output(command).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let blamed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}: {said}{blamed}");
    said
}

/// `etcdctl` without certificates.
fn plain(etcdctl: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(etcdctl);
    command.args(arguments).env("ETCDCTL_API", "3");
    command
}

fn holdfast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.args(arguments);
    command
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// Something of everything: much, large, changed, deleted, several in one revision, leased.
const SCRIPT: [&[&str]; 7] = [
    &["put", "changed", "1"],
    &["put", "changed", "2"],
    &["put", "gone", "x"],
    &["del", "gone"],
    &["put", "back", "1"],
    &["del", "back"],
    &["put", "back", "2"],
];
const ALL: [&str; 5] = ["get", "", "--from-key", "-w", "json"];
const MANY: usize = 600;

/// What both sides are given: `client` makes the command for a line of arguments.
async fn fill(client: impl Fn(&[&str]) -> Command) -> String {
    for line in SCRIPT {
        run(client(line)).await;
    }
    // Transactions of at most 100 operations, and a value over several pages.
    for chunk in 0..MANY / 100 {
        let puts: String =
            (0..100).map(|n| format!("put many/{chunk}/{n:03} value-{chunk}-{n}\n")).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("\n{puts}\n\n")).unwrap();
        let mut command = client(&["txn", "-i"]);
        command.stdin(std::fs::File::open(file.path()).unwrap());
        let done = output(command).await;
        assert!(done.status.success(), "{done:?}");
    }
    run(client(&["put", "large", &"L".repeat(70_000)])).await;
    let granted = run(client(&["lease", "grant", "9000"])).await;
    let lease = granted.split_whitespace().nth(1).unwrap().to_owned();
    run(client(&["put", "leased", "v", &format!("--lease={lease}")])).await;
    lease
}

/// All keys with their revisions, versions and leases; and the store's revision.
async fn content(client: impl Fn(&[&str]) -> Command) -> (Value, i64) {
    let mut all = json(&run(client(&ALL)).await);
    let revision = all["header"]["revision"].as_i64().unwrap();
    assert_eq!(all["kvs"].as_array().unwrap().len(), MANY + 4);
    (all["kvs"].take(), revision)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_etcd_goes_on_from_what_etcdctl_saved_here() {
    let (Some(etcdctl), Some(etcd)) = (program("etcdctl"), program("etcd")) else { return };
    let served = Served::start().await;
    let ours = |arguments: &[&str]| served.etcdctl(&etcdctl, "admin", arguments);
    let lease = fill(ours).await;
    let (kvs, revision) = content(ours).await;
    let at = |name: &str| served.dir.path().join(name).display().to_string();
    run(ours(&["snapshot", "save", &at("saved")])).await;
    let status =
        json(&run(plain(&etcdctl, &["snapshot", "status", &at("saved"), "-w", "json"])).await);
    assert_eq!(status["revision"], revision, "{status}");
    let seen =
        json(&run(holdfast(&["store", "snapshot", "status", &at("saved"), "-o", "json"])).await);
    assert_eq!((&seen["format"], &seen["revision"]), (&Value::from("etcd"), &revision.into()));
    assert_eq!((&seen["keys"], &seen["leases"]), (&(MANY + 4).into(), &1.into()));

    let peers = "http://127.0.0.1:2380";
    let group = [
        "--name=a1",
        &format!("--initial-cluster=a1={peers}"),
        &format!("--initial-advertise-peer-urls={peers}"),
        &format!("--data-dir={}", at("etcd")),
    ];
    let saved = at("saved");
    let restore = [&["snapshot", "restore", &saved], &group[..]].concat();
    run(plain(&etcdctl, &restore)).await;
    let real = Etcd::start_in(&etcd, &served.dir.path().join("etcd")).await;
    let endpoint = format!("--endpoints={}", real.url);
    let theirs = |arguments: &[&str]| plain(&etcdctl, &[&[&*endpoint], arguments].concat());
    assert_eq!(content(theirs).await, (kvs, revision));
    let left = run(theirs(&["lease", "timetolive", &lease, "--keys"])).await;
    assert!(left.contains("granted with TTL(9000s)") && left.contains("[leased]"), "{left}");
    run(theirs(&["lease", "revoke", &lease])).await;
    assert_eq!(run(theirs(&["get", "leased"])).await, "");
    let next = json(&run(theirs(&["put", "next", "1", "-w", "json"])).await);
    assert_eq!(next["header"]["revision"], revision + 2);
    let old = output(theirs(&["get", "changed", "--rev=2"])).await;
    assert!(String::from_utf8_lossy(&old.stderr).contains("has been compacted"), "{old:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_snapshot_of_a_real_etcd_is_restored_and_served_here() {
    let (Some(etcdctl), Some(etcd)) = (program("etcdctl"), program("etcd")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let real = Etcd::start_in(&etcd, &dir.path().join("etcd")).await;
    let endpoint = format!("--endpoints={}", real.url);
    let theirs = |arguments: &[&str]| plain(&etcdctl, &[&[&*endpoint], arguments].concat());
    let lease = fill(theirs).await;
    let (kvs, revision) = content(theirs).await;
    let at = |name: &str| dir.path().join(name).display().to_string();
    run(theirs(&["snapshot", "save", &at("saved")])).await;
    drop(real);

    let cluster = ClusterId(uuid::Uuid::new_v4());
    let (id, store, saved) = (cluster.to_string(), at("store"), at("saved"));
    let verb = ["store", "snapshot", "restore", &saved, "--data-dir", &store];
    let who = ["--name=a1", "--address=127.0.0.1:2380", "--bump-revision=1000"];
    let told = run(holdfast(&[&verb[..], &who, &["--cluster-id", &id]].concat())).await;
    assert!(told.contains(&format!("{} keys", MANY + 4)), "{told}");
    let report = run(holdfast(&["store", "check", "--data-dir", &store])).await;
    assert!(report.contains("No damage was found"), "{report}");

    let store = restored_store(Path::new(&store), cluster, MemberId(2_001)).await;
    let served = Served::start_on(store).await;
    let ours = |arguments: &[&str]| served.etcdctl(&etcdctl, "admin", arguments);
    assert_eq!(content(ours).await, (kvs, revision + 1_000));
    let left = run(ours(&["lease", "timetolive", &lease, "--keys"])).await;
    assert!(left.contains("granted with TTL(9000s)") && left.contains("[leased]"), "{left}");
    let next = json(&run(ours(&["put", "next", "1", "-w", "json"])).await);
    assert_eq!(next["header"]["revision"], revision + 1_001);
}
