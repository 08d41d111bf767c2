//! Debian's `etcdctl`, unmodified, against a member that listens.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::PATIENCE;
use crate::served::{Served, output, program};

struct Client {
    served: Served,
    program: PathBuf,
}

impl Client {
    async fn start() -> Option<Self> {
        let program = program("etcdctl")?;
        Some(Self { served: Served::start().await, program })
    }

    async fn run_as(&self, identity: &str, arguments: &[&str]) -> (bool, String) {
        let mut command = self.served.etcdctl(&self.program, identity, arguments);
        command.stdin(Stdio::null());
        let output = output(command).await;
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), out + &String::from_utf8_lossy(&output.stderr))
    }

    async fn ok(&self, arguments: &[&str]) -> String {
        let (success, text) = self.run_as("admin", arguments).await;
        assert!(success, "etcdctl {arguments:?}: {text}");
        text
    }

    async fn refused(&self, arguments: &[&str]) -> String {
        let (success, text) = self.run_as("admin", arguments).await;
        assert!(!success, "etcdctl {arguments:?}: {text}");
        text
    }

    /// The first lines of a command that goes on by itself.
    async fn watched(&self, arguments: &[&str], lines: usize) -> String {
        let mut command = self.served.etcdctl(&self.program, "admin", arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let printed = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let read = move || printed.take(lines).map(|line| line.unwrap() + "\n").collect();
        let reading = tokio::task::spawn_blocking(read);
        let text = tokio::time::timeout(PATIENCE, reading).await;
        child.kill().unwrap();
        child.wait().unwrap();
        text.unwrap().unwrap()
    }

    /// With something to read on stdin.
    async fn told(&self, arguments: &[&str], input: &str) -> String {
        let file = self.served.dir.path().join("stdin");
        std::fs::write(&file, input).unwrap();
        let mut command = self.served.etcdctl(&self.program, "admin", arguments);
        command.stdin(std::fs::File::open(&file).unwrap());
        let output = output(command).await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_transactions_watches_leases_locks_and_elections() {
    let Some(client) = Client::start().await else { return };
    assert_eq!(client.ok(&["put", "a", "1"]).await, "OK\n");
    client.ok(&["put", "b", "2"]).await;
    assert_eq!(client.ok(&["get", "a", "--prefix"]).await, "a\n1\n");
    assert_eq!(client.ok(&["get", "", "--from-key", "--keys-only"]).await, "a\n\nb\n\n");
    let script = "value(\"a\") = \"1\"\n\nput t yes\nget a\n\nput t no\n\n";
    let done = client.told(&["txn", "-i"], script).await;
    assert!(done.contains("SUCCESS\n\nOK\n\na\n1"), "{done}");
    assert_eq!(client.watched(&["watch", "a", "--rev=2"], 3).await, "PUT\na\n1\n");
    assert_eq!(client.ok(&["del", "a", "--prev-kv"]).await, "1\na\n1\n");

    let granted = client.ok(&["lease", "grant", "600"]).await;
    let lease = granted.split_whitespace().nth(1).unwrap().to_owned();
    client.ok(&["put", "leased", "v", &format!("--lease={lease}")]).await;
    let left = client.ok(&["lease", "timetolive", &lease, "--keys"]).await;
    assert!(left.contains("granted with TTL(600s)") && left.contains("leased"), "{left}");
    assert!(client.ok(&["lease", "keep-alive", "--once", &lease]).await.contains("TTL(600)"));
    assert!(client.ok(&["lease", "list"]).await.contains(&lease));
    client.ok(&["lease", "revoke", &lease]).await;
    assert_eq!(client.ok(&["get", "leased"]).await, "");

    let locked = client.ok(&["lock", "l", "echo", "held"]).await;
    assert!(locked.contains("held"), "{locked}");
    assert_eq!(client.ok(&["get", "l", "--prefix"]).await, "", "the lock left nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_health_hashes_compaction_and_snapshots() {
    let Some(client) = Client::start().await else { return };
    for value in 0..5 {
        client.ok(&["put", "a", &value.to_string()]).await;
    }
    let members = client.ok(&["member", "list"]).await;
    assert!(members.contains("started, a1, https://127.0.0.1:"), "{members}");
    assert!(client.ok(&["endpoint", "health"]).await.contains("is healthy"));
    assert!(client.ok(&["endpoint", "status"]).await.contains("3.7.0"));
    assert!(client.ok(&["endpoint", "hashkv"]).await.contains(", "));
    assert_eq!(client.ok(&["compaction", "4"]).await, "compacted revision 4\n");
    let told = client.refused(&["get", "a", "--rev=2"]).await;
    assert!(told.contains("mvcc: required revision has been compacted"), "{told}");
    assert!(client.refused(&["compaction", "4"]).await.contains("has been compacted"));
    client.ok(&["defrag"]).await;
    assert_eq!(client.ok(&["alarm", "list"]).await, "");
    let file = client.served.dir.path().join("saved");
    client.ok(&["snapshot", "save", &text(&file)]).await;
    assert_eq!(std::fs::metadata(&file).unwrap().len() % 512, 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_roles_decide_once_they_are_enabled() {
    let Some(client) = Client::start().await else { return };
    client.served.issue("app");
    client.ok(&["put", "app/x", "1"]).await;
    client.ok(&["put", "other", "2"]).await;
    client.ok(&["role", "add", "app"]).await;
    client.ok(&["role", "grant-permission", "app", "--prefix=true", "readwrite", "app/"]).await;
    client.ok(&["user", "add", "root:secret"]).await;
    client.ok(&["user", "add", "app", "--no-password"]).await;
    client.ok(&["user", "grant-role", "app", "app"]).await;
    client.ok(&["role", "add", "root"]).await;
    client.ok(&["user", "grant-role", "root", "root"]).await;
    assert_eq!(client.ok(&["auth", "enable"]).await, "Authentication Enabled\n");

    let (allowed, told) = client.run_as("app", &["get", "app/x"]).await;
    assert!(allowed && told == "app/x\n1\n", "{told}");
    let (allowed, told) = client.run_as("app", &["get", "other"]).await;
    assert!(!allowed && told.contains("etcdserver: permission denied"), "{told}");
    let told = client.refused(&["get", "other", "--user", "root:wrong"]).await;
    assert!(told.contains("authentication failed, invalid user ID or password"), "{told}");
    assert_eq!(client.ok(&["get", "other", "--user", "root:secret"]).await, "other\n2\n");
    let roles = client.ok(&["role", "get", "app", "--user", "root:secret"]).await;
    assert!(roles.contains("[app/, app0) (prefix app/)"), "{roles}");
    client.ok(&["auth", "disable", "--user", "root:secret"]).await;
    assert_eq!(client.ok(&["get", "other"]).await, "other\n2\n");
}
