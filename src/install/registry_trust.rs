//! Lets the engine of a node without a registry pull from a control node that came later.
//!
//! Why here and not by playbook: it happens while the node runs; it writes what the
//! playbook `engine` writes for the registries that were known when the node joined, and
//! into the same undo log, so that `reset` takes it away again.

use std::net::SocketAddr;
use std::path::Path;

use crate::model::node_config::Paths;
use crate::playbook::{UndoError, UndoLog};
use crate::sys::files;

use super::apply::undo_path;

/// What the engine reads in a registry's folder, from what, and who may read it.
const FILES: [(&str, &str, u32); 3] = [
    ("ca.crt", "ca.crt", 0o644),
    ("client.cert", "node.crt", 0o644),
    ("client.key", "node.key", 0o600),
];

/// Puts authority, certificate and key where the engine looks for them; what is there and
/// the same is left alone.
pub fn trust(paths: &Paths, certificates: &Path, registry: SocketAddr) -> Result<(), UndoError> {
    let folder = certificates.join(registry.to_string());
    let mut undo = None;
    for (name, source, mode) in FILES {
        let content = files::read(&paths.pki().join(source))?;
        let path = folder.join(name);
        if files::read_if_present(&path)?.is_some_and(|found| found == content) {
            continue;
        }
        if undo.is_none() {
            undo = Some(UndoLog::open(&undo_path(paths))?);
        }
        if let Some(undo) = &undo {
            undo.before_change(&path)?;
        }
        files::create_dir(&folder, 0o700)?;
        files::write_atomic(&path, &content, mode)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_came_later_is_trusted_and_forgotten_by_reset() {
        let dir = tempfile::tempdir().expect("temp dir");
        let paths = Paths {
            config: dir.path().join("etc"),
            data: dir.path().join("data"),
            run: dir.path().join("run"),
        };
        for name in ["ca.crt", "node.crt", "node.key"] {
            files::create_dir(&paths.pki(), 0o700).expect("creates");
            files::write_atomic(&paths.pki().join(name), name.as_bytes(), 0o600).expect("writes");
        }
        let certificates = dir.path().join("certs.d");
        let registry: SocketAddr = "10.77.0.31:5000".parse().expect("address");
        for _ in 0..2 {
            trust(&paths, &certificates, registry).expect("trusts");
        }
        let folder = certificates.join("10.77.0.31:5000");
        assert_eq!(files::read_text(&folder.join("client.cert")).expect("reads"), "node.crt");
        files::write_atomic(&paths.pki().join("node.crt"), b"renewed", 0o644).expect("writes");
        trust(&paths, &certificates, registry).expect("trusts");
        assert_eq!(files::read_text(&folder.join("client.cert")).expect("reads"), "renewed");
        let key = files::inspect(&folder.join("client.key")).expect("looks").expect("exists");
        assert_eq!(key.mode, 0o600);
        let undo = UndoLog::open(&undo_path(&paths)).expect("opens");
        assert_eq!(undo.replay(), Vec::<String>::new());
        assert!(!certificates.exists());
    }
}
