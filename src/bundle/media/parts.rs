//! What stands on every medium, whatever its shape.
//!
//! | file | what |
//! |---|---|
//! | `/holdfast/bundle.hfb` | the bundle; the boot loader finds the medium by it |
//! | `/holdfast/kernel`, `early` | kernel and the modules that lead to the medium, from the bundle |
//! | `/holdfast/program` | the binary as first program, and the keys that it trusts |
//! | `/boot/grub/grub.cfg` | what the boot loader offers |

use hadris_fs::{Content, Node, Tree};

use super::error::{MediaError, layout};
use crate::bundle::build::{Archive, pack};
use crate::bundle::extract::BINARY_ENTRY;
use crate::bundle::keys::TrustedKeys;
use crate::bundle::open::Bundle;
use crate::model::live::{BUNDLE_ON_MEDIUM, MEDIUM_LABEL, TRUSTED_KEYS};

/// How long the boot loader waits for another choice, seconds.
const CHOICE_SECONDS: u32 = 3;

/// The parts, in memory but for the bundle.
pub(super) struct Parts<'a> {
    pub(super) bundle: &'a Bundle,
    program: Vec<u8>,
}

impl std::fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("bundle", &self.bundle.path()).finish_non_exhaustive()
    }
}

impl<'a> Parts<'a> {
    /// Takes the parts out of a verified bundle that has a system.
    pub(super) fn of(bundle: &'a Bundle, trusted: &TrustedKeys) -> Result<Self, MediaError> {
        let binary = bundle.read_entry(BINARY_ENTRY)?;
        let keys = trusted.public_pem()?;
        let write = || {
            let mut archive = Archive::default();
            archive.file("init", 0o755, &binary)?;
            archive.file(TRUSTED_KEYS.trim_start_matches('/'), 0o644, keys.as_bytes())?;
            pack(archive)
        };
        Ok(Self { bundle, program: write().map_err(MediaError::Pack)? })
    }

    /// One of the boot loader's images.
    pub(super) fn loader(&self, name: &str) -> Result<Vec<u8>, MediaError> {
        Ok(self.bundle.read_entry(&format!("system/loader/{name}"))?)
    }

    /// The medium's label, as file systems call themselves.
    pub(super) fn label(&self) -> &'static str {
        MEDIUM_LABEL
    }

    /// The files.
    pub(super) fn tree(&self) -> Result<Tree, MediaError> {
        let mut tree = Tree::new();
        let mut put = |path: &str, content: Content| {
            tree.insert(path.trim_start_matches('/'), Node::file(content)).map_err(layout)
        };
        put("boot/grub/grub.cfg", Content::bytes(self.menu()))?;
        put("holdfast/kernel", Content::bytes(self.bundle.read_entry("system/kernel")?))?;
        put("holdfast/early", Content::bytes(self.bundle.read_entry("system/early")?))?;
        put("holdfast/program", Content::bytes(self.program.clone()))?;
        let bundle = hadris_fs::host::file(self.bundle.path()).map_err(layout)?;
        put(BUNDLE_ON_MEDIUM, bundle)?;
        Ok(tree)
    }

    /// The boot loader's configuration: screen and serial line both show it and both choose.
    fn menu(&self) -> String {
        let version = self.bundle.version();
        let entry = |title: &str, more: &str| {
            format!(
                "menuentry \"{title}\" {{\n  linux /holdfast/kernel console=tty0 \
                 console=ttyS0,115200 loglevel=4 panic=30{more}\n  \
                 initrd /holdfast/early /holdfast/program\n}}\n"
            )
        };
        format!(
            "if serial --unit=0 --speed=115200; then\n  terminal_input console serial\n  \
             terminal_output console serial\nfi\nset timeout={CHOICE_SECONDS}\n{}{}",
            entry(&format!("Holdfast {version}"), ""),
            entry(&format!("Holdfast {version}, without modesetting"), " nomodeset"),
        )
    }
}
