//! The engine's tree: the files that the appliance asks for and the libraries they need.
//!
//! ```text
//!  bin/       dockerd, containerd, runc, nft, … with loader and library path rewritten
//!  lib/       the loader and every library, by soname
//!  share/doc/ the packages' copyright files
//! ```
//!
//! Invariants: every soname that a file needs is in `lib/`; nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::debian::{Cache, Content, Files};
use super::elf;
use super::error::{BuildError, io};
use crate::bundle::progress::Progress;
use crate::bundle::write::{Input, InputBody};
use crate::model::bundle_recipe::{Appliance, FileRecipe, Lock, LockedPackage, PackageRecipe};
use crate::sys::bundle_file;

/// Builds the tree below `work` and returns it as inputs named `engine/…`.
pub(super) fn build(
    appliance: &Appliance,
    lock: &Lock,
    cache: &Cache,
    work: &Path,
    progress: &dyn Progress,
) -> Result<Vec<Input>, BuildError> {
    progress.begin("build the engine's tree", 0);
    let files = engine_files(appliance, lock, cache, progress)?;
    check_closed(&files)?;
    let patchelf = tool(appliance, lock, cache, work, "patchelf")?;
    let mut inputs = Vec::new();
    for (name, content) in files {
        progress.item(&name);
        let body = match content {
            Content::Link(target) => InputBody::Link { target },
            Content::File { bytes, mode } => match elf::linkage(&name, &bytes)? {
                None => InputBody::Bytes { bytes, mode },
                Some(linkage) => {
                    let path = work.join("engine").join(&name);
                    write(&path, &bytes)?;
                    elf::patch(&patchelf, &path, &linkage, &appliance.engine.prefix)?;
                    InputBody::File { path, mode }
                }
            },
        };
        inputs.push(Input { name: format!("engine/{name}"), body });
    }
    progress.end();
    Ok(inputs)
}

/// All files of the engine's tree by their place in it.
fn engine_files(
    appliance: &Appliance,
    lock: &Lock,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<Files, BuildError> {
    let shipped = lock.packages.iter().filter(|package| !appliance.tools.contains(&package.name));
    let recipes: Vec<&PackageRecipe> = appliance.engine.packages.iter().collect();
    let mut files = collect(&recipes, shipped, cache, progress)?;
    for (path, target) in &appliance.engine.links {
        files.insert(path.clone(), Content::Link(target.clone()));
    }
    Ok(files)
}

/// The files of a tree by their place in it: what recipes take of their packages, every
/// package's libraries and its copyright file.
pub(super) fn collect<'a>(
    recipes: &[&PackageRecipe],
    packages: impl Iterator<Item = &'a LockedPackage>,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<Files, BuildError> {
    let mut files = Files::new();
    for package in packages {
        progress.item(&package.name);
        let recipe = recipes.iter().find(|recipe| recipe.name == package.name);
        let copyright = format!("usr/share/doc/{}/copyright", package.name);
        // One pass for all, because unpacking is what takes the time.
        let found = cache.unpack(package, |path| {
            path == copyright
                || recipe.is_some_and(|recipe| asks_for(recipe, path))
                || (!package.libraries.is_empty() && is_library_path(path))
        })?;
        if let Some(recipe) = recipe {
            files.extend(take(recipe, &found)?);
        }
        files.extend(take_libraries(package, &found)?);
        // Where it is a link into another package, that package's own copy is in the tree.
        if let Some(content @ Content::File { .. }) = found.get(&copyright) {
            files.insert(format!("share/doc/{}/copyright", package.name), content.clone());
        }
    }
    Ok(files)
}

/// Whether a recipe wants that file of its package.
pub(super) fn asks_for(recipe: &PackageRecipe, path: &str) -> bool {
    recipe.files.iter().any(|file| matches(&file.from, path))
}

/// The files that a recipe takes of those `found` in its package, by their place in the
/// tree.
pub(super) fn take(recipe: &PackageRecipe, found: &Files) -> Result<Files, BuildError> {
    let mut files = Files::new();
    for file in &recipe.files {
        let matching = || found.iter().filter(|(path, _)| matches(&file.from, path));
        if matching().next().is_none() {
            let (package, file) = (recipe.name.clone(), file.from.clone());
            return Err(BuildError::PackageFile { package, file });
        }
        for (path, content) in matching() {
            files.insert(place(file, path), content.clone());
        }
    }
    Ok(files)
}

fn take_libraries(package: &LockedPackage, found: &Files) -> Result<Files, BuildError> {
    let mut files = Files::new();
    for soname in &package.libraries {
        let bytes = library(found, soname).ok_or_else(|| BuildError::PackageFile {
            package: package.name.clone(),
            file: soname.clone(),
        })?;
        // Debian's libraries are not executable, but the kernel must start the loader.
        let mode = if soname == elf::LOADER { 0o755 } else { 0o644 };
        files.insert(format!("lib/{soname}"), Content::File { bytes: bytes.to_vec(), mode });
    }
    Ok(files)
}

/// Whether a package's file may be a shared library of the default search path.
pub(super) fn is_library_path(path: &str) -> bool {
    let path = path.strip_prefix("usr/").unwrap_or(path);
    let name = path.strip_prefix("lib/x86_64-linux-gnu/").or_else(|| path.strip_prefix("lib/"));
    name.is_some_and(|name| !name.contains('/') && name.contains(".so"))
}

/// The content of the library with that soname, links followed inside the package.
pub(super) fn library<'a>(files: &'a Files, soname: &str) -> Option<&'a [u8]> {
    let mut name = soname.to_string();
    // A chain is one or two links long; the bound is against circles.
    for _ in 0..4 {
        let suffix = format!("/{name}");
        let (_, content) = files.iter().find(|(path, _)| path.ends_with(&suffix))?;
        match content {
            Content::File { bytes, .. } => return Some(bytes),
            Content::Link(target) => name = target.rsplit('/').next()?.to_string(),
        }
    }
    None
}

/// Fails with the first library that a file of the tree needs and the tree lacks.
pub(super) fn check_closed(files: &Files) -> Result<(), BuildError> {
    let there: BTreeSet<&str> = files.keys().filter_map(|path| path.strip_prefix("lib/")).collect();
    for (name, content) in files {
        let Content::File { bytes, .. } = content else { continue };
        let needed = elf::linkage(name, bytes)?.unwrap_or_default().needed;
        if let Some(library) = needed.into_iter().find(|soname| !there.contains(soname.as_str())) {
            return Err(BuildError::LibraryMissing { library, needed_by: name.clone() });
        }
    }
    Ok(())
}

/// Unpacks a locked build tool and returns its program.
fn tool(
    appliance: &Appliance,
    lock: &Lock,
    cache: &Cache,
    work: &Path,
    name: &str,
) -> Result<PathBuf, BuildError> {
    let path = format!("usr/bin/{name}");
    let missing = || BuildError::PackageFile { package: name.into(), file: path.clone() };
    let listed = appliance.tools.iter().any(|tool| tool == name);
    let package = lock.package(name).filter(|_| listed).ok_or_else(missing)?;
    let files: BTreeMap<String, Content> = cache.unpack(package, |there| there == path)?;
    let Some(Content::File { bytes, .. }) = files.get(&path) else { return Err(missing()) };
    let program = work.join("tools").join(name);
    bundle_file::replace(&program, 0o755, bytes).map_err(|e| io("write", &program, e))?;
    Ok(program)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    write_with(path, 0o644, bytes)
}

/// Writes a new file of a tree and makes the folders that lead to it.
pub(super) fn write_with(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), BuildError> {
    let folder = bundle_file::folder_of(path);
    bundle_file::create_folder(&folder).map_err(|source| io("create", &folder, source))?;
    bundle_file::create_new(path, mode, bytes).map_err(|source| io("write", path, source))
}

/// Whether `path` is `pattern`, whose last part may hold one `*`.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == path };
    let middle = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    middle.is_some_and(|middle| !middle.contains('/'))
}

/// Where a matched file goes.
fn place(recipe: &FileRecipe, path: &str) -> String {
    match recipe.to.strip_suffix('/') {
        None => recipe.to.clone(),
        Some(folder) => format!("{folder}/{}", path.rsplit('/').next().unwrap_or(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_inside_one_folder() {
        assert!(matches("a/libxt_*.so", "a/libxt_tcp.so"));
        assert!(!matches("a/libxt_*.so", "a/b/libxt_tcp.so"));
        assert!(!matches("a/*.so", "a/x/y.so"));
        assert!(matches("a/b", "a/b") && !matches("a/b", "a/bc"));
    }

    #[test]
    fn a_library_is_found_through_its_links() {
        let file = Content::File { bytes: vec![7], mode: 0o644 };
        let mut files = Files::new();
        files.insert("lib/x86_64-linux-gnu/libx.so.1.2".into(), file);
        files.insert(
            "usr/lib/x86_64-linux-gnu/libx.so.1".into(),
            Content::Link("libx.so.1.2".into()),
        );
        files.insert("lib/liby.so".into(), Content::Link("liby.so".into()));
        assert_eq!(library(&files, "libx.so.1"), Some(&[7][..]));
        assert_eq!(library(&files, "liby.so"), None);
        assert_eq!(library(&files, "libz.so"), None);
    }

    #[test]
    fn a_tree_that_lacks_a_library_is_refused() {
        let program = std::env::current_exe().unwrap();
        let mut bytes = std::fs::read(program).unwrap();
        bytes.truncate(16);
        let mut files = Files::new();
        files.insert("bin/broken".into(), Content::File { bytes, mode: 0o755 });
        assert!(matches!(check_closed(&files), Err(BuildError::Elf { .. })));
    }
}
