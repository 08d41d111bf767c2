//! The system: what makes a machine without any system boot into Holdfast.
//!
//! ```text
//!  linux-image ─┬─ kernel                      system/kernel
//!               ├─ early modules ─ cpio, zstd  system/early      finds media and disks
//!               └─ all modules ─┐
//!  our binary ──────────────────┴─ squashfs    system/root       what it runs on
//!  grub-*-bin ──── grub-mkimage ────────────── system/loader/…   for BIOS and UEFI
//! ```
//!
//! Why no distribution inside: the binary is the first program, needs no other one, and a
//! root of one program and its modules is quick to write, to check and to boot.
//! Invariants: every byte comes from a locked package or is our binary; the tools that
//! compose them come from locked packages too and run with their own libraries, so the same
//! lock gives the same bytes on every building host.
//! Not here: what is made of it, images (`bundle/media`).

mod archive;
mod kernel;
mod loader;
mod root;
mod tools;

use std::path::Path;

pub(in crate::bundle) use archive::{Archive, pack};

use super::debian::Cache;
use super::error::BuildError;
use super::error::io;
use super::lock::{check_system, load_lock, load_system};
use crate::bundle::progress::Progress;
use crate::bundle::write::{Input, InputBody};
use crate::model::bundle_manifest::PackageRecord;
use crate::model::bundle_recipe::{Lock, LockedPackage, PackageRecipe};
use crate::model::system_recipe::SystemRecipe;
use crate::sys::bundle_file;

/// What a system adds to a bundle.
#[derive(Debug)]
pub(super) struct System {
    pub(super) inputs: Vec<Input>,
    pub(super) packages: Vec<PackageRecord>,
    /// Files that the inputs name lie here.
    pub(super) _work: tempfile::TempDir,
}

/// Makes the system that `recipe` describes, with `binary` as its first program.
pub(super) fn build(
    recipe_path: &Path,
    lock_path: &Path,
    cache: &Path,
    binary: &Path,
    progress: &dyn Progress,
) -> Result<System, BuildError> {
    let recipe = load_system(recipe_path)?;
    let lock = load_lock(lock_path)?;
    let kernel_package = check_system(&recipe, &lock, lock_path)?;
    let packages = Cache::open(cache)?;
    packages.fetch_all(&lock.packages, progress)?;
    let work = bundle_file::work_folder(cache)
        .map_err(|source| io("create a work folder in", cache, source))?;

    progress.begin("build the system", 0);
    let tools = tools::lay(&recipe, &lock, &packages, work.path(), progress)?;
    progress.item(&kernel_package.name);
    let kernel = kernel::unpack(&recipe.kernel, kernel_package, &packages)?;
    let file = |name: &str, bytes: Vec<u8>| Input {
        name: format!("system/{name}"),
        body: InputBody::Bytes { bytes, mode: 0o644 },
    };
    let mut inputs = Vec::new();
    progress.item("early modules");
    inputs.push(file("early", kernel.early_archive()?));
    progress.item("boot loader");
    let copyright = tools.copyright(&recipe.loader.packages)?;
    for (name, bytes) in loader::images(&recipe.loader, &tools, work.path())? {
        inputs.push(file(&format!("loader/{name}"), bytes));
    }
    progress.item("root");
    let root = root::make(&kernel, copyright, &recipe, &tools, work.path(), binary)?;
    inputs.push(Input {
        name: "system/root".to_owned(),
        body: InputBody::File { path: root, mode: 0o644 },
    });
    inputs.push(file("kernel", kernel.image));
    progress.end();
    let packages = shipped(&recipe, &lock, kernel_package);
    Ok(System { inputs, packages, _work: work })
}

/// The packages of which parts are in the bundle: not the tools.
fn shipped(recipe: &SystemRecipe, lock: &Lock, kernel: &LockedPackage) -> Vec<PackageRecord> {
    let loader = recipe.loader.packages.iter().filter_map(|package| lock.package(&package.name));
    let record = |package: &LockedPackage| PackageRecord {
        name: package.name.clone(),
        version: package.version.clone(),
        sha256: package.sha256.clone(),
    };
    loader.chain([kernel]).map(record).collect()
}

/// Whether a package is one of those that the recipe takes files of.
fn is_listed(recipes: &[PackageRecipe], name: &str) -> bool {
    recipes.iter().any(|recipe| recipe.name == name)
}
