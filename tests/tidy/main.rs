//! The structure of the code as a test: floors, cycles, headers, lengths, banned words.
//!
//! Why a test: a single package tangles unless something stops it. Each rule is a pure
//! function over (path, text), so that it is also run on planted faults and shown to
//! fail there.

mod features;
mod floors;
mod licences;
mod page;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};

/// A source file as the rules see it.
pub(crate) struct Source {
    /// Relative to the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn collect(dir: &Path, into: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).expect("readable folder").map(|e| e.expect("entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "node_modules" && name != "dist") {
                collect(&path, into);
            }
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let relative = path.strip_prefix(root()).expect("below the root");
            into.push(Source {
                path: relative.to_string_lossy().replace('\\', "/"),
                text: fs::read_to_string(&path).expect("UTF-8 source"),
            });
        }
    }
}

fn sources() -> Vec<Source> {
    let mut all = Vec::new();
    for folder in ["src", "tests", "vm-test", "images"] {
        collect(&root().join(folder), &mut all);
    }
    assert!(all.len() > 10, "the walk found only {} files", all.len());
    all
}

fn assert_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} fault(s):\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn modules_import_only_from_lower_floors() {
    assert_none(sources().iter().flat_map(floors::upward_imports).collect());
}

#[test]
fn modules_of_one_folder_form_no_cycle() {
    assert_none(floors::cycles(&sources()));
}

#[test]
fn every_file_opens_with_a_header() {
    assert_none(sources().iter().filter_map(rules::missing_header).collect());
}

#[test]
fn no_file_is_longer_than_the_bound() {
    assert_none(sources().iter().filter_map(rules::too_long).collect());
}

#[test]
fn no_file_is_named_for_nothing() {
    assert_none(sources().iter().filter_map(rules::vague_name).collect());
}

#[test]
fn operating_system_calls_stand_in_sys() {
    assert_none(sources().iter().flat_map(rules::operating_system_outside_sys).collect());
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let deny = fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    let allowed = licences::allowed(&deny);
    assert!(licences::is_allowed("MIT/Apache-2.0", &allowed));
    assert!(!licences::is_allowed("GPL-3.0-only", &allowed));
    assert_none(licences::refused(&root(), &allowed));
}

#[test]
fn no_library_is_built_twice_for_binary_and_tests() {
    assert_none(features::built_twice(&root()));
}

#[test]
fn the_pages_source_keeps_the_rules_too() {
    let all = page::sources(&root());
    assert!(all.len() > 30, "the walk found only {} files", all.len());
    assert_none(all.iter().flat_map(page::faults).collect());
}

#[test]
fn every_rule_fails_on_a_planted_fault() {
    let plant = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let upward = plant("src/store/planted.rs", "//! Planted.\nuse crate::api::kube;\n");
    assert_eq!(floors::upward_imports(&upward).len(), 1);
    let sideways = plant("src/agent/planted.rs", "//! P.\nuse crate::{network::dns, base::ids};\n");
    assert_eq!(floors::upward_imports(&sideways).len(), 1);
    let inline = plant("src/model/planted.rs", "//! P.\nfn f() { crate::sys::tls::load(); }\n");
    assert_eq!(floors::upward_imports(&inline).len(), 1);
    let allowed = plant("src/app/planted.rs", "//! P.\nuse crate::{network::dns, base::ids};\n");
    assert!(floors::upward_imports(&allowed).is_empty());
    let left = plant("src/logic/a.rs", "//! A.\nuse crate::logic::b::B;\n");
    let right = plant("src/logic/b.rs", "//! B.\nuse super::a::A;\n");
    assert_eq!(floors::cycles(&[left, right]).len(), 1);
    assert!(rules::missing_header(&plant("src/x.rs", "use std::fs;\n")).is_some());
    assert!(rules::too_long(&plant("src/x.rs", &"//! x\n".repeat(601))).is_some());
    assert!(rules::vague_name(&plant("src/api/utils.rs", "//! x\n")).is_some());
    let binary = ["bytes v1".to_owned(), "rand v1 std".to_owned()].into();
    let tests = ["bytes v1".to_owned(), "rand v1 alloc,std".to_owned()].into();
    assert_eq!(features::missing(&binary, &tests).len(), 1);
    let upward = "// P.\nimport { x } from \"../pages/pod\";\n";
    assert_eq!(page::faults(&plant("src/web/src/parts/planted.tsx", upward)).len(), 1);
    assert_eq!(page::faults(&plant("src/web/src/api/p.ts", "import \"./http\";\n")).len(), 1);
    let long = "// x\n".repeat(601);
    assert_eq!(page::faults(&plant("src/web/src/api/p.ts", &long)).len(), 1);
    let raw = plant("src/agent/planted.rs", "//! P.\nuse nix::mount::mount;\n");
    assert_eq!(rules::operating_system_outside_sys(&raw).len(), 1);
}
