//! The disk that an engineer carries to a host: the bundle, the key it is trusted by, the
//! program and the cluster file. Read-only in the guest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Failed;

use crate::failure::failed;
use crate::running::succeed;

/// Label of its file system.
pub(crate) const LABEL: &str = "hf-medium";

/// A file that a variable names, else one of this repository.
pub(crate) fn from_root(variable: &str, fallback: &str) -> PathBuf {
    std::env::var_os(variable)
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(fallback), PathBuf::from)
}

/// The program under test: the one that Cargo built with this test unless told otherwise.
pub(crate) fn program() -> PathBuf {
    from_root("HOLDFAST_PROGRAM", env!("CARGO_BIN_EXE_holdfast"))
}

/// Makes the medium as one file with the given texts beside the shipped files.
pub(crate) fn make(at: &Path, texts: &[(&str, &str)]) -> Result<(), Failed> {
    let tree = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let inputs = [
        ("holdfast", program()),
        ("bundle.hfb", from_root("HOLDFAST_BUNDLE", ".build/holdfast.hfb")),
        ("bundle.pub", from_root("HOLDFAST_TRUST", ".build/signing.key.pub")),
    ];
    let mut bytes = 0;
    for (name, from) in inputs {
        let doing = || format!("{} for the medium", from.display());
        bytes += fs::copy(&from, tree.path().join(name)).map_err(|e| failed(doing(), e))?;
    }
    for (name, text) in texts {
        fs::write(tree.path().join(name), text).map_err(|error| failed(name, error))?;
    }
    let size_kib = bytes / 1024 + 16 * 1024;
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-F", "-t", "ext2", "-L", LABEL, "-d"]).arg(tree.path()).arg(at);
    succeed(command.arg(format!("{size_kib}k"))).map(drop)
}
