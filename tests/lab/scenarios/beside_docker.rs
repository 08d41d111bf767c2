//! A host that runs its own Docker: `init`, `join`, pods and `reset` leave that Docker, its
//! container, networks and packet filter rules untouched.
//!
//! Why Debian's own packages: they are what such a host has, with Docker's default bridge
//! and rules. They are the files that the bundle was built from, unpacked as dpkg would.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::harness::{
    Lab, Outcome, PATIENCE, ensure, eventually, failed, from_root, output, succeed, text,
};
use crate::host_state::{HostState, ensure_unchanged, inside};
use crate::install::{BUNDLE, TRUST, join_command, ready_nodes, token};
use crate::scenarios::interrupted::{CLUSTER, init_command, write_cluster};

/// Where the foreign container is published on its host.
const PORT: u16 = 18_080;
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bundle/samples/hello.yaml");

/// Docker's own books, which it may rewrite whenever it likes.
const DOCKERS_OWN: [&str; 3] = ["/var/lib/docker", "/run/docker", "/run/containerd"];

/// Tables that this product makes and takes away.
const OURS: [&str; 2] = ["ip holdfast {", "ip holdfast-policy {"];

/// The host's own Docker; ended when dropped, before the lab goes.
struct Foreign<'a> {
    lab: &'a Lab,
    node: &'static str,
    daemon: Child,
}

impl Drop for Foreign<'_> {
    fn drop(&mut self) {
        let _already_dead = self.daemon.kill();
        let _reaped = self.daemon.wait();
    }
}

/// Unpacks Docker and what it needs onto the host's disk.
fn unpack(root: &Path) -> Outcome {
    let cache = from_root("HOLDFAST_PACKAGES", ".build/cache/packages");
    let packages = fs::read_dir(&cache)
        .map_err(|error| failed(format!("packages in {}", cache.display()), error))?;
    let mut found = 0;
    for package in packages.flatten().map(|entry| entry.path()) {
        if package.extension().is_some_and(|extension| extension == "deb") {
            succeed(Command::new("dpkg-deb").arg("-x").arg(&package).arg(root))?;
            found += 1;
        }
    }
    ensure(found > 10, || format!("only {found} packages in {}", cache.display()))?;
    // What the packages' scripts would do.
    let links = [
        ("/run", "var/run"),
        ("xtables-nft-multi", "usr/sbin/iptables"),
        ("xtables-nft-multi", "usr/sbin/ip6tables"),
    ];
    for (target, link) in links {
        let link = root.join(link);
        if fs::symlink_metadata(&link).is_err() {
            symlink(target, &link).map_err(|error| failed(link.display(), error))?;
        }
    }
    Ok(())
}

impl<'a> Foreign<'a> {
    /// Starts the daemon and one container with a published port.
    fn start(lab: &'a Lab, node: &'static str) -> Result<Self, Failed> {
        let root = lab.root(node);
        unpack(&root)?;
        let log = fs::File::create(lab.dir().join(format!("docker-{node}.log")))
            .map_err(|error| failed("Docker's log", error))?;
        let daemon = lab
            .on(node, &["/usr/sbin/dockerd"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| failed("dockerd", error))?;
        let foreign = Self { lab, node, daemon };
        eventually(&format!("Docker answers on {node}"), PATIENCE, || {
            foreign.docker(&["version"]).map_err(|error| {
                let log = fs::read_to_string(lab.dir().join(format!("docker-{node}.log")));
                let log = log.unwrap_or_default();
                let last = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
                format!("{}\n{last}", error.message().unwrap_or_default()).into()
            })
        })?;
        let place = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
        fs::copy(env!("CARGO_BIN_EXE_hf-hello"), place.path().join("hello"))
            .map_err(|error| failed("copy the program", error))?;
        let tar = root.join("var/foreign.tar");
        succeed(Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(place.path()).arg("hello"))?;
        foreign.docker(&["import", "/var/foreign.tar", "foreign:1"])?;
        let publish = format!("{PORT}:8080");
        let run = ["run", "-d", "--name", "teller", "--restart", "always", "-p", &publish];
        let run: Vec<&str> = run.into_iter().chain(["foreign:1", "/hello"]).collect();
        foreign.docker(&run)?;
        foreign.answers()?;
        Ok(foreign)
    }

    fn docker(&self, arguments: &[&str]) -> Result<String, Failed> {
        let command: Vec<&str> =
            ["/usr/bin/docker"].into_iter().chain(arguments.iter().copied()).collect();
        succeed(&mut self.lab.on(self.node, &command))
    }

    /// The container serves on the host's address.
    fn answers(&self) -> Outcome {
        eventually(&format!("the foreign container on {} answers", self.node), PATIENCE, || {
            let url = format!("http://127.0.0.1:{PORT}/readyz");
            let answer =
                output(&mut self.lab.on(self.node, &["holdfast", "probe", "fetch", &url]))?;
            ensure(answer.status.success(), || text(&answer))
        })
    }

    /// All that must not change: container with id, process and times; networks; rules.
    fn facts(&self) -> Result<Value, Failed> {
        let parsed = |text: String| -> Result<Value, Failed> {
            serde_json::from_str(&text).map_err(|error| failed(text.clone(), error))
        };
        let container = parsed(self.docker(&["inspect", "teller"])?)?;
        let networks = parsed(self.docker(&["network", "inspect", "bridge", "host", "none"])?)?;
        let pid = self.lab.pid(self.node)?;
        let rules = inside(pid, &["nft", "--stateless", "list", "ruleset"])?;
        let tables = rules.split("table ").map(str::trim).filter(|table| !table.is_empty());
        let mut foreign: Vec<&str> =
            tables.filter(|table| !OURS.iter().any(|own| table.starts_with(own))).collect();
        foreign.sort_unstable();
        ensure(foreign.iter().any(|table| table.contains("DOCKER")), || {
            format!("Docker's rules are not there:\n{rules}")
        })?;
        let containers = self.docker(&["ps", "-a", "--no-trunc", "-q"])?;
        Ok(serde_json::json!({
            "container": container, "networks": networks, "rules": foreign,
            "containers": containers,
        }))
    }

    fn unchanged(&self, before: &Value, by: &str) -> Outcome {
        let now = self.facts()?;
        for part in ["container", "networks", "rules", "containers"] {
            ensure(now[part] == before[part], || {
                format!("{by} changed Docker's {part}:\n{}\n{}", before[part], now[part])
            })?;
        }
        self.answers()
    }

    fn state(&self) -> Result<HostState, Failed> {
        Ok(HostState::of(self.lab, self.node)?.without(&DOCKERS_OWN))
    }
}

pub(crate) fn untouched() -> Outcome {
    let lab = Lab::up("three", true)?;
    write_cluster(&lab, "a1", CLUSTER)?;
    let (first, second) = (Foreign::start(&lab, "a1")?, Foreign::start(&lab, "b1")?);
    let (first_state, second_state) = (first.state()?, second.state()?);
    let (first_facts, second_facts) = (first.facts()?, second.facts()?);

    let made = output(&mut lab.on("a1", &init_command(BUNDLE, TRUST)))?;
    ensure(made.status.success(), || text(&made))?;
    first.unchanged(&first_facts, "init")?;
    let token = token(&lab, "a1", &[])?;
    succeed(&mut lab.on("b1", &join_command("b1", &token, BUNDLE)))?;
    ready_nodes(&lab, "a1", 2)?;
    second.unchanged(&second_facts, "join")?;

    // Pods run beside the foreign container, on both hosts.
    succeed(&mut lab.holdfast(&["apply", "-f", SAMPLE])?)?;
    lab.pods_ready("hello", 3, |_| true)?;
    first.unchanged(&first_facts, "pods")?;
    second.unchanged(&second_facts, "pods")?;

    for (foreign, facts, state) in
        [(&second, &second_facts, &second_state), (&first, &first_facts, &first_state)]
    {
        // The last control node takes all that the cluster knows with it.
        let last: &[&str] = if foreign.node == first.node { &["--force"] } else { &[] };
        succeed(&mut lab.on(foreign.node, &[&["holdfast", "reset", "--yes"], last].concat()))?;
        foreign.unchanged(facts, "reset")?;
        ensure_unchanged(&lab, foreign.node, state, "init or join, pods and reset", |state| {
            state.without(&DOCKERS_OWN)
        })?;
    }
    Ok(())
}
