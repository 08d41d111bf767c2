//! `etcdctl` commands that go on by themselves: watches, locks, elections, mirrors. Each is
//! run beside a real etcd of the same release.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::PATIENCE;
use crate::beside::{Beside, RELEASES, Side};

/// A command on its way.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Open as long as the command may read on.
    stdin: ChildStdin,
}

impl Running {
    fn start(side: &Side, arguments: &[&str]) -> Self {
        let mut command = side.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stdin = child.stdin.take().unwrap();
        Self { child, lines, stdin }
    }

    async fn tell(&mut self, text: &str) {
        self.stdin.write_all(text.as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        line.expect("a line comes").unwrap().expect("it goes on")
    }

    async fn lines(&mut self, many: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..many {
            lines.push(self.line().await);
        }
        lines
    }

    /// Interrupts it, as a person would, and waits until it has cleaned up.
    async fn interrupt(mut self) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        let signal = nix::sys::signal::Signal::SIGINT;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("it ends").unwrap();
    }
}

/// Puts through `etcdctl`.
async fn put(side: &Side, key: &str, value: &str) {
    assert_eq!(side.ask(&["put", key, value], "").await.out, "OK\n");
}

/// Asks until the answer is the wanted one.
async fn until(side: &Side, arguments: &[&str], wanted: &str) {
    let asking = async {
        while side.ask(arguments, "").await.out != wanted {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let met = tokio::time::timeout(PATIENCE, asking).await;
    assert!(met.is_ok(), "{arguments:?} never answers {wanted:?}");
}

/// What a side prints for a script of a watch and changes under it.
async fn watched(side: &Side) -> Vec<String> {
    put(side, "a", "1").await;
    put(side, "a", "2").await;
    put(side, "b/1", "3").await;
    let mut told = Vec::new();
    // From a past revision, then what comes while it runs.
    let mut past = Running::start(side, &["watch", "a", "--rev=2", "--prev-kv"]);
    told.extend(past.lines(8).await);
    side.ask(&["del", "a"], "").await;
    // `DELETE`, the key, its old value; the deleted key and its empty value.
    told.extend(past.lines(5).await);
    past.interrupt().await;
    let mut all = Running::start(side, &["watch", "b/", "--prefix", "--rev=1", "-w", "json"]);
    told.push(all.line().await);
    all.interrupt().await;
    let mut ranged = Running::start(side, &["watch", "a", "b", "--rev=5"]);
    told.extend(ranged.lines(2).await);
    ranged.interrupt().await;
    let told_on =
        ["watch", "a", "--rev=5", "--", "sh", "-c", "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY"];
    let mut told_to = Running::start(side, &told_on);
    told.extend(told_to.lines(4).await);
    told_to.interrupt().await;
    side.ask(&["compaction", "4"], "").await;
    let gone = side.ask(&["watch", "a", "--rev=2"], "").await;
    told.extend([gone.out, gone.err]);
    told.into_iter().map(|line| side.anonymous(&line)).collect()
}

/// Several watches on one stream, and progress by hand.
async fn interactive(side: &Side) -> Vec<String> {
    let mut watch = Running::start(side, &["watch", "-i"]);
    watch.tell("watch x --rev=6\n").await;
    put(side, "x", "1").await;
    let mut told = watch.lines(3).await;
    watch.tell("watch y/ --prefix\n").await;
    // The second watch runs once an event of it comes; puts before that are not seen.
    let seen = async {
        loop {
            put(side, "y/1", "v").await;
            put(side, "x", "2").await;
            let lines = watch.lines(3).await;
            if lines[1].starts_with("y/") {
                return lines;
            }
        }
    };
    let seen = tokio::time::timeout(PATIENCE, seen).await.expect("the second watch sees");
    told.push(seen[0].clone());
    watch.tell("progress\n").await;
    let progress = async {
        loop {
            if let Some((text, _revision)) = watch.line().await.split_once(':') {
                return text.to_owned();
            }
        }
    };
    told.push(tokio::time::timeout(PATIENCE, progress).await.expect("progress comes"));
    watch.child.kill().await.unwrap();
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_print_the_same_events() {
    for release in RELEASES {
        let Some(mut beside) = Beside::start(release, 1).await else { continue };
        let [ours, theirs] = &beside.sides;
        let (own, their) = tokio::join!(watched(ours), watched(theirs));
        let events = |told: Vec<String>| -> Vec<String> {
            // A real etcd gives what is past in one answer at its newest revision, ours in one
            // answer for each revision: the events are the same.
            let header = |line: String| match line.split_once("\"Events\"") {
                Some((_, events)) => events.to_owned(),
                None => line,
            };
            told.into_iter().map(header).collect()
        };
        beside.compare("watch", events(own), events(their));
        let [ours, theirs] = &beside.sides;
        let (own, their) = tokio::join!(interactive(ours), interactive(theirs));
        beside.compare("watch -i", own, their);
        beside.assert_alike();
    }
}

/// Two takers of one lock, one after the other; what the command sees.
async fn locked(side: &Side) -> Vec<String> {
    let mut first = Running::start(side, &["lock", "l"]);
    let key = first.line().await;
    let held = side.ask(&["get", "l/", "--prefix", "--keys-only"], "").await;
    assert!(held.out.contains(&key), "{key}: {held:?}");
    let mut second =
        Running::start(side, &["lock", "l", "--", "sh", "-c", "echo got $ETCD_LOCK_KEY"]);
    let waits = async {
        loop {
            let takers = side.ask(&["get", "l/", "--prefix", "--keys-only"], "").await;
            if takers.out.matches("l/").count() == 2 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.expect("the second one queues");
    first.interrupt().await;
    let got = second.line().await;
    second.child.wait().await.unwrap();
    until(side, &["get", "l/", "--prefix"], "").await;
    let failing = side.ask(&["lock", "l", "--ttl=9", "--", "sh", "-c", "exit 3"], "").await;
    vec![got.split('/').next().unwrap().to_owned(), format!("{failing:?}")]
}

/// Two candidates and an observer.
async fn elected(side: &Side) -> Vec<String> {
    let mut observer = Running::start(side, &["elect", "--listen", "e"]);
    let mut first = Running::start(side, &["elect", "e", "one"]);
    let mut told = vec![first.lines(2).await[1].clone(), observer.lines(2).await[1].clone()];
    let mut second = Running::start(side, &["elect", "e", "two"]);
    first.interrupt().await;
    told.extend([second.lines(2).await[1].clone(), observer.lines(2).await[1].clone()]);
    second.interrupt().await;
    observer.child.kill().await.unwrap();
    until(side, &["get", "e/", "--prefix"], "").await;
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_and_elections_change_hands_alike() {
    for release in RELEASES {
        let Some(mut beside) = Beside::start(release, 1).await else { continue };
        let [ours, theirs] = &beside.sides;
        let (own, their) = tokio::join!(locked(ours), locked(theirs));
        beside.compare("lock", own, their);
        let [ours, theirs] = &beside.sides;
        let (own, their) = tokio::join!(elected(ours), elected(theirs));
        assert_eq!(own, ["one", "one", "two", "two"]);
        beside.compare("elect", own, their);
        beside.assert_alike();
    }
}

/// Mirrors one prefix from one side to the other.
async fn mirrored(from: &Side, to: &Side, prefix: &str) {
    put(from, &format!("{prefix}/1"), "a").await;
    put(from, &format!("{prefix}/2"), "b").await;
    let files = ["ca.crt", "admin.crt", "admin.key"].map(|file| from.certificate(file));
    let [ca, cert, key] = &files;
    let copy = format!("copy-{prefix}/");
    let mirror = Running::start(
        from,
        &[
            "make-mirror",
            "--prefix",
            &format!("{prefix}/"),
            "--dest-prefix",
            &copy,
            "--dest-cacert",
            ca,
            "--dest-cert",
            cert,
            "--dest-key",
            key,
            &to.url,
        ],
    );
    let keys = ["get", copy.as_str(), "--prefix"];
    until(to, &keys, &format!("{copy}1\na\n{copy}2\nb\n")).await;
    from.ask(&["del", &format!("{prefix}/1")], "").await;
    // No compares, two writes, nothing otherwise.
    let both = format!("\nput {prefix}/3 x\nput {prefix}/4 y\n\n\n");
    assert!(from.ask(&["txn"], &both).await.out.starts_with("SUCCESS"));
    until(to, &keys, &format!("{copy}2\nb\n{copy}3\nx\n{copy}4\ny\n")).await;
    drop(mirror);
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_run_from_ours_to_a_real_etcd_and_back() {
    for release in RELEASES {
        let Some(beside) = Beside::start(release, 1).await else { continue };
        let [ours, theirs] = &beside.sides;
        tokio::join!(mirrored(ours, theirs, "m"), mirrored(theirs, ours, "n"));
    }
}

/// Its verdict is about the machine; that it runs through and cleans up is about ours.
#[tokio::test(flavor = "multi_thread")]
async fn check_perf_runs_to_its_end_and_leaves_nothing() {
    let Some(beside) = Beside::start(RELEASES[0], 1).await else { return };
    let [ours, _] = &beside.sides;
    let mut check = Running::start(ours, &["check", "perf", "--load=s"]);
    let told = async {
        let mut told = Vec::new();
        while let Some(line) = check.lines.next_line().await.unwrap() {
            told.push(line.rsplit('\r').next().unwrap_or_default().trim().to_owned());
        }
        told
    };
    // A minute of load, by its own clock.
    let told = tokio::time::timeout(PATIENCE * 9, told).await.expect("it ends");
    for measure in ["Throughput", "Slowest request took", "Stddev"] {
        assert!(told.iter().any(|line| line.contains(measure)), "{measure}: {told:?}");
    }
    until(ours, &["get", "/etcdctl-check-perf/", "--prefix", "--keys-only"], "").await;
}
