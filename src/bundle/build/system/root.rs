//! The root file system: our program, the kernel's modules, and places for what is mounted.
//!
//! Why squashfs: it is read-only by nature, one file whose digest can be signed, and a part
//! of every kernel.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use super::super::error::{BuildError, io};
use super::kernel::Kernel;
use super::tools::Tools;
use crate::model::system_recipe::SystemRecipe;
use crate::sys::bundle_file::SharedFile;
use crate::sys::bundle_tree::TreeDraft;

/// Where things are mounted, each an empty folder.
const PLACES: [&str; 10] = ["dev", "etc", "mnt", "opt", "proc", "root", "run", "sys", "tmp", "var"];

/// Makes the file and answers its path.
pub(super) fn make(
    kernel: &Kernel,
    copyright: Vec<(String, Vec<u8>)>,
    recipe: &SystemRecipe,
    tools: &Tools,
    work: &Path,
    binary: &Path,
) -> Result<PathBuf, BuildError> {
    let tree = work.join("root-tree");
    let lay = || {
        let draft = TreeDraft::start(&tree)?;
        let program = SharedFile::open(binary)?;
        draft.file("bin/holdfast", 0o755, &mut program.section(0, program.size()))?;
        // The first program, and what the kernel calls when it wants a module.
        draft.link("sbin/init", "../bin/holdfast")?;
        draft.link("sbin/modprobe", "../bin/holdfast")?;
        let file = |name: &str, bytes: &[u8]| draft.file(name, 0o644, &mut Cursor::new(bytes));
        file("modules/index", kernel.index.to_text().as_bytes())?;
        for (path, bytes) in &kernel.files {
            file(&format!("modules/{path}"), bytes)?;
        }
        file(&format!("share/doc/{}/copyright", kernel.package), &kernel.copyright)?;
        for (package, text) in &copyright {
            file(&format!("share/doc/{package}/copyright"), text)?;
        }
        draft.commit()
    };
    lay().map_err(|source| io("lay out", &tree, source))?;
    let output = work.join("root");
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (from, to) = (text(&tree), text(&output));
    let level = recipe.root_compression_level.to_string();
    let places = PLACES.map(|name| format!("{name} d 755 0 0"));
    let mut arguments = vec![
        from.as_str(),
        &to,
        "-noappend",
        "-no-progress",
        "-quiet",
        "-comp",
        "zstd",
        "-Xcompression-level",
        &level,
        "-all-root",
        "-all-time",
        "0",
        "-mkfs-time",
        "0",
        "-no-xattrs",
        "-no-exports",
        "-b",
        "256K",
    ];
    for place in &places {
        arguments.extend(["-p", place]);
    }
    tools.run("mksquashfs", &arguments, work)?;
    Ok(output)
}
