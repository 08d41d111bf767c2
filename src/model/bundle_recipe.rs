//! What goes into a bundle: `appliance.yaml`, the image recipes and the package lock.
//!
//! Why a lock beside the list: people edit the list, the machine writes the lock, and a
//! build uses only what the lock names, so the same inputs give the same bytes.
//! Invariants: unknown keys are refused in all three.
//! Not here: fetching (`bundle/build/debian.rs`), building images (`bundle/build/image.rs`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bundle_manifest::Mode;

/// `appliance.yaml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Appliance {
    /// `holdfast.io/v1`.
    pub api_version: String,
    /// `Appliance`.
    pub kind: String,
    /// The release's name for people.
    pub version: String,
    /// Raised with every release; hosts refuse a smaller one.
    pub serial: u64,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// zstd's level, 1 to 19.
    pub compression_level: i32,
    pub engine: EngineRecipe,
    /// Packages that the build itself runs, unpacked into its work directory.
    #[serde(default)]
    pub tools: Vec<String>,
    /// Folders below the images directory, each with an `image.yaml`.
    #[serde(default)]
    pub images: Vec<String>,
}

/// The engine's tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EngineRecipe {
    /// Where the tree stands on every host; the programs have it built in.
    pub prefix: String,
    pub packages: Vec<PackageRecipe>,
    /// Links inside the tree: path → name of a sibling.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
}

/// Which files of a package are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PackageRecipe {
    pub name: String,
    pub files: Vec<FileRecipe>,
}

/// One file, or with a `*` in the last part several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileRecipe {
    /// Path in the package without a leading slash.
    pub from: String,
    /// Path in the tree; a trailing slash keeps the file's own name.
    pub to: String,
}

/// `images/NAME/image.yaml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageRecipe {
    /// Repository, `holdfast/pause`.
    pub name: String,
    pub tag: String,
    pub files: Vec<ImageFile>,
    pub entrypoint: Vec<String>,
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// `UID:GID`.
    pub user: String,
    /// `8080/tcp`.
    #[serde(default)]
    pub ports: Vec<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// One file of an image: either one of our programs or a file beside the recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageFile {
    /// A program that the build made, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// A file, relative to the recipe's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Absolute path in the image.
    pub to: String,
    pub mode: Mode,
}

/// `packages.lock`, YAML in text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lock {
    pub format: u32,
    pub architecture: String,
    pub packages: Vec<LockedPackage>,
}

/// One exact package file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockedPackage {
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// Name of the package file as apt stores it.
    pub file: String,
    /// Bytes of the package file.
    pub size: u64,
    /// Digest of the package file, hex.
    pub sha256: String,
    /// Shared libraries that are taken from it, by soname.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub libraries: Vec<String>,
}

/// The lock format this program writes and reads.
pub const LOCK_FORMAT: u32 = 1;

impl Appliance {
    /// Everything that is wrong with the list, for one report.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.api_version != "holdfast.io/v1" || self.kind != "Appliance" {
            found.push("apiVersion and kind must be holdfast.io/v1 and Appliance".into());
        }
        if !(1..=19).contains(&self.compression_level) {
            found.push(format!("compressionLevel {} is not in 1..19", self.compression_level));
        }
        if !self.engine.prefix.starts_with('/') || self.engine.prefix.ends_with('/') {
            found.push(format!("engine.prefix {:?} is not an absolute path", self.engine.prefix));
        }
        found.extend(self.engine.packages.iter().flat_map(PackageRecipe::problems));
        for (path, target) in &self.engine.links {
            if !relative(path) || !relative(target) || target.contains('/') {
                found.push(format!("link {path:?} must point at a sibling, not {target:?}"));
            }
        }
        found
    }

    /// Names of all packages that the list itself asks for, tools included.
    pub fn package_names(&self) -> impl Iterator<Item = &str> {
        let engine = self.engine.packages.iter().map(|package| package.name.as_str());
        engine.chain(self.tools.iter().map(String::as_str))
    }
}

impl PackageRecipe {
    /// Paths that would lead out of the package or of the tree.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        for file in &self.files {
            if !relative(&file.from) {
                found.push(format!("{}: from {:?} is not relative", self.name, file.from));
            }
            if !relative(file.to.trim_end_matches('/')) {
                found.push(format!("{}: to {:?} is not relative", self.name, file.to));
            }
        }
        found
    }
}

fn relative(path: &str) -> bool {
    super::bundle_manifest::name_problem(path).is_none()
}

impl Lock {
    /// The locked package of that name.
    pub fn package(&self, name: &str) -> Option<&LockedPackage> {
        self.packages.iter().find(|package| package.name == name)
    }
}

impl ImageRecipe {
    /// `NAME:TAG`.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.name, self.tag)
    }
}
