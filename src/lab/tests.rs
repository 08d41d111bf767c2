//! The lab's own parts on bare hosts: they reach each other, faults hit, nothing stays.
//!
//! Why the harness is its own child: a lab starts its program again as PID 1, switch and
//! daemon; here that program is this test binary, told to run [`plays_the_child`] only.
//! All of it needs root and says nothing without it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::*;
use crate::sys::pid1::Pid1Config;
use crate::sys::services::ServiceRequest;
use crate::sys::waiting::wait_until;

const LIMIT: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(20);
/// How long an answer from the other end of a link may take.
const REACH_LIMIT: Duration = Duration::from_secs(2);

fn program() -> Program {
    let child = ["--exact", "lab::tests::plays_the_child", "--nocapture", "--test-threads=1"];
    Program {
        file: std::env::current_exe().unwrap(),
        instead: child.iter().map(|word| word.to_string()).collect(),
    }
}

/// Not a test of its own: what the lab's processes run.
#[test]
#[expect(clippy::zombie_processes, reason = "leaving a child behind is what `orphan` is for")]
fn plays_the_child() {
    let Ok(verb) = std::env::var(Program::VERB) else { return };
    let words: Vec<&str> = verb.lines().collect();
    match words[..] {
        ["host-init"] => {
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
            crate::sys::pid1::run(Pid1Config::default()).unwrap();
        }
        ["lab", "switch"] => hold_switch(),
        ["lab", "links", "--dir", dir] => run_links(Path::new(dir), program()).unwrap(),
        ["lab", "daemon", "--dir", dir] => run_daemon(Path::new(dir), program()).unwrap(),
        ["up", dir] => {
            let options = UpOptions {
                layout: Layout::Three,
                dir: dir.into(),
                bundle: None,
                sample: None,
                bare: false,
                program: program(),
            };
            up(&options, &|_| ()).unwrap();
        }
        ["greet", port] => greet(port.parse().unwrap()),
        ["knock", address] => {
            let mut said = String::new();
            TcpStream::connect(address).unwrap().read_to_string(&mut said).unwrap();
            println!("heard <{said}>");
        }
        ["reach", address] => {
            let begun = std::time::Instant::now();
            let reached = TcpStream::connect_timeout(&address.parse().unwrap(), REACH_LIMIT);
            println!("reached: {} in {} us", reached.is_ok(), begun.elapsed().as_micros());
        }
        ["shout", address] => {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            // Refused or lost: both are fine, the count is what is looked at.
            let _ = socket.send_to(b"hello", address);
        }
        ["orphan"] => {
            // A grandchild whose parent dies first becomes PID 1's to reap.
            let own = std::env::current_exe().unwrap();
            program().command(own, &["nap"]).spawn().unwrap();
        }
        ["nap"] => std::thread::park_timeout(Duration::from_millis(300)),
        _ => panic!("no such child: {verb}"),
    }
}

/// Says this host's name to everybody who connects.
fn greet(port: u16) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    let name = nix::unistd::gethostname().unwrap();
    for stream in listener.incoming() {
        let _ = stream.unwrap().write_all(name.as_encoded_bytes());
    }
}

/// A bare lab that goes away with the test, also when it fails.
struct TestLab {
    dir: tempfile::TempDir,
    layout: Layout,
}

impl TestLab {
    fn new(layout: Layout) -> Option<Self> {
        nix::unistd::geteuid().is_root().then(|| Self { dir: tempfile::tempdir().unwrap(), layout })
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("lab")
    }

    fn up(&self) -> Lab {
        let options = UpOptions {
            layout: self.layout,
            dir: self.path(),
            bundle: None,
            sample: None,
            bare: false,
            program: program(),
        };
        up(&options, &|line| println!("{line}")).unwrap();
        Lab::open(&self.path(), program()).unwrap()
    }

    fn group(&self) -> String {
        let path = self.dir.path().canonicalize().unwrap().join("lab");
        let digest = <sha2::Sha256 as sha2::Digest>::digest(path.as_os_str().as_encoded_bytes());
        format!("holdfast-lab-{}", hex::encode(&digest[..4]))
    }

    fn assert_nothing_left(&self) {
        assert!(!self.path().exists(), "files are left");
        let group = crate::sys::cgroup::Group::discover(&self.group()).unwrap();
        assert!(!group.exists(), "control groups are left");
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let path = self.path().to_string_lossy().into_owned();
        assert!(!mounts.contains(&path), "mounts are left");
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let read = |file: &str| std::fs::read(process.path().join(file)).unwrap_or_default();
            let program = std::fs::read_link(process.path().join("exe")).unwrap_or_default();
            let words = String::from_utf8_lossy(&read("environ")).into_owned();
            assert!(!program.starts_with(self.path()), "{process:?} is left");
            assert!(!words.contains(&format!("--dir\n{path}")), "{process:?} is left");
        }
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        if let Err(error) = down(&self.path()) {
            println!("cannot take the lab down: {error}");
        }
    }
}

/// What runs in a host: runs the child verb and returns what it printed.
fn ask(lab: &Lab, host: &str, verb: &[&str]) -> String {
    let host = lab.host(host).unwrap();
    run::run_on(&host, host.holdfast(verb), LIMIT).unwrap().stdout
}

#[expect(clippy::zombie_processes, reason = "it ends with its host, which reaps by group")]
fn serve_greetings(lab: &Lab, host: &str, port: u16) {
    let host = lab.host(host).unwrap();
    let mut command = host.holdfast(&["greet", &port.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    host.spawn(command).unwrap();
}

fn hear(address: (Ipv4Addr, u16)) -> Option<String> {
    let mut said = String::new();
    TcpStream::connect(address).ok()?.read_to_string(&mut said).ok()?;
    (!said.is_empty()).then_some(said)
}

fn network_namespaces() -> BTreeSet<PathBuf> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|one| std::fs::read_link(one.path().join("ns/net")).ok()).collect()
}

#[test]
fn hosts_reach_each_other_and_nobody_else() {
    let Some(place) = TestLab::new(Layout::Three) else { return };
    let lab = place.up();
    serve_greetings(&lab, "b1", 7000);
    let heard = || ask(&lab, "a1", &["knock", "10.77.0.21:7000"]).contains("heard <b1>");
    let listens = || TcpStream::connect_timeout(&([127, 0, 0, 1], 1).into(), EVERY).is_err();
    assert!(listens());
    assert!(wait_until(LIMIT, EVERY, || std::panic::catch_unwind(heard).unwrap_or(false)));
    assert_eq!(lab.status().unwrap().outbound_packets, Some(0));
    ask(&lab, "a1", &["shout", "10.244.9.9:53"]);
    assert_eq!(lab.status().unwrap().outbound_packets, Some(0), "inner ranges are not outbound");
    ask(&lab, "a1", &["shout", "198.51.100.1:53"]);
    let counted = || lab.status().unwrap().outbound_packets == Some(1);
    assert!(wait_until(LIMIT, EVERY, counted), "a packet that leaves is counted");
    down(&place.path()).unwrap();
    place.assert_nothing_left();
}

/// How long a connection from one host to another takes, if there is a way.
fn reach(lab: &Lab, from: &str, address: &str) -> Option<Duration> {
    let said = ask(lab, from, &["reach", address]);
    let words: Vec<&str> = said.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "reached:").unwrap();
    (words[at + 1] == "true").then(|| Duration::from_micros(words[at + 3].parse().unwrap()))
}

#[test]
fn centers_are_as_far_from_each_other_as_their_links_say() {
    let Some(place) = TestLab::new(Layout::TwoSite) else { return };
    let lab = place.up();
    let (b1, c1) = ("10.77.2.11:7000", "10.77.3.11:7000");
    for host in ["a1", "b1", "c1"] {
        serve_greetings(&lab, host, 7000);
    }
    let reached = |lab: &Lab, from: &str, there: &str| {
        assert!(wait_until(LIMIT, EVERY, || reach(lab, from, there).is_some()), "{there}");
    };
    for there in [b1, c1] {
        reached(&lab, "a1", there);
    }
    let best = |lab: &Lab, from: &str, to: &str| {
        (0..5).filter_map(|_| reach(lab, from, to)).min().unwrap()
    };
    let (near, far) = (best(&lab, "a1", b1), best(&lab, "a1", c1));
    assert!(far >= Duration::from_millis(30) && near < far, "{near:?}, {far:?}");
    // A pod's address leads to its node, as the bank's routers would have it.
    let (range, _) = layout::pod_ranges(lab.hosts(), "c").1[0];
    let pod = range.hosts().next().unwrap();
    let pid = lab.host("c1").unwrap().pid().unwrap();
    let inside = crate::sys::namespaces::NetworkNamespace::of_process(pid).unwrap();
    let lend = || crate::sys::netlink::Links::open().unwrap().add_address("lo", pod, 32).unwrap();
    inside.run(lend).unwrap();
    reached(&lab, "a2", &format!("{pod}:7000"));

    let change = |one_way: bool, change: &LinkChange| {
        lab.change_link("a", "c", one_way, change).unwrap();
    };
    let cut = LinkChange { cut: Some(true), ..LinkChange::default() };
    change(false, &cut);
    assert_eq!(reach(&lab, "a1", c1), None);
    reached(&lab, "b1", c1);
    lab.heal_links().unwrap();
    reached(&lab, "a1", c1);
    change(true, &cut);
    assert_eq!(reach(&lab, "a1", c1), None, "what is asked does not arrive");
    assert_eq!(reach(&lab, "c1", "10.77.1.11:7000"), None, "what is answered does not arrive");
    change(false, &LinkChange { delay_ms: Some(90.0), cut: Some(false), ..LinkChange::default() });
    assert!(best(&lab, "a1", c1) >= Duration::from_millis(90));

    let pid = nix::unistd::Pid::from_raw(lab.links_pid().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).unwrap();
    assert!(wait_until(LIMIT, EVERY, || lab.links_pid().is_none()));
    assert_eq!(reach(&lab, "a1", b1), None, "links that nobody carries are cut");
    assert!(!lab.status().unwrap().healthy);
    let lab = place.up();
    assert!(lab.status().unwrap().healthy);
    reached(&lab, "a1", b1);
    assert!(best(&lab, "a1", c1) >= Duration::from_millis(90), "a change outlives it");
    assert!(matches!(lab.change_link("a", "d", false, &cut), Err(LabError::NoLink { .. })));
    assert_eq!(lab.fault(Fault::Kill, "c").unwrap(), ["c1", "c2", "c3"]);
    assert_eq!(lab.status().unwrap().outbound_packets, Some(0));
    down(&place.path()).unwrap();
    place.assert_nothing_left();
}

#[test]
fn a_dead_or_stopped_master_is_skipped_by_the_way_in() {
    let Some(place) = TestLab::new(Layout::Three) else { return };
    let lab = place.up();
    for host in ["a1", "b1"] {
        serve_greetings(&lab, host, 6443);
    }
    let any = (Ipv4Addr::LOCALHOST, lab.dir.read_forwards().unwrap().unwrap().any["api"]);
    let hears = |name: &str| wait_until(LIMIT, EVERY, || hear(any).as_deref() == Some(name));
    assert!(hears("a1"));
    lab.fault(Fault::Stop, "a1").unwrap();
    assert_eq!(lab.status().unwrap().hosts[0].state, HostState::Stopped);
    assert!(hears("b1"));
    lab.fault(Fault::Start, "a1").unwrap();
    assert!(hears("a1"));
    lab.fault(Fault::Kill, "a1").unwrap();
    assert_eq!(lab.status().unwrap().hosts[0].state, HostState::Down);
    assert_eq!(lab.status().unwrap().hosts[0].processes, 0);
    assert!(hears("b1"));
    lab.fault(Fault::Start, "a1").unwrap();
    assert_eq!(lab.status().unwrap().hosts[0].state, HostState::Running);
    serve_greetings(&lab, "a1", 6443);
    assert!(hears("a1"));
}

#[test]
fn a_host_keeps_its_disk_and_its_services_come_back() {
    let Some(place) = TestLab::new(Layout::One) else { return };
    let lab = place.up();
    let root = lab.host_root("a1");
    let verb = format!("{}=greet\n7001", Program::VERB);
    let (name, value) = verb.split_once('=').unwrap();
    let words = [&["/usr/local/bin/holdfast".to_owned()], &program().instead[..]].concat();
    let file = serde_json::json!({
        "command": words,
        "environment": {name: value},
        "enabled": true,
        "log": "/var/log/holdfast/greeter.log",
        "killMode": "group",
    });
    let path = root.join("etc/holdfast/services/greeter.yaml");
    std::fs::write(&path, file.to_string()).unwrap();
    let init = || lab.host("a1").unwrap().init().unwrap();
    let request = |op: fn(String) -> ServiceRequest| init().ask(&op("greeter".to_owned()));
    let start = |name| ServiceRequest::Start { name };
    let status = |name| ServiceRequest::Status { name };
    let stop = |name| ServiceRequest::Stop { name };
    assert!(!request(status).unwrap().running);
    let first = request(start).unwrap();
    assert!(first.running);
    let own_pid = |inner: i32| {
        let pids = lab.host("a1").unwrap().group().processes();
        pids.into_iter().find(|pid| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            text.lines()
                .any(|line| line.starts_with("NSpid:") && line.ends_with(&format!("\t{inner}")))
        })
    };
    let outer = own_pid(first.pid.unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(outer), nix::sys::signal::SIGKILL).unwrap();
    let again = || {
        let now = request(status).unwrap();
        now.running && now.pid != first.pid
    };
    assert!(wait_until(LIMIT, EVERY, again), "a killed service is started again");
    assert!(!request(stop).unwrap().running);
    assert!(!request(status).unwrap().running);
    lab.fault(Fault::Kill, "a1").unwrap();
    lab.fault(Fault::Start, "a1").unwrap();
    assert!(request(status).unwrap().running, "an enabled service starts with its host");
    lab.fault(Fault::Wipe, "a1").unwrap();
    assert_eq!(lab.status().unwrap().hosts[0].state, HostState::Down);
    lab.fault(Fault::Start, "a1").unwrap();
    assert!(!path.exists() && root.join("etc/hostname").exists(), "a wiped host boots bare");
    let ghost = init().ask(&ServiceRequest::Start { name: "ghost".to_owned() });
    assert!(ghost.unwrap_err().to_string().contains("cannot start service ghost"));
}

#[test]
fn orphans_are_reaped_and_a_polite_stop_ends_the_host() {
    let Some(place) = TestLab::new(Layout::One) else { return };
    let lab = place.up();
    let group = lab.host("a1").unwrap().group().clone();
    ask(&lab, "a1", &["orphan"]);
    let only_init = || group.processes().len() == 1;
    assert!(wait_until(LIMIT, EVERY, only_init), "the orphan's end is seen");
    let pid = lab.host("a1").unwrap().pid().unwrap();
    let children = || std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    assert!(wait_until(LIMIT, EVERY, || children().trim().is_empty()), "no zombie is left");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM).unwrap();
    assert!(wait_until(LIMIT, EVERY, || group.is_empty()));
}

#[test]
fn labs_beside_each_other_do_not_meet_and_leave_nothing() {
    let (Some(one), Some(two)) = (TestLab::new(Layout::One), TestLab::new(Layout::One)) else {
        return;
    };
    let (first, second) = (one.up(), two.up());
    serve_greetings(&first, "a1", 5000);
    let port = |lab: &Lab| lab.dir.read_forwards().unwrap().unwrap().hosts["a1"]["registry"];
    assert_ne!(port(&first), port(&second));
    let hears = || hear((Ipv4Addr::LOCALHOST, port(&first))).as_deref() == Some("a1");
    assert!(wait_until(LIMIT, EVERY, hears));
    assert_eq!(hear((Ipv4Addr::LOCALHOST, port(&second))), None);
    down(&one.path()).unwrap();
    one.assert_nothing_left();
    assert!(second.status().unwrap().healthy);
    down(&two.path()).unwrap();
    two.assert_nothing_left();
}

#[test]
fn a_killed_daemon_comes_back_on_its_ports_and_down_needs_none() {
    let Some(place) = TestLab::new(Layout::One) else { return };
    let lab = place.up();
    let before = lab.dir.read_forwards().unwrap().unwrap();
    let kill_daemon = || {
        let pid = nix::unistd::Pid::from_raw(lab.daemon_pid().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).unwrap();
        assert!(wait_until(LIMIT, EVERY, || lab.daemon_pid().is_none()));
    };
    kill_daemon();
    assert!(!lab.status().unwrap().healthy);
    place.up();
    let after = lab.dir.read_forwards().unwrap().unwrap();
    assert_eq!((&after.any, &after.hosts), (&before.any, &before.hosts));
    assert!(lab.status().unwrap().healthy);
    kill_daemon();
    std::fs::write(lab.dir.record_path(), "{ torn").unwrap();
    let inside: BTreeSet<PathBuf> = lab
        .each_host()
        .map(|host| std::fs::read_link(format!("/proc/{}/ns/net", host.pid().unwrap())).unwrap())
        .collect();
    assert!(inside.is_subset(&network_namespaces()));
    down(&place.path()).unwrap();
    assert!(inside.is_disjoint(&network_namespaces()), "namespaces are left");
    // With a torn record nobody knows who made the directory, so it stays, empty.
    std::fs::remove_dir(place.path()).unwrap();
    place.assert_nothing_left();
}

#[test]
fn a_directory_with_other_things_in_it_is_refused_untouched() {
    let Some(place) = TestLab::new(Layout::One) else { return };
    std::fs::create_dir(place.path()).unwrap();
    std::fs::write(place.path().join("hosts"), "text").unwrap();
    let options = UpOptions {
        layout: Layout::One,
        dir: place.path(),
        bundle: None,
        sample: None,
        bare: false,
        program: program(),
    };
    let error = up(&options, &|_| ()).unwrap_err();
    assert!(matches!(error, LabError::Foreign { .. }), "{error}");
    down(&place.path()).unwrap();
    assert_eq!(std::fs::read_to_string(place.path().join("hosts")).unwrap(), "text");
}

#[test]
fn an_up_that_is_killed_anywhere_can_be_repeated_or_taken_down() {
    let Some(place) = TestLab::new(Layout::Three) else { return };
    let path = place.path().to_string_lossy().into_owned();
    let start = || {
        let own = std::env::current_exe().unwrap();
        let mut command = program().command(own, &["up", &path]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let begun = std::time::Instant::now();
    assert!(start().wait().unwrap().success());
    let whole = begun.elapsed();
    down(&place.path()).unwrap();
    place.assert_nothing_left();
    for part in 1..12 {
        let mut child = start();
        std::thread::park_timeout(whole * part / 11);
        child.kill().unwrap();
        child.wait().unwrap();
        if part % 2 == 0 {
            assert!(place.up().status().unwrap().healthy);
        }
        down(&place.path()).unwrap();
        // Killed between the directory and the record, nobody knows whose it is.
        let _ = std::fs::remove_dir(place.path());
        place.assert_nothing_left();
    }
}
