//! Connections of the measurement: as administrator and as the nodes themselves.
//!
//! Why as nodes: what a node reports of itself and its pods is no act of anybody, so it has no
//! record in the audit log; what an administrator writes has one. Why each its own: that is what
//! a cluster has, and its connections are what a master of it must hold.
//! Invariant: they go to the masters in turn; the lab's own kubeconfig names one address, which
//! leads to the first master that answers.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use holdfast::client::{HttpApi, HttpConfig, kubeconfig};
use holdfast::lab::Forwards;
use holdfast::pki::{Authority, NodeKey, NodeNames};

/// Clients of the administrator, and what those of nodes are made with.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    admin: Vec<HttpApi>,
    servers: Vec<String>,
    pki: PathBuf,
}

impl Clients {
    /// Of the lab in `dir`, with `count` connections as administrator.
    pub(crate) fn of(kubeconfig: &Path, dir: &Path, count: usize) -> Result<Self, anyhow::Error> {
        let target = kubeconfig::load(kubeconfig)?;
        let forwards = fs::read(dir.join("forwards.json")).context("the lab's ports")?;
        let forwards: Forwards = serde_json::from_slice(&forwards)?;
        let ports = forwards.hosts.values().filter_map(|services| services.get("api"));
        let servers: Vec<String> = ports.map(|port| format!("https://127.0.0.1:{port}")).collect();
        let pki = dir.join("hosts/a1/root/etc/holdfast/pki");
        let mut clients = Self { admin: Vec::new(), servers, pki };
        for turn in 0..count {
            let servers = clients.servers(turn);
            clients.admin.push(HttpApi::new(HttpConfig { servers, ..target.http.clone() })?);
        }
        Ok(clients)
    }

    fn servers(&self, turn: usize) -> Vec<String> {
        let mut servers = self.servers.clone();
        let many = servers.len().max(1);
        servers.rotate_left(turn % many);
        servers
    }

    pub(crate) fn of_turn(&self, turn: usize) -> &HttpApi {
        &self.admin[turn % self.admin.len()]
    }

    /// Of nodes by number and name, each with its own certificate.
    pub(crate) fn of_nodes(&self, names: &[String]) -> Result<Vec<HttpApi>, anyhow::Error> {
        let authority = Authority::load(&self.pki).context("the authority of the lab")?;
        let keys = tempfile::tempdir()?;
        let address = IpAddr::from([127, 0, 0, 1]);
        let client = |(turn, name): (usize, &String)| {
            let path = keys.path().join(name);
            let key = NodeKey::load_or_create(&path)?;
            let names = NodeNames {
                node_name: name.clone(),
                address,
                api_address: address,
                cluster_domain: "cluster.local".into(),
                control: false,
            };
            let signed = authority.sign_node(&key.request()?, &names, jiff::Timestamp::now())?;
            Ok(HttpApi::new(HttpConfig {
                servers: self.servers(turn),
                ca_pem: authority.certificate_pem().as_bytes().to_vec(),
                identity: Some((signed.into_bytes(), fs::read(&path)?)),
                token: None,
            })?)
        };
        names.iter().enumerate().map(client).collect()
    }
}
