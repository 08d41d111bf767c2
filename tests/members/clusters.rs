//! Three members as processes on loopback: ours, or Debian's etcd.
//!
//! Both keep their files in folders beside each other on the same disk, encrypt clients
//! and peers with the same certificates, and wait for the disk before they answer.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::certificates;
use super::client::Connection;
use super::member::MemberFile;

const MEMBERS: usize = 3;
/// How long a cluster may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);
/// So that a million keys of one kilobyte fit into either; etcd's largest suggested size.
const ETCD_QUOTA_BYTES: u64 = 8 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Etcd,
}

/// Members are killed and their files removed when this is dropped.
pub(crate) struct Cluster {
    kind: Kind,
    dir: tempfile::TempDir,
    ports: Ports,
    members: Vec<Option<Child>>,
    /// The words before each member's command.
    before: Vec<Vec<String>>,
}

#[derive(Clone)]
struct Ports {
    peers: Vec<u16>,
    clients: Vec<u16>,
}

fn free_ports() -> Result<Ports, anyhow::Error> {
    let sockets: Vec<TcpListener> =
        (0..MEMBERS * 2).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let ports: Vec<u16> = sockets
        .iter()
        .map(|socket| socket.local_addr().map(|address| address.port()))
        .collect::<Result<_, _>>()?;
    Ok(Ports { peers: ports[..MEMBERS].to_vec(), clients: ports[MEMBERS..].to_vec() })
}

/// The etcd that `.ci/install-test` unpacked.
pub(crate) fn etcd() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".build/etcd/usr/bin/etcd")
}

impl Cluster {
    /// Starts three members under `base` and waits until they serve.
    pub(crate) async fn start(kind: Kind, base: &Path) -> Result<Self, anyhow::Error> {
        Self::start_with(kind, base, |_, _| Ok(Vec::new())).await
    }

    /// The same, with words that each member's command is put behind; they are asked for
    /// with its folder before it is started.
    pub(crate) async fn start_with(
        kind: Kind,
        base: &Path,
        mut before: impl FnMut(usize, &Path) -> Result<Vec<String>, anyhow::Error>,
    ) -> Result<Self, anyhow::Error> {
        fs::create_dir_all(base)?;
        let dir = tempfile::tempdir_in(base)?;
        certificates::make(dir.path(), "localhost")?;
        let members = (0..MEMBERS).map(|_| None).collect();
        let mut cluster = Self { kind, dir, ports: free_ports()?, members, before: Vec::new() };
        if kind == Kind::Ours {
            cluster.write_member_files()?;
        }
        for index in 0..MEMBERS {
            cluster.before.push(before(index, &cluster.folder(index))?);
            cluster.start_member(index)?;
        }
        cluster.wait_until_complete().await?;
        Ok(cluster)
    }

    fn write_member_files(&self) -> Result<(), anyhow::Error> {
        let cluster = uuid::Uuid::new_v4();
        for index in 0..MEMBERS {
            let file = MemberFile {
                cluster,
                member: u64::try_from(index)? + 1,
                peer_ports: self.ports.peers.clone(),
                client_ports: self.ports.clients.clone(),
            };
            let folder = self.folder(index);
            fs::create_dir_all(&folder)?;
            fs::write(folder.join("member.json"), serde_json::to_vec(&file)?)?;
        }
        Ok(())
    }

    fn folder(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("m{}", index + 1))
    }

    pub(crate) fn start_member(&mut self, index: usize) -> Result<(), anyhow::Error> {
        let mut command = match self.kind {
            Kind::Ours => self.our_command(index)?,
            Kind::Etcd => self.etcd_command(index),
        };
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join(format!("m{}.log", index + 1)))?;
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        self.members[index] = Some(child);
        Ok(())
    }

    fn our_command(&self, index: usize) -> Result<Command, anyhow::Error> {
        let program = std::env::current_exe()?;
        let mut command = match self.before[index].split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("member").arg(self.folder(index));
        Ok(command)
    }

    fn etcd_command(&self, index: usize) -> Command {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let url = |port: u16| format!("https://127.0.0.1:{port}");
        let (client, peer) = (url(self.ports.clients[index]), url(self.ports.peers[index]));
        let all: Vec<String> = (0..MEMBERS)
            .map(|other| format!("m{}={}", other + 1, url(self.ports.peers[other])))
            .collect();
        let mut command = Command::new(etcd());
        command
            .arg(format!("--name=m{}", index + 1))
            .arg(format!("--data-dir={}", self.folder(index).display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster={}", all.join(",")))
            .arg(format!("--quota-backend-bytes={ETCD_QUOTA_BYTES}"))
            .args(["--logger=zap", "--log-level=error"]);
        for side in ["", "peer-"] {
            command
                .arg(format!("--{side}cert-file={}", at("node.crt")))
                .arg(format!("--{side}key-file={}", at("node.key")))
                .arg(format!("--{side}trusted-ca-file={}", at("ca.crt")))
                .arg(format!("--{side}client-cert-auth=true"));
        }
        command
    }

    async fn wait_until_complete(&self) -> Result<(), anyhow::Error> {
        let started = Instant::now();
        loop {
            let mut ready = 0;
            for index in 0..MEMBERS {
                ready += usize::from(self.is_complete(index).await.unwrap_or(false));
            }
            if ready == MEMBERS {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.dir.path().join("m1.log")).unwrap_or_default();
                bail!("{:?}: {ready} of {MEMBERS} members came up; m1 says: {log}", self.kind);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The end of what each member logged, and which of them ended by themselves.
    pub(crate) fn last_words(&mut self) -> String {
        let mut words = String::new();
        for index in 0..MEMBERS {
            let name = format!("m{}", index + 1);
            let log = fs::read_to_string(self.dir.path().join(format!("{name}.log")));
            let log = log.unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(20)..].join("\n");
            let ended = self.has_ended(index).unwrap_or(true);
            words += &format!("\n{name} (ended: {ended}):\n{end}");
        }
        words
    }

    async fn is_complete(&self, index: usize) -> Result<bool, anyhow::Error> {
        let connection = self.connect(index).await?;
        let voters = connection.members().await?.members;
        let voters = voters.iter().filter(|member| !member.learner).count();
        Ok(voters == MEMBERS && connection.status().await?.leader != 0)
    }

    /// Waits until every member has applied what the leader has.
    pub(crate) async fn wait_until_level(&self) -> Result<(), anyhow::Error> {
        self.wait_until_complete().await?;
        let goal = self.connect(self.leader().await?).await?.status().await?.applied;
        let started = Instant::now();
        for index in 0..MEMBERS {
            while self.connect(index).await?.status().await?.applied < goal {
                anyhow::ensure!(started.elapsed() < PATIENCE, "m{} stays behind", index + 1);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    pub(crate) async fn connect(&self, index: usize) -> Result<Connection, anyhow::Error> {
        Connection::open(self.dir.path(), self.ports.clients[index]).await
    }

    /// So many connections, spread over the members, the first one to the leader.
    pub(crate) async fn connections(&self, count: usize) -> Result<Vec<Connection>, anyhow::Error> {
        let leader = self.leader().await?;
        let mut all = Vec::new();
        for number in 0..count {
            all.push(self.connect((leader + number) % MEMBERS).await?);
        }
        Ok(all)
    }

    pub(crate) async fn leader(&self) -> Result<usize, anyhow::Error> {
        for index in (0..MEMBERS).filter(|index| self.members[*index].is_some()) {
            let status = self.connect(index).await?.status().await?;
            if status.header.is_some_and(|header| header.member == status.leader) {
                return Ok(index);
            }
        }
        bail!("{:?}: nobody leads", self.kind)
    }

    /// The folder with the certificates of members and administrator.
    pub(crate) fn certificates(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn client_ports(&self) -> Vec<u16> {
        self.ports.clients.clone()
    }

    /// Leaves the files where they are when the cluster is dropped.
    pub(crate) fn keep(&mut self) -> &Path {
        self.dir.disable_cleanup(true);
        self.dir.path()
    }

    /// Where a member of ours keeps its files.
    pub(crate) fn store_folder(&self, index: usize) -> PathBuf {
        self.folder(index).join("store")
    }

    /// Whether a member that was started has ended by itself.
    pub(crate) fn has_ended(&mut self, index: usize) -> Result<bool, anyhow::Error> {
        Ok(match &mut self.members[index] {
            Some(child) => child.try_wait()?.is_some(),
            None => true,
        })
    }

    /// kill -9, and waits until the process is gone.
    pub(crate) fn kill(&mut self, index: usize) -> Result<(), anyhow::Error> {
        if let Some(mut child) = self.members[index].take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Resident memory of the member that has most, bytes.
    pub(crate) fn resident(&self) -> Result<u64, anyhow::Error> {
        let mut largest = 0;
        for child in self.members.iter().flatten() {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = line.and_then(|rest| rest.split_whitespace().next()).unwrap_or("0");
            largest = largest.max(kib.parse::<u64>()? * 1024);
        }
        Ok(largest)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..MEMBERS {
            let _already_gone = self.kill(index);
        }
    }
}
