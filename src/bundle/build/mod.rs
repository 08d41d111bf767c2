//! Builds a bundle: distribution packages, images, playbooks and the binary into one file.
//!
//! ```text
//!  fetch (debian) ─► unpack (tree) ─► patch ELF files (elf) ─┐
//!  recipes ─► OCI layout (image) ────────────────────────────┼─► write_bundle
//!  playbooks, binary ────────────────────────────────────────┤
//!  kernel, root, boot loader (system), if asked for ──────────┘
//! ```
//!
//! Why packages of a distribution: a bank can trace every engine file to a signed source
//! package with its security notices.
//! Invariants: only what the lock names is used; nothing from the building host's own
//! libraries goes in.
//! Not here: the file's format (`bundle/write.rs`).

mod debian;
mod elf;
mod error;
mod image;
mod lock;
mod system;
mod tree;

use std::path::{Path, PathBuf};

pub use error::BuildError;
pub use image::{BuiltImage, build_image, layout_inputs};
pub use lock::{load_appliance, load_lock, load_system, refresh, refresh_system, write_lock};
pub(super) use system::{Archive, pack};

use super::keys::KeyPair;
use super::progress::Progress;
use super::write::{Input, InputBody, Release, write_bundle};
use crate::model::bundle_manifest::{Manifest, PackageRecord};
use crate::model::bundle_recipe::{Appliance, Lock};
use crate::sys::{bundle_file, bundle_tree};

/// Where a build takes things from and puts them.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    pub appliance: PathBuf,
    pub lock: PathBuf,
    pub output: PathBuf,
    /// Package files are kept here between builds.
    pub cache: PathBuf,
    /// The holdfast binary that goes in.
    pub binary: PathBuf,
    /// Folder of the programs that image recipes name.
    pub programs: PathBuf,
    pub playbooks: PathBuf,
    pub images: PathBuf,
    /// What makes machines without a system boot, if the bundle is to carry it.
    pub system: Option<SystemOptions>,
}

/// The list of the system's parts, and its lock.
#[derive(Clone, Debug)]
pub struct SystemOptions {
    pub recipe: PathBuf,
    pub lock: PathBuf,
}

/// Builds and signs a bundle.
pub fn build(
    options: &BuildOptions,
    key: &KeyPair,
    progress: &dyn Progress,
) -> Result<Manifest, BuildError> {
    let appliance = load_appliance(&options.appliance)?;
    let lock = load_lock(&options.lock)?;
    lock::check(&appliance, &lock, &options.lock)?;
    let mut inputs = playbook_inputs(&options.playbooks)?;
    let mode = 0o755;
    let body = InputBody::File { path: options.binary.clone(), mode };
    inputs.push(Input { name: super::extract::BINARY_ENTRY.into(), body });
    let recipes: Vec<PathBuf> =
        appliance.images.iter().map(|name| options.images.join(name)).collect();
    inputs.extend(image_inputs(&recipes, &options.programs)?);

    let cache = debian::Cache::open(&options.cache)?;
    cache.fetch_all(&lock.packages, progress)?;
    let work = bundle_file::work_folder(&options.cache)
        .map_err(|source| error::io("create a work folder in", &options.cache, source))?;
    let engine = tree::build(&appliance, &lock, &cache, work.path(), progress)?;
    inputs.extend(engine);

    let mut release = release(&appliance, &lock);
    let system = match &options.system {
        None => None,
        Some(SystemOptions { recipe, lock }) => {
            Some(system::build(recipe, lock, &options.cache, &options.binary, progress)?)
        }
    };
    // Its files must be there until the bundle is written.
    if let Some(system) = &system {
        inputs.extend(system.inputs.iter().cloned());
        release.packages.extend(system.packages.iter().cloned());
    }
    Ok(write_bundle(&options.output, inputs, &release, key, progress)?)
}

fn release(appliance: &Appliance, lock: &Lock) -> Release {
    let shipped = lock.packages.iter().filter(|package| !appliance.tools.contains(&package.name));
    let record = |package: &crate::model::bundle_recipe::LockedPackage| PackageRecord {
        name: package.name.clone(),
        version: package.version.clone(),
        sha256: package.sha256.clone(),
    };
    Release {
        version: appliance.version.clone(),
        serial: appliance.serial,
        architecture: appliance.architecture.clone(),
        engine_prefix: appliance.engine.prefix.clone(),
        packages: shipped.map(record).collect(),
        compression_level: appliance.compression_level,
    }
}

fn playbook_inputs(folder: &Path) -> Result<Vec<Input>, BuildError> {
    let names = bundle_tree::list(folder).map_err(|source| error::io("list", folder, source))?;
    let input = |name: String| {
        let path = folder.join(&name);
        // Modes are normalized: what a checkout's umask made of them is no input.
        let executable = bundle_tree::file_mode(&path).is_some_and(|mode| mode & 0o100 != 0);
        let mode = if executable { 0o755 } else { 0o644 };
        Input { name: format!("playbooks/{name}"), body: InputBody::File { path, mode } }
    };
    Ok(names.into_iter().map(input).collect())
}

fn image_inputs(recipes: &[PathBuf], programs: &Path) -> Result<Vec<Input>, BuildError> {
    let mut images = Vec::new();
    for folder in recipes {
        images.push(build_image(folder, programs)?);
    }
    layout_inputs(&images)
}
