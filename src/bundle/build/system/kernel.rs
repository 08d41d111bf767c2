//! The kernel's package: its image, and those of its modules that the system takes.
//!
//! Why what a module needs is read from the module itself: Debian makes the lists of
//! dependencies and aliases on the host, after unpacking; none is in the package.
//! Invariants: with a module comes everything that it needs; a name or a pattern of the
//! recipe that is neither a module nor built in is an error that names it.

use std::collections::{BTreeMap, BTreeSet};

use goblin::elf::Elf;

use super::super::debian::{Cache, Content, Files};
use super::super::error::BuildError;
use super::super::tree::matches;
use super::archive::{Archive, pack};
use crate::model::bundle_recipe::LockedPackage;
use crate::model::module_index::{Module, ModuleIndex, module_name};
use crate::model::system_recipe::KernelRecipe;

/// What was taken of the package.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) image: Vec<u8>,
    /// All modules that are taken, and the content of each by its path.
    pub(super) index: ModuleIndex,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Names of those that are loaded before the root is there.
    early: Vec<String>,
    pub(super) package: String,
    pub(super) copyright: Vec<u8>,
}

/// Takes what the recipe asks for.
pub(super) fn unpack(
    recipe: &KernelRecipe,
    package: &LockedPackage,
    cache: &Cache,
) -> Result<Kernel, BuildError> {
    let copyright = format!("usr/share/doc/{}/copyright", package.name);
    let found = cache.unpack(package, |path| {
        path.starts_with("boot/vmlinuz-")
            || path.ends_with(".ko")
            || path.ends_with("/modules.builtin")
            || path == copyright
    })?;
    let missing = |file: &str| BuildError::PackageFile {
        package: package.name.clone(),
        file: file.to_owned(),
    };
    let one = |wanted: &dyn Fn(&str) -> bool| {
        found.iter().find_map(|(path, content)| match content {
            Content::File { bytes, .. } if wanted(path) => Some(bytes.clone()),
            _ => None,
        })
    };
    let image = one(&|path| path.starts_with("boot/")).ok_or_else(|| missing("boot/vmlinuz-…"))?;
    let built_in = one(&|path| path.ends_with("/modules.builtin")).unwrap_or_default();
    let built_in = String::from_utf8_lossy(&built_in).into_owned();
    let all = read_index(&found)?;
    let names = Names { all: &all, built_in: &built_in };
    let early = names.resolve(&recipe.early).map_err(|name| missing(&name))?;
    let more = names.resolve(&recipe.modules).map_err(|name| missing(&name))?;
    let index = all.closure(early.iter().chain(&more).map(String::as_str));
    let mut files = BTreeMap::new();
    for module in index.modules.values() {
        let path = |there: &str| module_path(there) == Some(module.path.as_str());
        files.insert(module.path.clone(), one(&path).ok_or_else(|| missing(&module.path))?);
    }
    let copyright = one(&|path| path == copyright).ok_or_else(|| missing(&copyright))?;
    Ok(Kernel { image, index, files, early, package: package.name.clone(), copyright })
}

impl Kernel {
    /// The first file system: folders for what is mounted, a console, and early modules.
    pub(super) fn early_archive(&self) -> Result<Vec<u8>, BuildError> {
        let index = self.index.closure(self.early.iter().map(String::as_str));
        let write = || {
            let mut archive = Archive::default();
            for folder in ["dev", "proc", "sys", "run", "tmp", "root", "modules"] {
                archive.folder(folder)?;
            }
            // The kernel opens it for the first program before anything is mounted.
            archive.device("dev/console", (5, 1))?;
            archive.file("modules/index", 0o644, index.to_text().as_bytes())?;
            let mut folders = BTreeSet::new();
            for module in index.modules.values() {
                let path = format!("modules/{}", module.path);
                for (at, _) in path.match_indices('/').skip(1) {
                    if folders.insert(path[..at].to_owned()) {
                        archive.folder(&path[..at])?;
                    }
                }
                archive.file(&path, 0o644, &self.files[&module.path])?;
            }
            pack(archive)
        };
        write().map_err(|source| BuildError::Archive { source })
    }
}

/// `kernel/…` of a module's path in the package.
fn module_path(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("usr/").unwrap_or(path).strip_prefix("lib/modules/")?;
    rest.split_once('/').map(|(_, path)| path)
}

/// What all modules of the package say about themselves.
fn read_index(found: &Files) -> Result<ModuleIndex, BuildError> {
    let mut index = ModuleIndex::default();
    for (path, content) in found {
        let Content::File { bytes, .. } = content else { continue };
        let Some(path) = module_path(path).filter(|path| path.ends_with(".ko")) else { continue };
        let (name, module) = read_module(path, bytes)?;
        index.modules.insert(name, module);
    }
    Ok(index)
}

/// A module's name and facts from its section `.modinfo`: `key=value`, each ended by a zero.
fn read_module(path: &str, bytes: &[u8]) -> Result<(String, Module), BuildError> {
    let wrong = |reason: String| BuildError::Elf { file: path.to_owned(), reason };
    let elf = Elf::parse(bytes).map_err(|error| wrong(error.to_string()))?;
    let section = elf.section_headers.iter().find(|section| {
        elf.shdr_strtab.get_at(section.sh_name).is_some_and(|name| name == ".modinfo")
    });
    let range = section.and_then(|section| section.file_range());
    let info = range.and_then(|range| bytes.get(range));
    let info = info.ok_or_else(|| wrong("it has no section .modinfo".to_owned()))?;
    let file = path.rsplit('/').next().unwrap_or(path);
    let mut name = module_name(file.trim_end_matches(".ko"));
    let mut module = Module { path: path.to_owned(), ..Module::default() };
    for fact in info.split(|byte| *byte == 0) {
        let fact = String::from_utf8_lossy(fact);
        match fact.split_once('=') {
            Some(("name", text)) => name = module_name(text),
            Some(("depends", text)) => {
                module.needs = text.split(',').filter(|n| !n.is_empty()).map(module_name).collect();
            }
            // The list has one fact a line and blanks between them.
            Some(("alias", text)) if !text.contains(char::is_whitespace) => {
                module.aliases.push(text.to_owned());
            }
            Some(("softdep", text)) => {
                let pre = text.split("pre:").nth(1).and_then(|rest| rest.split("post:").next());
                // A module may have several of these lines.
                let wishes = pre.unwrap_or_default().split_whitespace().map(str::to_owned);
                module.wishes.extend(wishes);
            }
            _ => {}
        }
    }
    Ok((name, module))
}

/// Finds what a recipe's names mean.
struct Names<'a> {
    all: &'a ModuleIndex,
    /// Paths of what is part of the image, one a line.
    built_in: &'a str,
}

impl Names<'_> {
    /// The modules of these names and patterns, without those that are built in. The first
    /// name that means nothing is the error.
    fn resolve(&self, wanted: &[String]) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        for pattern in wanted {
            let name = module_name(pattern);
            let before = found.len();
            found.extend(self.all.modules.keys().filter(|there| matches(&name, there)).cloned());
            if found.len() == before && !self.is_built_in(&name) {
                return Err(format!("{pattern}.ko"));
            }
        }
        Ok(found)
    }

    fn is_built_in(&self, name: &str) -> bool {
        let file = |line: &str| module_name(line.rsplit('/').next().unwrap_or(line));
        self.built_in.lines().any(|line| file(line).strip_suffix(".ko") == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_pattern_or_built_in_or_refused() {
        let text = "module nf_nat k/nf_nat.ko - -\nmodule nf_tables k/nf_tables.ko - -\n";
        let all = ModuleIndex::parse(text).unwrap();
        let names = Names { all: &all, built_in: "kernel/drivers/input/keyboard/at-kbd.ko\n" };
        let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names.resolve(&list(&["nf_*", "at-kbd"])), Ok(list(&["nf_nat", "nf_tables"])));
        assert_eq!(names.resolve(&list(&["nf-nat"])), Ok(list(&["nf_nat"])));
        assert_eq!(names.resolve(&list(&["gone"])), Err("gone.ko".to_owned()));
    }

    #[test]
    fn a_module_lies_below_its_release() {
        let path = module_path("lib/modules/6.1.0-1-amd64/kernel/fs/ext4/ext4.ko");
        assert_eq!(path, Some("kernel/fs/ext4/ext4.ko"));
        assert_eq!(module_path("boot/vmlinuz-6.1.0"), None);
    }

    #[test]
    fn what_is_no_module_is_refused_by_name() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let refused = read_module("kernel/x.ko", &program).unwrap_err().to_string();
        assert!(refused.contains("kernel/x.ko") && refused.contains(".modinfo"), "{refused}");
    }
}
