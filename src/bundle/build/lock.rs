//! The package lock: reading, checking, and renewing it.
//!
//! Why libraries are found by soname and not by package dependencies: docker.io depends on
//! some eighty packages, perl among them; its programs need two dozen libraries.
//! Invariants: a renewed lock is closed: every soname that any taken file needs is
//! provided by a locked package, which names it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use super::debian::{Cache, Content, Files, update};
use super::error::{BuildError, io};
use super::{elf, tree};
use crate::bundle::progress::Progress;
use crate::model::bundle_recipe::{Appliance, LOCK_FORMAT, Lock, LockedPackage, PackageRecipe};
use crate::model::system_recipe::SystemRecipe;
use crate::sys::bundle_file;

/// How the names of kernel packages begin.
const KERNEL: &str = "linux-image-";

/// Reads `appliance.yaml` and reports all that is wrong with it.
pub fn load_appliance(path: &Path) -> Result<Appliance, BuildError> {
    let appliance: Appliance = load_yaml(path)?;
    let problems = appliance.problems();
    if problems.is_empty() {
        return Ok(appliance);
    }
    Err(BuildError::Config { path: path.into(), reason: problems.join("; ") })
}

/// Reads `packages.lock`.
pub fn load_lock(path: &Path) -> Result<Lock, BuildError> {
    if !path.exists() {
        let reason = "there is none yet".to_string();
        return Err(BuildError::LockStale { path: path.into(), reason });
    }
    let lock: Lock = load_yaml(path)?;
    if lock.format == LOCK_FORMAT {
        return Ok(lock);
    }
    let reason = format!("its format is {}, this program reads {LOCK_FORMAT}", lock.format);
    Err(BuildError::LockStale { path: path.into(), reason })
}

pub(super) fn load_yaml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, BuildError> {
    let text = bundle_file::read_text(path).map_err(|source| io("read", path, source))?;
    serde_saphyr::from_str(&text)
        .map_err(|error| BuildError::Config { path: path.into(), reason: error.to_string() })
}

/// Writes `packages.lock`.
pub fn write_lock(path: &Path, lock: &Lock) -> Result<(), BuildError> {
    let body = serde_saphyr::to_string(lock)
        .map_err(|error| BuildError::Config { path: path.into(), reason: error.to_string() })?;
    let text = format!("# Written by `holdfast bundle lock --refresh`; not to be edited.\n{body}");
    bundle_file::replace(path, 0o644, text.as_bytes()).map_err(|source| io("write", path, source))
}

/// Reads `system.yaml` and reports all that is wrong with it.
pub fn load_system(path: &Path) -> Result<SystemRecipe, BuildError> {
    let recipe: SystemRecipe = load_yaml(path)?;
    let problems = recipe.problems();
    if problems.is_empty() {
        return Ok(recipe);
    }
    Err(BuildError::Config { path: path.into(), reason: problems.join("; ") })
}

/// Whether the lock has what the appliance asks for.
pub(super) fn check(appliance: &Appliance, lock: &Lock, path: &Path) -> Result<(), BuildError> {
    check_names(&appliance.architecture, appliance.package_names(), lock, path)
}

/// Whether the lock has what the system asks for; answers its kernel.
pub(super) fn check_system<'a>(
    recipe: &SystemRecipe,
    lock: &'a Lock,
    path: &Path,
) -> Result<&'a LockedPackage, BuildError> {
    let names = recipe.recipes().map(|recipe| recipe.name.as_str());
    check_names(&recipe.architecture, names, lock, path)?;
    let mut packages = lock.packages.iter();
    packages.find(|package| package.name.starts_with(KERNEL)).ok_or_else(|| BuildError::LockStale {
        path: path.into(),
        reason: "it lacks a kernel".to_owned(),
    })
}

fn check_names<'a>(
    architecture: &str,
    names: impl Iterator<Item = &'a str>,
    lock: &Lock,
    path: &Path,
) -> Result<(), BuildError> {
    let stale = |reason: String| BuildError::LockStale { path: path.into(), reason };
    if lock.architecture != architecture {
        return Err(stale(format!("it is for architecture {}", lock.architecture)));
    }
    let missing: Vec<&str> = names.filter(|name| lock.package(name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(stale(format!("it lacks {}", missing.join(", "))))
}

/// Makes a new lock from what the mirrors offer now.
pub fn refresh(
    appliance: &Appliance,
    cache: &Path,
    progress: &dyn Progress,
) -> Result<Lock, BuildError> {
    let files = begin(cache, progress)?;
    let names: Vec<&str> = appliance.package_names().collect();
    let recipes: Vec<&PackageRecipe> = appliance.engine.packages.iter().collect();
    renew(&files, &appliance.architecture, &names, &recipes, progress)
}

/// The same for the system, with the kernel that is the distribution's present one.
pub fn refresh_system(
    recipe: &SystemRecipe,
    cache: &Path,
    progress: &dyn Progress,
) -> Result<Lock, BuildError> {
    let files = begin(cache, progress)?;
    let unknown = || BuildError::PackageFile {
        package: recipe.kernel.package.clone(),
        file: format!("dependency on a package {KERNEL}…"),
    };
    let leading = files.newest(&[&recipe.kernel.package])?.pop().ok_or_else(unknown)?;
    let depends = files.dependencies(&leading)?;
    let kernel = depends.iter().find(|name| name.starts_with(KERNEL)).ok_or_else(unknown)?;
    let recipes: Vec<&PackageRecipe> = recipe.recipes().collect();
    let mut names: Vec<&str> = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
    names.push(kernel);
    renew(&files, &recipe.architecture, &names, &recipes, progress)
}

fn begin(cache: &Path, progress: &dyn Progress) -> Result<Cache, BuildError> {
    let files = Cache::open(cache)?;
    progress.begin("resolve packages", 0);
    progress.item("package lists");
    update(Path::new("/"))?;
    Ok(files)
}

/// The newest packages of these names, and those of the libraries that their files need.
fn renew(
    files: &Cache,
    architecture: &str,
    names: &[&str],
    recipes: &[&PackageRecipe],
    progress: &dyn Progress,
) -> Result<Lock, BuildError> {
    let mut closure = Closure { cache: files, progress, known: BTreeMap::new() };
    progress.item("packages of the list");
    let mut locked: BTreeMap<String, LockedPackage> =
        files.newest(names)?.into_iter().map(|package| (package.name.clone(), package)).collect();
    let mut queue = VecDeque::new();
    for recipe in recipes {
        progress.item(&recipe.name);
        let package = &locked[&recipe.name];
        let found = files.unpack(package, |path| tree::asks_for(recipe, path))?;
        let taken = tree::take(recipe, &found)?;
        let needed = needed_by(taken.iter().map(|(name, content)| (name.as_str(), content)))?;
        queue.push_back((package.clone(), needed));
    }
    for package in closure.resolve(queue)? {
        match locked.get_mut(&package.name) {
            Some(there) => there.libraries = package.libraries,
            None => {
                locked.insert(package.name.clone(), package);
            }
        }
    }
    progress.end();
    Ok(Lock {
        format: LOCK_FORMAT,
        architecture: architecture.to_owned(),
        packages: locked.into_values().collect(),
    })
}

/// The sonames that these files need.
fn needed_by<'a>(
    files: impl Iterator<Item = (&'a str, &'a Content)>,
) -> Result<BTreeSet<String>, BuildError> {
    let mut needed = BTreeSet::new();
    for (name, content) in files {
        if let Content::File { bytes, .. } = content
            && let Some(linkage) = elf::linkage(name, bytes)?
        {
            needed.extend(linkage.needed);
        }
    }
    Ok(needed)
}

/// Finds the packages of libraries by walking dependencies only as far as needed.
struct Closure<'a> {
    cache: &'a Cache,
    progress: &'a dyn Progress,
    known: BTreeMap<String, (LockedPackage, Files)>,
}

impl Closure<'_> {
    /// The packages that provide what the queue needs, each with the sonames taken.
    fn resolve(
        &mut self,
        mut queue: VecDeque<(LockedPackage, BTreeSet<String>)>,
    ) -> Result<Vec<LockedPackage>, BuildError> {
        let mut provided: BTreeMap<String, String> = BTreeMap::new();
        while let Some((package, needed)) = queue.pop_front() {
            let mut open: BTreeSet<String> =
                needed.into_iter().filter(|soname| !provided.contains_key(soname)).collect();
            if open.is_empty() {
                continue;
            }
            let mut candidates = self.cache.dependencies(&package)?;
            candidates.retain(|name| is_library(name));
            self.learn(&candidates)?;
            // A package may bring its own libraries; it comes last because it can be large.
            candidates.push(package.name.clone());
            for candidate in candidates {
                if open.is_empty() {
                    break;
                }
                self.learn(std::slice::from_ref(&candidate))?;
                let Some((provider, libraries)) = self.known.get(&candidate) else { continue };
                for soname in open.clone() {
                    let Some(bytes) = tree::library(libraries, &soname) else { continue };
                    let further = elf::linkage(&soname, bytes)?.unwrap_or_default().needed;
                    queue.push_back((provider.clone(), further.into_iter().collect()));
                    provided.insert(soname.clone(), candidate.clone());
                    open.remove(&soname);
                }
            }
            if let Some(library) = open.pop_first() {
                return Err(BuildError::LibraryMissing { library, needed_by: package.name });
            }
        }
        let mut packages: BTreeMap<String, LockedPackage> = BTreeMap::new();
        for (soname, name) in provided {
            let package =
                packages.entry(name).or_insert_with_key(|name| self.known[name].0.clone());
            package.libraries.push(soname);
        }
        Ok(packages.into_values().collect())
    }

    /// Fetches and unpacks the packages of those names that are not known yet. A name that
    /// no mirror offers is an alternative that this release does not have; it stays unknown.
    fn learn(&mut self, names: &[String]) -> Result<(), BuildError> {
        let names = names.iter().map(String::as_str);
        let new: Vec<&str> = names.filter(|name| !self.known.contains_key(*name)).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.progress.item(new[0]);
        let packages = match self.cache.newest(&new) {
            Err(BuildError::PackageUnknown { .. }) if new.len() > 1 => {
                let mut found = Vec::new();
                for name in new {
                    match self.cache.newest(&[name]) {
                        Err(BuildError::PackageUnknown { .. }) => {}
                        other => found.extend(other?),
                    }
                }
                found
            }
            Err(BuildError::PackageUnknown { .. }) => Vec::new(),
            other => other?,
        };
        for package in packages {
            let files = self.cache.unpack(&package, tree::is_library_path)?;
            self.known.insert(package.name.clone(), (package, files));
        }
        Ok(())
    }
}

/// Debian's naming: shared libraries are in packages `lib…`, zlib is the exception.
fn is_library(package: &str) -> bool {
    package.starts_with("lib") || package == "zlib1g"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("bundle")
    }

    #[test]
    fn the_lock_in_the_repository_fits_the_list() {
        let path = repository().join("packages.lock");
        let appliance = load_appliance(&repository().join("appliance.yaml")).unwrap();
        let lock = load_lock(&path).unwrap();
        check(&appliance, &lock, &path).unwrap();
    }

    #[test]
    fn a_lock_that_lacks_a_package_names_it_and_the_remedy() {
        let appliance = load_appliance(&repository().join("appliance.yaml")).unwrap();
        let mut lock = load_lock(&repository().join("packages.lock")).unwrap();
        lock.packages.retain(|package| package.name != "runc");
        let text = check(&appliance, &lock, Path::new("L")).unwrap_err().to_string();
        assert!(text.contains("runc") && text.contains("lock --refresh"), "{text}");
        let none = load_lock(&repository().join("no.lock")).unwrap_err().to_string();
        assert!(none.contains("lock --refresh"), "{none}");
    }

    #[test]
    fn a_written_lock_reads_back() {
        let lock = load_lock(&repository().join("packages.lock")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        write_lock(&path, &lock).unwrap();
        assert_eq!(load_lock(&path).unwrap(), lock);
    }

    #[test]
    fn a_list_with_an_unknown_key_or_wrong_values_is_refused() {
        let good = std::fs::read_to_string(repository().join("appliance.yaml")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        std::fs::write(&path, good.replace("serial:", "serail:")).unwrap();
        assert!(load_appliance(&path).unwrap_err().to_string().contains("serail"));
        let bad = good.replace("compressionLevel: 10", "compressionLevel: 99");
        std::fs::write(&path, bad.replace("to: bin/runc", "to: ../runc")).unwrap();
        let text = load_appliance(&path).unwrap_err().to_string();
        assert!(text.contains("99") && text.contains("../runc"), "{text}");
    }
}
