//! A real etcd as processes: one member without TLS, or a group with our certificates.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::PATIENCE;
use crate::group::{Ports, address, port_for};
use crate::served::http;

/// Members of a real etcd; killed when dropped.
pub(crate) struct Etcd {
    children: Vec<Child>,
    /// Of the first member.
    pub(crate) url: String,
    pub(crate) ports: Ports,
    data: Option<tempfile::TempDir>,
}

struct Plan<'a> {
    program: &'a Path,
    data: PathBuf,
    /// Where certificates are, if it shall ask for them.
    certificates: Option<&'a Path>,
    members: usize,
    ports: Ports,
}

impl Plan<'_> {
    fn url(&self, index: usize, port: u16) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{port}", address(index))
    }

    fn spawn(&self, index: usize) -> Child {
        let name = |index: usize| format!("a{}", index + 1);
        let (client, peer) = (self.url(index, self.ports.client), self.url(index, self.ports.peer));
        let all: Vec<String> = (0..self.members)
            .map(|other| format!("{}={}", name(other), self.url(other, self.ports.peer)))
            .collect();
        let data = if self.members == 1 { self.data.clone() } else { self.data.join(name(index)) };
        let mut command = Command::new(self.program);
        command
            .arg(format!("--name={}", name(index)))
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster={}", all.join(",")))
            // Progress on its own within a test's patience; what is compared does not change.
            .arg("--experimental-watch-progress-notify-interval=1s")
            .args(["--logger=zap", "--log-level=error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        for side in self.certificates.map_or(&[][..], |_| &["", "peer-"]) {
            let at = |name: String| self.certificates.map(|dir| dir.join(name)).unwrap_or_default();
            let own = format!("node{}", index + 1);
            command
                .arg(format!("--{side}cert-file={}", at(format!("{own}.crt")).display()))
                .arg(format!("--{side}key-file={}", at(format!("{own}.key")).display()))
                .arg(format!("--{side}trusted-ca-file={}", at("ca.crt".into()).display()))
                .arg(format!("--{side}client-cert-auth=true"));
        }
        command.spawn().unwrap()
    }

    async fn start(self) -> Etcd {
        let children = (0..self.members).map(|index| self.spawn(index)).collect();
        let url = self.url(0, self.ports.client);
        let etcd = Etcd { children, url, ports: self.ports, data: None };
        let client = self.certificates.map_or_else(reqwest::Client::new, |dir| http(dir, "admin"));
        for index in 0..self.members {
            let health = format!("{}/health", self.url(index, self.ports.client));
            let started = Instant::now();
            while !client.get(&health).send().await.is_ok_and(|answer| answer.status().is_success())
            {
                assert!(started.elapsed() < PATIENCE, "etcd does not come up");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        etcd
    }
}

impl Etcd {
    pub(crate) async fn start(program: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut etcd = Self::start_in(program, &dir.path().join("data")).await;
        etcd.data = Some(dir);
        etcd
    }

    /// On a directory of the caller's, which may hold a restored member.
    pub(crate) async fn start_in(program: &Path, data: &Path) -> Self {
        let ports = Ports { client: port_for(1), peer: port_for(1) };
        let plan = Plan { program, data: data.into(), certificates: None, members: 1, ports };
        plan.start().await
    }

    /// A group that asks its clients for the certificates of this folder.
    pub(crate) async fn group(program: &Path, certificates: &Path, members: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = Ports { client: port_for(members), peer: port_for(members) };
        let (data, certificates) = (dir.path().to_owned(), Some(certificates));
        let mut etcd = Plan { program, data, certificates, members, ports }.start().await;
        etcd.data = Some(dir);
        etcd
    }

    /// Kills one member; it does not come back.
    pub(crate) fn kill(&mut self, index: usize) {
        let _ = self.children[index].kill();
        let _ = self.children[index].wait();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        (0..self.children.len()).for_each(|index| self.kill(index));
    }
}
