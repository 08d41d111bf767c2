//! ELF files: what they need, and making them run from the engine's own prefix.
//!
//! Why patched files instead of a wrapper: dockerd, containerd and runc start themselves
//! again through /proc/self/exe, which a loader called by hand does not survive.
//! Invariants: after [`patch`] a file's loader and library path are inside the prefix, so
//! it runs on hosts with another libc or none.

use std::path::Path;

use goblin::elf::Elf;

use super::error::BuildError;
use crate::sys::bundle_tools;

/// The loader's soname on amd64.
pub(super) const LOADER: &str = "ld-linux-x86-64.so.2";
/// libc finds the loader that already runs; neither of the two is to be rewritten.
const UNPATCHED: [&str; 2] = [LOADER, "libc.so.6"];

/// What the dynamic linker does with a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Linkage {
    /// Sonames that it needs.
    pub needed: Vec<String>,
    /// Whether it names a loader, as programs do.
    pub interpreted: bool,
}

/// The linkage of an ELF file, `None` for other files.
pub(super) fn linkage(name: &str, bytes: &[u8]) -> Result<Option<Linkage>, BuildError> {
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(None);
    }
    let elf = Elf::parse(bytes)
        .map_err(|error| BuildError::Elf { file: name.into(), reason: error.to_string() })?;
    let needed = elf.libraries.iter().map(ToString::to_string).collect();
    Ok(Some(Linkage { needed, interpreted: elf.interpreter.is_some() }))
}

/// Rewrites loader and library path of the file at `path` to the engine's `prefix`.
pub(super) fn patch(
    patchelf: &Path,
    path: &Path,
    linkage: &Linkage,
    prefix: &str,
) -> Result<(), BuildError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if linkage.needed.is_empty() || UNPATCHED.contains(&name.as_ref()) {
        return Ok(());
    }
    let libraries = format!("{prefix}/lib");
    let loader = format!("{libraries}/{LOADER}");
    let file = path.to_string_lossy();
    let mut arguments = vec!["--set-rpath", libraries.as_str()];
    if linkage.interpreted {
        arguments.extend(["--set-interpreter", loader.as_str()]);
    }
    arguments.push(&file);
    bundle_tools::run(patchelf, &arguments, Path::new("/"))?;
    Ok(())
}
