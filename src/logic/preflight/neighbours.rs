//! What else lives on the host.

use super::Severity::{Error, Info, Warning};
use super::{Check, Faults, Seen, check, of_machine, when};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NeighbourFacts {
    /// A sign of another or older installation of ours.
    pub foreign_install: Option<String>,
    /// The host's own Docker or Podman, if one answers.
    pub host_docker: Option<String>,
    /// Paths that are there, of those that tell of others.
    pub paths: Vec<String>,
    /// What `/etc/ld.so.preload` names.
    pub preloaded: Vec<String>,
    /// `/etc/docker` is there and cannot be written.
    pub docker_dir_read_only: bool,
    pub ufw_enabled: bool,
}

const KUBERNETES: &[&str] = &["/var/lib/kubelet", "/etc/kubernetes/manifests", "/var/lib/rancher"];
const POD_NETWORKS: &[&str] =
    &["/etc/cni/net.d", "/sys/class/net/cni0", "/sys/class/net/flannel.1"];
const ETCD: &[&str] = &["/var/lib/etcd/member"];
const FIREWALLD: &[&str] = &["/run/firewalld"];
const LIBVIRT: &[&str] = &["/sys/class/net/virbr0"];

/// Paths that tell of others; a finding names the one that is there.
pub fn neighbour_paths() -> impl Iterator<Item = &'static str> {
    [KUBERNETES, POD_NETWORKS, ETCD, FIREWALLD, LIBVIRT].into_iter().flatten().copied()
}

fn path(seen: &Seen<'_>, wanted: &[&str], what: &str) -> Faults {
    let all = seen.host.neighbours.paths.iter();
    let found = all.filter(|path| wanted.contains(&path.as_str()));
    found.map(|path| (what.to_owned(), path.clone())).collect()
}

fn program(seen: &Seen<'_>, wanted: &[&str], what: &str) -> Faults {
    let all = seen.host.system.programs.iter();
    let found = all.filter(|name| wanted.contains(&name.as_str()));
    found.map(|name| (what.to_owned(), format!("process {name}"))).collect()
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "existing-installation",
        Error,
        "run `holdfast reset` for an old installation, or choose other directories",
        |seen| {
            let sign = seen.host.neighbours.foreign_install.as_deref().unwrap_or_default();
            when(!sign.is_empty() && !seen.needs.resuming, sign, || {
                format!("{sign} is there already")
            })
        },
    ),
    check("host-docker", Info, "nothing must be done", |seen| {
        let socket = seen.host.neighbours.host_docker.as_deref();
        when(socket.is_some(), socket.unwrap_or_default(), || {
            "the host runs its own Docker; it stays untouched".into()
        })
    }),
    check(
        "docker-directory",
        Error,
        "make /etc/docker writable for root; the engine keeps its key there",
        |seen| {
            when(seen.host.neighbours.docker_dir_read_only, "/etc/docker", || {
                "it cannot be written".into()
            })
        },
    ),
    of_machine(
        "other-kubernetes",
        Warning,
        "remove it (kubeadm reset, k3s-uninstall.sh); two of them take each other's rules for rubbish",
        |seen| {
            let what = "another Kubernetes runs or ran here";
            let mut found = path(seen, KUBERNETES, what);
            let programs = ["kubelet", "k3s", "k3s-server", "k3s-agent", "rke2", "k0s", "microk8s"];
            found.extend(program(seen, &programs, what));
            found
        },
    ),
    of_machine("other-pod-network", Warning, "delete the interfaces and /etc/cni/net.d", |seen| {
        path(seen, POD_NETWORKS, "the pod network of another Kubernetes is left")
    }),
    of_machine(
        "other-etcd",
        Warning,
        "stop it, or give it ports other than 2379 and 2380",
        |seen| {
            let mut found = path(seen, ETCD, "an etcd keeps its data here");
            found.extend(program(seen, &["etcd"], "an etcd runs here"));
            found
        },
    ),
    of_machine(
        "firewalld",
        Warning,
        "systemctl disable --now firewalld, or let it accept the cluster's ports and ranges",
        |seen| path(seen, FIREWALLD, "firewalld drops what it was not told of"),
    ),
    of_machine(
        "ufw",
        Warning,
        "ufw disable, or let it accept the cluster's ports and ranges",
        |seen| {
            when(seen.host.neighbours.ufw_enabled, "/etc/ufw/ufw.conf", || {
                "ufw drops what it was not told of".into()
            })
        },
    ),
    of_machine(
        "keepalived",
        Info,
        "see that its addresses are not in a pool of Services",
        |seen| program(seen, &["keepalived"], "it moves addresses on this segment, too"),
    ),
    of_machine("libvirt", Info, "see that its network is none of the cluster's ranges", |seen| {
        path(seen, LIBVIRT, "a bridge for virtual machines")
    }),
    of_machine("memory-killer", Warning, "systemctl disable --now it", |seen| {
        let programs = ["systemd-oomd", "earlyoom", "nohang"];
        program(seen, &programs, "it kills what takes memory, without asking whose it is")
    }),
    of_machine("automatic-upgrades", Info, "let upgrades of the system be planned", |seen| {
        let programs = ["unattended-upgr", "packagekitd", "dnf-automatic"];
        program(seen, &programs, "it may restart services at any time")
    }),
    of_machine(
        "preloaded-library",
        Warning,
        "remove it from /etc/ld.so.preload, or see that it runs with the bundle's C library",
        |seen| {
            let all = &seen.host.neighbours.preloaded;
            when(!all.is_empty(), "/etc/ld.so.preload", || {
                format!("{} is loaded into the engine, too", all.join(", "))
            })
        },
    ),
];
