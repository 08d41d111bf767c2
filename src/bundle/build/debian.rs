//! Debian packages: fetched by apt-get, checked against the lock, unpacked by dpkg-deb.
//!
//! Why the ordinary clients: they honour the host's mirrors, proxies and signing keys.
//! Invariants: a package file is used only if its SHA-256 is the locked one, also when it
//! comes from the cache; the host's own package state is never changed, except that its
//! package lists are updated when a version is not found in them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{BuildError, io};
use crate::bundle::progress::Progress;
use crate::model::bundle_recipe::LockedPackage;
use crate::sys::{bundle_file, bundle_tools};

/// Packages a call of apt-get: each call reads all package lists, which takes a second;
/// between calls the progress moves.
const PACKAGES_A_CALL: usize = 8;

/// Package files on disk.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

/// A file of a package.
#[derive(Clone, Debug)]
pub(super) enum Content {
    File { bytes: Vec<u8>, mode: u32 },
    Link(String),
}

/// The files of a package that were asked for, by path without a leading slash.
pub(super) type Files = BTreeMap<String, Content>;

impl Cache {
    pub(super) fn open(folder: &Path) -> Result<Self, BuildError> {
        // apt-get runs with this as its working folder, so it must be absolute.
        let folder = std::path::absolute(folder).map_err(|e| io("resolve", folder, e))?;
        let packages = folder.join("packages");
        bundle_file::create_folder(&packages).map_err(|e| io("create", &packages, e))?;
        Ok(Self { folder: packages })
    }

    pub(super) fn path(&self, package: &LockedPackage) -> PathBuf {
        self.folder.join(&package.file)
    }

    /// Fetches every locked package that is not yet here and checks them all.
    pub(super) fn fetch_all(
        &self,
        packages: &[LockedPackage],
        progress: &dyn Progress,
    ) -> Result<(), BuildError> {
        progress.begin("fetch packages", packages.iter().map(|package| package.size).sum());
        let mut updated = false;
        for some in packages.chunks(PACKAGES_A_CALL) {
            progress.item(&some[0].name);
            self.fetch(some, &mut updated)?;
            progress.advance(some.iter().map(|package| package.size).sum());
        }
        progress.end();
        Ok(())
    }

    /// Makes sure of some package files. `updated` remembers whether the host's package
    /// lists were renewed, which is worth one try when a version is not in them.
    fn fetch(&self, packages: &[LockedPackage], updated: &mut bool) -> Result<(), BuildError> {
        let mut missing = Vec::new();
        for package in packages {
            let path = self.path(package);
            if !path.is_file() || self.digest(package)? != package.sha256 {
                // What is wrong must go: apt-get takes a file that is there for the right one.
                bundle_file::remove(&path).map_err(|e| io("remove", &path, e))?;
                missing.push(package);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let mut tried = self.download(&missing);
        if tried.is_err() && !*updated {
            update(&self.folder)?;
            *updated = true;
            tried = self.download(&missing);
        }
        if tried.is_err() {
            self.find_gone(&missing)?;
        }
        for package in missing {
            let found = self.digest(package)?;
            if found != package.sha256 {
                let (file, locked) = (package.file.clone(), package.sha256.clone());
                return Err(BuildError::PackageDigest { file, found, locked });
            }
        }
        Ok(())
    }

    fn download(&self, packages: &[&LockedPackage]) -> Result<String, bundle_tools::ToolError> {
        let wanted = |package: &&LockedPackage| format!("{}={}", package.name, package.version);
        let wanted: Vec<String> = packages.iter().map(wanted).collect();
        let mut arguments = vec!["download", "-q"];
        arguments.extend(wanted.iter().map(String::as_str));
        apt(&arguments, &self.folder)
    }

    /// Fetches one by one, so that the one which cannot be had is named.
    fn find_gone(&self, packages: &[&LockedPackage]) -> Result<(), BuildError> {
        for package in packages {
            self.download(&[package]).map_err(|error| BuildError::PackageGone {
                package: package.name.clone(),
                version: package.version.clone(),
                reason: error.to_string(),
            })?;
        }
        Ok(())
    }

    fn digest(&self, package: &LockedPackage) -> Result<String, BuildError> {
        let path = self.path(package);
        let (found, _) = bundle_file::digest(&path).map_err(|e| io("read", &path, e))?;
        Ok(found)
    }

    /// The versions that the mirrors offer now, fetched and checked against apt's digests.
    pub(super) fn newest(&self, names: &[&str]) -> Result<Vec<LockedPackage>, BuildError> {
        // apt-get stays silent about a file that is already in its working folder, so the
        // question is asked in an empty one.
        let empty = bundle_file::work_folder(&self.folder);
        let empty = empty.map_err(|e| io("create a work folder in", &self.folder, e))?;
        let mut arguments = vec!["download", "-q", "--print-uris"];
        arguments.extend(names);
        let answer = apt(&arguments, empty.path())
            .map_err(|source| BuildError::PackageUnknown { package: names.join(", "), source })?;
        let parse = |name: &&str| parse_uri(name, &answer);
        let packages: Vec<LockedPackage> = names.iter().map(parse).collect::<Result<_, _>>()?;
        self.fetch(&packages, &mut true)?;
        Ok(packages)
    }

    /// The names of the packages that `package` depends on, alternatives included.
    pub(super) fn dependencies(&self, package: &LockedPackage) -> Result<Vec<String>, BuildError> {
        let file = self.path(package).to_string_lossy().into_owned();
        let fields = ["-f", file.as_str(), "Depends", "Pre-Depends"];
        let text = bundle_tools::run(Path::new("dpkg-deb"), &fields, &self.folder)?;
        let values = text.lines().filter_map(|line| line.split_once(": ")).map(|(_, value)| value);
        let names = values.flat_map(|value| value.split([',', '|'])).filter_map(|item| {
            item.split_whitespace().next().map(|name| name.split(':').next().unwrap_or(name))
        });
        let mut names: Vec<String> = names.map(String::from).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Unpacks the files of `package` that `wanted` accepts.
    pub(super) fn unpack(
        &self,
        package: &LockedPackage,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Files, BuildError> {
        let path = self.path(package);
        let file = path.to_string_lossy().into_owned();
        let program = Path::new("dpkg-deb");
        bundle_tools::stream(program, &["--fsys-tarfile", &file], &self.folder, |stream| {
            read_tar(stream, wanted).map_err(|source| io("unpack", &path, source))
        })
    }
}

fn apt(arguments: &[&str], folder: &Path) -> Result<String, bundle_tools::ToolError> {
    // Without this apt would fetch as user _apt, who may not enter the cache folder.
    let mut all = vec!["-o", "APT::Sandbox::User=root"];
    all.extend(arguments);
    bundle_tools::run(Path::new("apt-get"), &all, folder)
}

/// Renews the host's package lists.
pub(super) fn update(folder: &Path) -> Result<(), BuildError> {
    bundle_tools::run(Path::new("apt-get"), &["update", "-q"], folder)?;
    Ok(())
}

fn read_tar(stream: &mut dyn Read, wanted: impl Fn(&str) -> bool) -> std::io::Result<Files> {
    let mut files = Files::new();
    let mut archive = tar::Archive::new(stream);
    for item in archive.entries()? {
        let mut item = item?;
        let path = item.path()?.to_string_lossy().into_owned();
        let path = path.trim_start_matches("./").trim_start_matches('/').to_string();
        if !wanted(&path) {
            continue;
        }
        let kind = item.header().entry_type();
        if kind.is_symlink() {
            let target = item.link_name()?.map(|name| name.to_string_lossy().into_owned());
            files.insert(path, Content::Link(target.unwrap_or_default()));
        } else if kind.is_file() {
            let mode = item.header().mode()? & 0o755;
            let mut bytes = Vec::with_capacity(item.size() as usize);
            item.read_to_end(&mut bytes)?;
            files.insert(path, Content::File { bytes, mode });
        }
    }
    Ok(files)
}

/// `'URI' FILE SIZE SHA256:HEX`, as `apt-get download --print-uris` writes it.
fn parse_uri(name: &str, answer: &str) -> Result<LockedPackage, BuildError> {
    let wrong = || BuildError::AptAnswer { package: name.into(), answer: answer.trim().into() };
    let starts =
        |fields: &Vec<&str>| fields.get(1).is_some_and(|file| file.split('_').next() == Some(name));
    let lines = answer.lines().map(|line| line.split_whitespace().collect());
    let fields: Vec<&str> = lines.into_iter().find(starts).ok_or_else(wrong)?;
    let [_, file, size, digest] = fields[..] else { return Err(wrong()) };
    let stem = file.strip_suffix(".deb").ok_or_else(wrong)?;
    let parts: Vec<&str> = stem.split('_').collect();
    let [package, version, architecture] = parts[..] else { return Err(wrong()) };
    Ok(LockedPackage {
        name: package.into(),
        // apt writes an epoch's colon as %3a in file names.
        version: version.replace("%3a", ":"),
        architecture: architecture.into(),
        file: file.into(),
        size: size.parse().map_err(|_| wrong())?,
        sha256: digest.strip_prefix("SHA256:").ok_or_else(wrong)?.into(),
        libraries: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apts_answer_is_understood() {
        let lines = "'http://deb.debian.org/y/liba_1_amd64.deb' liba_1_amd64.deb 9 SHA256:cd\n\
                    'http://deb.debian.org/x/lib_1%253a2_amd64.deb' libx_1%3a2-1_amd64.deb 12 \
                    SHA256:ab\n";
        let package = parse_uri("libx", lines).unwrap();
        assert_eq!((package.version.as_str(), package.size), ("1:2-1", 12));
        assert_eq!(package.file, "libx_1%3a2-1_amd64.deb");
        assert!(parse_uri("liby", lines).is_err());
        assert!(parse_uri("libx", "E: no").is_err());
    }
}
