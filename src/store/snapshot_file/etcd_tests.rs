//! etcd's format both ways, with etcd's own programs where they are on the PATH.

use std::io::Cursor;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::store::offline::tests::stopped_with;
use crate::store::snapshot_file::AnySnapshot;
use crate::store::{Replay, SnapshotFormat, StoppedMember};

#[test]
fn a_record_becomes_the_message_and_back() {
    for (revision, lease) in [(2, 0), (300, 7), (i64::MAX, -1)] {
        let kv = KeyValue {
            key: "k".into(),
            value: vec![b'v'; 300].into(),
            create_revision: 2,
            mod_revision: revision,
            version: 3,
            lease,
        };
        assert_eq!(parse(&message(&kv)), Some(kv));
    }
    assert_eq!(parse(&[0x0a, 0x05, b'x']), None);
}

async fn etcd_snapshot(keys: usize) -> (Vec<u8>, Revision) {
    let cluster = stopped_with(keys).await;
    let member = StoppedMember::open(&cluster.path(1)).unwrap();
    let mut bytes = Vec::new();
    member.write_snapshot(SnapshotFormat::Etcd, &mut bytes).await.unwrap();
    let revision = member.view(Replay::Committed).await.unwrap().image_marks().unwrap().revision;
    (bytes, revision)
}

#[tokio::test]
async fn our_file_in_etcds_format_is_read_back_and_any_flipped_byte_is_noticed() {
    let (good, revision) = etcd_snapshot(500).await;
    let mut read = EtcdSnapshot::open(Cursor::new(&good)).unwrap();
    assert_eq!((read.header.keys, read.header.revision), (500, revision));
    let records: Vec<KeyValue> = read.take_records().collect();
    assert_eq!((&records[0].key[..], &records[0].value[..]), (&b"k0"[..], &b"v0"[..]));
    for at in (0..good.len()).step_by(101) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(EtcdSnapshot::open(Cursor::new(&bad)).is_err(), "{at}");
    }
}

/// Runs a program of etcd's, which is on the PATH.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("ETCDCTL_API", "3").output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}

struct Etcd {
    child: Child,
    endpoint: String,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Etcd {
    fn start(data: &Path) -> Self {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (client, peer) = (format!("http://{}", free()), format!("http://{}", free()));
        let child = Command::new("etcd")
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let etcd = Self { child, endpoint: format!("--endpoints={client}") };
        loop {
            let asked = Command::new("etcdctl")
                .env("ETCDCTL_API", "3")
                .args([&*etcd.endpoint, "endpoint", "health"])
                .output()
                .unwrap();
            if asked.status.success() {
                return etcd;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "etcd does not come up");
        }
    }

    fn ctl(&self, arguments: &[&str]) -> String {
        run("etcdctl", &[&[&*self.endpoint], arguments].concat())
    }
}

#[tokio::test]
async fn etcd_takes_our_snapshot_and_we_take_etcds() {
    if Command::new("etcdctl").arg("version").output().is_err() {
        // Without etcd's programs there is nobody to ask.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let text = |name: &str| at(name).display().to_string();
    let (bytes, revision) = etcd_snapshot(3_000).await;
    std::fs::write(at("ours"), &bytes).unwrap();
    let status = run("etcdctl", &["snapshot", "status", &text("ours"), "-w", "json"]);
    assert!(status.contains(&format!("\"revision\":{revision}")), "{status}");
    run("etcdctl", &["snapshot", "restore", &text("ours"), "--data-dir", &text("data")]);
    let etcd = Etcd::start(&at("data"));
    let keys = etcd.ctl(&["get", "k", "--prefix", "--keys-only"]);
    assert_eq!(keys.lines().filter(|line| !line.is_empty()).count(), 3_000);
    assert_eq!(etcd.ctl(&["get", "k77", "--print-value-only"]).trim(), "v77");
    // It goes on from there, and its own snapshot comes back to us.
    etcd.ctl(&["put", "k77", "changed"]);
    etcd.ctl(&["put", "k78", "once"]);
    etcd.ctl(&["del", "k78"]);
    etcd.ctl(&["snapshot", "save", &text("theirs")]);
    let file = std::fs::File::open(at("theirs")).unwrap();
    let mut theirs = AnySnapshot::open(file).unwrap();
    assert_eq!((theirs.format(), theirs.check().unwrap()), ("etcd", 2_999));
    let newest = theirs.header().revision;
    assert!(newest > revision, "{newest} after {revision}");
    let records: Vec<KeyValue> = theirs.records().unwrap().map(|kv| kv.unwrap()).collect();
    let changed = records.iter().find(|kv| &kv.key[..] == b"k77").unwrap();
    assert_eq!((&changed.value[..], changed.version), (&b"changed"[..], 2));
}
