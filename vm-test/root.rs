//! The disk of an ordinary Debian host, made once and kept below `.build/vm`.
//!
//! Why the recipe's hash is the folder's name: whoever changes the recipe gets the new
//! disk without clearing anything, and a half-made one never carries that name.
//! Not here: the recipe (`root.sh`), running it in a machine (`machine`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Failed;
use sha2::{Digest, Sha256};

use crate::failure::failed;
use crate::running::succeed;

const RECIPE: &str = include_str!("root.sh");

/// What a machine is booted from.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    folder: PathBuf,
}

impl Root {
    /// The cached one, made now if its recipe is new.
    pub(crate) fn ready(build: &Path) -> Result<Self, Failed> {
        let hash = hex::encode(Sha256::digest(RECIPE));
        let folder = build.join(format!("root-{}", &hash[..16]));
        if !folder.is_dir() {
            make(build, &folder)?;
        }
        Ok(Self { folder })
    }

    pub(crate) fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    pub(crate) fn initrd(&self) -> PathBuf {
        self.folder.join("initrd")
    }

    /// A copy that a machine may write to; the holes of the file stay holes.
    pub(crate) fn copy_disk(&self, to: &Path) -> Result<(), Failed> {
        let mut copy = Command::new("cp");
        copy.args(["--sparse=always", "--reflink=auto"]).arg(self.folder.join("disk")).arg(to);
        succeed(&mut copy).map(drop)
    }
}

fn make(build: &Path, folder: &Path) -> Result<(), Failed> {
    fs::create_dir_all(build).map_err(|error| failed("make .build/vm", error))?;
    for entry in fs::read_dir(build).map_err(|error| failed("read .build/vm", error))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("root-") {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(|error| failed(path.display(), error))?;
        }
    }
    let fresh = folder.with_extension("new");
    let mut script = Command::new("bash");
    script.args(["-c", RECIPE, "root.sh"]).arg(&fresh);
    succeed(&mut script)?;
    fs::rename(&fresh, folder).map_err(|error| failed(folder.display(), error))
}
