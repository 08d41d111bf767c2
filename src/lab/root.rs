//! A host's disk and what a host sees of the machine.
//!
//! Why an empty root: the product must bring everything it needs in its bundle, so a lab
//! host has no C library, no shell and no tools; a task that needs one fails here first.
//! Invariant: what the host or the product changed on its disk is not overwritten.

use std::path::Path;

use super::error::{LabError, files};
use super::host::Host;
use super::layout::HostPlan;
use crate::sys::{mounts, tree};

/// Where the host finds the program, the bundle and its key.
pub(super) const PROGRAM: &str = "/usr/local/bin/holdfast";
pub(super) const BUNDLE: &str = "/bundle.hfb";
pub(super) const TRUST: &str = "/bundle.pub";

/// Lays the disk; keeps what is there.
pub(super) fn lay_disk(host: &Host<'_>, hosts: &[HostPlan]) -> Result<(), LabError> {
    let root = host.root();
    let dirs = [
        "dev",
        "etc/docker",
        "etc/holdfast/services",
        "mnt",
        "opt",
        "proc",
        "run",
        "sys",
        "tmp",
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/local/bin",
        "var/lib",
        "var/log",
        "var/tmp",
    ];
    for dir in dirs {
        tree::make_dir(&root.join(dir)).map_err(files("lay a host's disk"))?;
    }
    tree::make_dir_mode(&root.join("root"), 0o700).map_err(files("lay a host's disk"))?;
    for (name, text) in etc(host.name(), hosts) {
        tree::write_once(&root.join("etc").join(name), text.as_bytes(), 0o644)
            .map_err(files("lay a host's disk"))?;
    }
    Ok(())
}

/// The files below `/etc` that programs expect of any host.
fn etc(name: &str, hosts: &[HostPlan]) -> Vec<(&'static str, String)> {
    let mut names = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    for host in hosts {
        names.push_str(&format!("{} {}\n", host.address, host.name));
    }
    vec![
        ("hostname", format!("{name}\n")),
        ("hosts", names),
        (
            "passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n".into(),
        ),
        ("group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n".into()),
        ("nsswitch.conf", "hosts: files dns\n".into()),
        ("resolv.conf", "# A lab host has no name server of its own.\n".into()),
        // Says that kernel modules and machine-wide settings are not this host's own.
        ("holdfast-lab-host", String::new()),
        ("machine-id", format!("{}\n", uuid::Uuid::new_v4().simple())),
        (
            "os-release",
            "ID=holdfast-lab\nNAME=\"Holdfast lab host\"\nVERSION_ID=1\n\
             PRETTY_NAME=\"Holdfast lab host\"\n"
                .into(),
        ),
    ]
}

/// Turns the calling thread's fresh mount namespace into the host's: afterwards its root
/// is the host's disk and nothing of the machine can be reached.
pub(super) fn enter(
    root: &Path,
    program: &Path,
    bundle: Option<&Path>,
    trust: Option<&Path>,
) -> Result<(), LabError> {
    mounts::isolate()?;
    mounts::bind(root, root, false)?;
    mounts::lay_devices(root)?;
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    mounts::bind(program, &below(PROGRAM), true)?;
    if let Some(bundle) = bundle {
        mounts::bind(bundle, &below(BUNDLE), true)?;
    }
    if let Some(trust) = trust {
        mounts::bind(trust, &below(TRUST), true)?;
    }
    Ok(mounts::enter_root(root)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Layout;

    #[test]
    fn every_host_knows_every_name() {
        let files = etc("b1", &Layout::Three.hosts());
        let text = |wanted: &str| {
            files.iter().find(|(name, _)| *name == wanted).map(|(_, text)| text.clone()).unwrap()
        };
        assert_eq!(text("hostname"), "b1\n");
        assert!(text("hosts").contains("10.77.0.31 c1\n"));
        assert_eq!(text("machine-id").trim().len(), 32);
    }
}
