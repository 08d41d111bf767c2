//! etcd's protocol as its users meet it: unmodified etcdctl against the three masters.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::Failed;

use crate::harness::{Lab, Outcome, PATIENCE, ensure, eventually, output, succeed, text};

const VARIABLES: [&str; 5] =
    ["ETCDCTL_API", "ETCDCTL_ENDPOINTS", "ETCDCTL_CACERT", "ETCDCTL_CERT", "ETCDCTL_KEY"];

fn etcdctl() -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join(".build/etcd/usr/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(unpacked)
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join("etcdctl"))
        .find(|program| program.is_file())
}

struct Client<'a> {
    lab: &'a Lab,
    program: PathBuf,
}

impl Client<'_> {
    fn command(&self, arguments: &[&str]) -> Result<Command, Failed> {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null());
        for variable in VARIABLES {
            command.env(variable, self.lab.env(variable)?);
        }
        Ok(command)
    }

    fn ok(&self, arguments: &[&str]) -> Result<String, Failed> {
        succeed(&mut self.command(arguments)?)
    }
}

/// A transcript over all three members, a watch that sees a write made at another member,
/// and a node's certificate that is not let in.
pub(crate) fn transcript(lab: &Lab) -> Outcome {
    let Some(program) = etcdctl() else {
        println!("SKIPPED t26: no etcdctl; .ci/install-test unpacks it");
        return Ok(());
    };
    let client = Client { lab, program };
    let endpoints = lab.env("ETCDCTL_ENDPOINTS")?;
    let each: Vec<&str> = endpoints.split(',').collect();
    ensure(each.len() == 3, || format!("three endpoints: {endpoints}"))?;
    let healthy = output(&mut client.command(&["endpoint", "health"])?)?;
    ensure(text(&healthy).matches("is healthy").count() == 3, || text(&healthy))?;
    let members = client.ok(&["member", "list"])?;
    for node in ["a1", "b1", "c1"] {
        ensure(members.contains(&format!("started, {node}, https://")), || members.clone())?;
    }
    let status = client.ok(&["endpoint", "status"])?;
    ensure(status.lines().filter(|line| line.contains("true")).count() == 1, || {
        format!("one leader: {status}")
    })?;

    // A write at one member is read at the others, and watched there.
    let at_endpoint = |endpoint: &str, arguments: &[&str]| {
        let mut command = client.command(arguments)?;
        command.env("ETCDCTL_ENDPOINTS", endpoint);
        succeed(&mut command)
    };
    let at = |member: usize, arguments: &[&str]| at_endpoint(each[member], arguments);
    at(0, &["put", "t26/a", "1"])?;
    for endpoint in &each {
        let found = at_endpoint(endpoint, &["get", "t26/a"])?;
        ensure(found == "t26/a\n1\n", || format!("at {endpoint}: {found}"))?;
    }
    let granted = at(1, &["lease", "grant", "2"])?;
    let lease = granted.split_whitespace().nth(1).unwrap_or_default().to_owned();
    at(2, &["put", "t26/leased", "x", &format!("--lease={lease}")])?;
    eventually("the lease's key goes with it", PATIENCE, || {
        let found = at(0, &["get", "t26/leased"])?;
        ensure(found.is_empty(), || found)
    })?;
    let locked = client.ok(&["lock", "t26/lock", "echo", "held"])?;
    ensure(locked.contains("held"), || locked)?;
    at(1, &["del", "t26/", "--prefix"])?;

    // A node's certificate gives nothing: not even a control node's.
    let root = lab.dir().join("hosts/a1/root/etc/holdfast/pki");
    let mut command = client.command(&["get", "t26/a"])?;
    command.env("ETCDCTL_CERT", root.join("node.crt")).env("ETCDCTL_KEY", root.join("node.key"));
    let refused = output(&mut command)?;
    ensure(!refused.status.success() && text(&refused).contains("certificate"), || text(&refused))
}
