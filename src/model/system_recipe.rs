//! `system.yaml`: what a bundle carries so that a machine without any system can boot.
//!
//! Why beside `appliance.yaml` and with a lock of its own: hosts that have a system need
//! none of it, and a kernel is larger than everything else together.
//! Invariant: unknown keys are refused.
//! Not here: making it (`bundle/build/system`).

use serde::{Deserialize, Serialize};

use super::bundle_recipe::PackageRecipe;

/// `system.yaml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SystemRecipe {
    /// `holdfast.io/v1`.
    pub api_version: String,
    /// `System`.
    pub kind: String,
    /// Debian's name of the architecture.
    pub architecture: String,
    pub kernel: KernelRecipe,
    pub loader: LoaderRecipe,
    /// Programs that the build itself runs, with the libraries that the lock finds for them.
    pub tools: Vec<PackageRecipe>,
    /// zstd's level of the root, 1 to 22.
    pub root_compression_level: u32,
}

/// The kernel and those of its modules that are taken, each with what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KernelRecipe {
    /// The package that depends on the distribution's present kernel.
    pub package: String,
    /// What is needed to reach disks, media and keyboards: loaded before the root is there.
    pub early: Vec<String>,
    /// What the root has besides. The last part of a name may hold one `*`.
    pub modules: Vec<String>,
}

/// The boot loader's images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoaderRecipe {
    /// GRUB's modules for every firmware.
    pub modules: Vec<String>,
    /// Those that only a BIOS needs, and only UEFI.
    pub bios_modules: Vec<String>,
    pub uefi_modules: Vec<String>,
    /// Where the modules come from.
    pub packages: Vec<PackageRecipe>,
}

impl SystemRecipe {
    /// Everything that is wrong with the list, for one report.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.api_version != "holdfast.io/v1" || self.kind != "System" {
            found.push("apiVersion and kind must be holdfast.io/v1 and System".into());
        }
        // The boot loader is placed as this one's firmware wants it.
        if self.architecture != "amd64" {
            found.push(format!("architecture {:?} is not amd64", self.architecture));
        }
        if !(1..=22).contains(&self.root_compression_level) {
            found.push(format!(
                "rootCompressionLevel {} is not in 1..22",
                self.root_compression_level
            ));
        }
        let listed = self.kernel.early.iter().chain(&self.kernel.modules);
        for name in listed.filter(|name| name.is_empty() || name.contains(['/', ' ', ','])) {
            found.push(format!("kernel module {name:?} is not a name"));
        }
        found.extend(self.recipes().flat_map(PackageRecipe::problems));
        found
    }

    /// Packages whose files are listed.
    pub fn recipes(&self) -> impl Iterator<Item = &PackageRecipe> {
        self.tools.iter().chain(&self.loader.packages)
    }
}

#[cfg(test)]
mod tests {
    use super::super::bundle_recipe::FileRecipe;
    use super::*;

    fn recipe(architecture: &str, from: &str, to: &str) -> SystemRecipe {
        let file = FileRecipe { from: from.to_owned(), to: to.to_owned() };
        SystemRecipe {
            api_version: "holdfast.io/v1".to_owned(),
            kind: "System".to_owned(),
            architecture: architecture.to_owned(),
            kernel: KernelRecipe {
                package: "linux-image-amd64".to_owned(),
                early: vec!["ahci".to_owned()],
                modules: vec!["nf_*".to_owned()],
            },
            loader: LoaderRecipe {
                modules: Vec::new(),
                bios_modules: Vec::new(),
                uefi_modules: Vec::new(),
                packages: vec![PackageRecipe {
                    name: "loader".to_owned(),
                    files: vec![file.clone()],
                }],
            },
            tools: vec![PackageRecipe { name: "tool".to_owned(), files: vec![file] }],
            root_compression_level: 12,
        }
    }

    #[test]
    fn paths_lead_nowhere_else_and_the_architecture_is_the_one_that_boots() {
        let none: Vec<String> = Vec::new();
        assert_eq!(recipe("amd64", "usr/lib/*.mod", "lib/").problems(), none);
        assert_eq!(recipe("amd64", "usr/bin/x", "bin/x").problems(), none);
        assert_eq!(recipe("arm64", "a", "b").problems(), ["architecture \"arm64\" is not amd64"]);
        for wrong in ["/etc/passwd", "../x", "a/../../x", ""] {
            let from = [
                format!("tool: from {wrong:?} is not relative"),
                format!("loader: from {wrong:?} is not relative"),
            ];
            assert_eq!(recipe("amd64", wrong, "b").problems(), from);
            let to = [
                format!("tool: to {wrong:?} is not relative"),
                format!("loader: to {wrong:?} is not relative"),
            ];
            assert_eq!(recipe("amd64", "a", wrong).problems(), to);
        }
    }
}
