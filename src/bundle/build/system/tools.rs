//! The programs that compose a system, laid out beside their own libraries.
//!
//! Why run by their own loader: the building host may have another libc or none of these
//! programs, and what it has must not decide what comes out.

use std::path::{Path, PathBuf};

use super::super::debian::{Cache, Content, Files};
use super::super::elf::LOADER;
use super::super::error::BuildError;
use super::super::tree;
use super::is_listed;
use crate::bundle::progress::Progress;
use crate::model::bundle_recipe::{Lock, PackageRecipe};
use crate::model::system_recipe::SystemRecipe;
use crate::sys::bundle_tools;

/// A folder with `bin/`, `lib/` and what else the recipe put there.
#[derive(Debug)]
pub(super) struct Tools {
    folder: PathBuf,
    files: Files,
}

/// Unpacks the tools and the boot loader's modules below `work`.
pub(super) fn lay(
    recipe: &SystemRecipe,
    lock: &Lock,
    cache: &Cache,
    work: &Path,
    progress: &dyn Progress,
) -> Result<Tools, BuildError> {
    let recipes: Vec<&PackageRecipe> = recipe.recipes().collect();
    let wanted = lock.packages.iter().filter(|package| {
        !package.libraries.is_empty()
            || is_listed(&recipe.tools, &package.name)
            || is_listed(&recipe.loader.packages, &package.name)
    });
    let files = tree::collect(&recipes, wanted, cache, progress)?;
    tree::check_closed(&files)?;
    let folder = work.join("tools");
    for (name, content) in &files {
        if let Content::File { bytes, mode } = content {
            tree::write_with(&folder.join(name), *mode, bytes)?;
        }
    }
    Ok(Tools { folder, files })
}

impl Tools {
    /// Runs a program of the tree in `at`.
    pub(super) fn run(
        &self,
        program: &str,
        arguments: &[&str],
        at: &Path,
    ) -> Result<(), BuildError> {
        let libraries = self.folder.join("lib");
        let loader = libraries.join(LOADER);
        let program = self.folder.join("bin").join(program).to_string_lossy().into_owned();
        let libraries = libraries.to_string_lossy().into_owned();
        let mut all = vec!["--library-path", libraries.as_str(), program.as_str()];
        all.extend(arguments);
        bundle_tools::run(&loader, &all, at)?;
        Ok(())
    }

    /// Where a file of the tree lies.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A file of the tree.
    pub(super) fn file(&self, name: &str) -> Result<Vec<u8>, BuildError> {
        match self.files.get(name) {
            Some(Content::File { bytes, .. }) => Ok(bytes.clone()),
            _ => Err(BuildError::PackageFile { package: "of the tools".into(), file: name.into() }),
        }
    }

    /// The copyright files of these packages, by package; one that is a link into another
    /// package is that package's.
    pub(super) fn copyright(
        &self,
        packages: &[PackageRecipe],
    ) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
        let of = |package: &PackageRecipe| format!("share/doc/{}/copyright", package.name);
        let there = packages.iter().filter(|package| self.files.contains_key(&of(package)));
        there.map(|package| Ok((package.name.clone(), self.file(&of(package))?))).collect()
    }
}
