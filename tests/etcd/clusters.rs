//! Three members each of ours and of a real etcd: commands that are about all of them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use etcd_client::ConnectOptions;
use holdfast::base::ids::{ClusterId, MemberId};
use tonic::Code;

use crate::PATIENCE;
use crate::beside::{Beside, RELEASES, Side, Told, shape};
use crate::channel::client;
use crate::group::{self, Ports, address};
use crate::rust_client::{next, refusal};

/// Members are listed in the order of their ids, which is another one in each cluster.
fn sorted(told: Told) -> Told {
    let mut lines: Vec<&str> = told.out.lines().collect();
    lines.sort_unstable();
    Told { out: lines.join("\n"), ..told }
}

/// The lines of every endpoint, in their form alone.
async fn of_all(side: &Side, arguments: &[&str]) -> Told {
    let told = sorted(side.ask(arguments, "").await);
    // Whoever leads is another one in each cluster.
    let out = shape(&told.out).replace("true", "false");
    Told { out, err: shape(&told.err), ..told }
}

/// The name of the member that leads, where there is one.
async fn leader(side: &Side) -> Option<String> {
    let status = side.document(&["endpoint", "status", "--cluster", "-w", "json"]).await;
    status[0]["Status"]["leader"].as_u64().map(|leads| side.name_of(leads))
}

/// Hands the lead to a member that does not have it; answers what was printed of it. It may
/// have moved by itself in between, and then it is done again.
async fn handed_over(side: &Side) -> [String; 2] {
    let mut seen = Vec::new();
    let handing = async {
        loop {
            if let Some(before) = leader(side).await {
                let next = if before == "a2" { "a3" } else { "a2" };
                let told = side.ask(&["move-leader", &format!("{{{next}}}")], "").await;
                let after = leader(side).await;
                if told.code == Some(0) && after.as_deref() == Some(next) {
                    let plain = |text: &str| text.replace(&before, "before").replace(next, "next");
                    return [plain(&told.out), plain(&told.err)];
                }
                seen.push((before, next, told, after));
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    let handed = tokio::time::timeout(PATIENCE, handing).await.ok();
    handed.unwrap_or_else(|| panic!("the lead is not handed over: {seen:#?}"))
}

/// The equal history of each member has an equal hash, which is etcd's.
async fn hashes(side: &Side) -> Vec<String> {
    let told = side.document(&["endpoint", "hashkv", "--cluster", "--rev=4", "-w", "json"]).await;
    let hash = |member: &serde_json::Value| member["HashKV"]["hash"].to_string();
    told.as_array().unwrap().iter().map(hash).collect()
}

/// A real etcd takes members only after its own have been connected for five seconds.
async fn ready_for_members(side: &Side) {
    let ready = async {
        let add = ["member", "add", "x", "--peer-urls=https://{peer1}"];
        while side.ask(&add, "").await.err.contains("unhealthy cluster") {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("it is healthy");
}

const MEMBERS: &str = include_str!("commands/members.txt");

#[tokio::test(flavor = "multi_thread")]
async fn commands_about_all_members_answer_alike() {
    for release in RELEASES {
        let Some(mut beside) = Beside::start(release, 3).await else { continue };
        for value in ["1", "2", "3"] {
            beside.same(&["put", "k", value]).await;
        }
        for words in [
            &["endpoint", "health", "--cluster"][..],
            &["endpoint", "status", "--cluster"],
            &["endpoint", "status", "--cluster", "-w", "table"],
            &["endpoint", "hashkv", "--cluster"],
            &["member", "list"],
            &["member", "list", "-w", "table"],
            &["defrag", "--cluster"],
            &["alarm", "list"],
        ] {
            let [ours, theirs] = &beside.sides;
            let (own, their) = tokio::join!(of_all(ours, words), of_all(theirs, words));
            beside.compare(&words.join(" "), own, their);
        }
        let [ours, theirs] = &beside.sides;
        let (own, their) = tokio::join!(hashes(ours), hashes(theirs));
        assert!(own.len() == 3 && own.iter().all(|hash| *hash == own[0]), "{own:?}");
        beside.compare("endpoint hashkv --cluster", own, their);
        let [ours, theirs] = &mut beside.sides;
        ours.point_at_all(3);
        theirs.point_at_all(3);
        let [ours, theirs] = &beside.sides;
        // The later program reads its environment twice here and calls that a conflict.
        if release == RELEASES[0] {
            let (own, their) = tokio::join!(handed_over(ours), handed_over(theirs));
            beside.compare("move-leader", own, their);
        }
        for (at, side) in beside.sides.iter_mut().enumerate() {
            // Nobody is there yet; the same words on both sides.
            side.keep_word("new", &format!("127.0.0.4:{}", [2_390, 2_391][at]));
            side.keep_word("newer", &format!("127.0.0.5:{}", [2_390, 2_391][at]));
        }
        ready_for_members(&beside.sides[1]).await;
        beside.script(MEMBERS).await;
        beside.assert_alike();
    }
}

/// A learner that was added by `etcdctl` starts, catches up, is promoted and removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_learner_is_added_started_promoted_and_removed() {
    let Some(beside) = Beside::start(RELEASES[0], 3).await else { return };
    let ours = &beside.sides[0];
    let served = &beside.served;
    let ports = Ports { client: served.port, peer: served.peer_port };
    let peer = format!("--peer-urls=https://{}:{}", address(3), ports.peer);
    let added = ours.ask(&["member", "add", "a4", &peer, "--learner"], "").await;
    assert_eq!(added.code, Some(0), "{added:?}");
    let id = added.out.split_whitespace().nth(1).unwrap().to_owned();
    let early = ours.ask(&["member", "promote", &id], "").await;
    assert!(early.err.contains("can only promote a learner member which is in sync"), "{early:?}");

    let member = MemberId(u64::from_str_radix(&id, 16).unwrap());
    let cut = Arc::new(AtomicBool::new(false));
    let cluster = ClusterId(served.members[0].store.status().cluster.0);
    let dir = served.dir.path();
    let store = group::open(dir, &dir.join("store4"), (cluster, member), cut.clone()).await;
    let learner = group::listen(dir, 3, ports, store, cut).await;
    let promoted = async {
        while ours.ask(&["member", "promote", &id], "").await.code != Some(0) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, promoted).await.expect("it catches up");
    let again = ours.ask(&["member", "promote", &id], "").await;
    assert!(again.err.contains("can only promote a learner member"), "{again:?}");
    let listed = ours.ask(&["member", "list"], "").await;
    assert_eq!(listed.out.lines().filter(|line| line.ends_with("false")).count(), 4, "{listed:?}");
    assert_eq!(ours.ask(&["member", "remove", &id], "").await.code, Some(0));
    let listed = ours.ask(&["member", "list"], "").await;
    assert_eq!(listed.out.lines().count(), 3, "{listed:?}");
    drop(learner);
}

/// A leader that the others do not answer says so, and ends what asked for a leader.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_majority_does_not_say_that_it_leads() {
    let Some(beside) = Beside::start(RELEASES[0], 3).await else { return };
    let ours = &beside.sides[0];
    assert_eq!(leader(ours).await.as_deref(), Some("a1"));
    // As Kubernetes watches, and as it does not.
    let asks = Some(ConnectOptions::new().with_require_leader(true));
    let dir = beside.served.dir.path();
    let mut asking = client(dir, "admin", &beside.served.url(), asks).await.unwrap();
    let mut content = client(dir, "admin", &beside.served.url(), None).await.unwrap();
    let mut ends = asking.watch("k", None).await.unwrap();
    let mut stays = content.watch("k", None).await.unwrap();
    assert!(next(&mut ends).await.created() && next(&mut stays).await.created());
    beside.served.members[0].cut(true);
    let own = async || ours.document(&["endpoint", "status", "-w", "json"]).await;
    let said = async {
        loop {
            let status = own().await;
            if status[0]["Status"]["leader"].is_null() {
                return status[0]["Status"]["errors"].to_string();
            }
        }
    };
    let errors = tokio::time::timeout(PATIENCE, said).await.expect("it says so");
    assert_eq!(errors, "[\"etcdserver: no leader\"]");
    let health = ours.ask(&["endpoint", "health", "--command-timeout=30s"], "").await;
    assert_eq!(health.code, Some(1), "{health:?}");
    let serial = ours.ask(&["get", "k", "--consistency=s"], "").await;
    assert_eq!(serial.code, Some(0), "{serial:?}");
    let no_leader = (Code::Unavailable, "etcdserver: no leader".to_owned());
    let ended = tokio::time::timeout(PATIENCE, ends.message()).await.expect("it ends");
    assert_eq!(refusal(ended.unwrap_err()), no_leader);
    assert_eq!(refusal(asking.get("k", None).await.unwrap_err()), no_leader);
    beside.served.members[0].cut(false);
    let healed = async {
        while own().await[0]["Status"]["leader"].is_null() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, healed).await.expect("it hears of a leader again");
    // The watch that did not ask went on, and hears of what comes now.
    let put = async { while content.put("k", "after", None).await.is_err() {} };
    tokio::time::timeout(PATIENCE, put).await.expect("writes go on");
    assert_eq!(next(&mut stays).await.events()[0].kv().unwrap().value(), b"after");
}
