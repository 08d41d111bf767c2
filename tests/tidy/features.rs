//! The tests use the very libraries that the binary is made of.
//!
//! Why it matters: cargo joins the features that the tests' crates ask for with ours. One
//! more feature on a shared crate, and all that stands on it is built twice, once for the
//! binary and once for its tests: minutes in each run, and the tests judge another program.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// The packages of a kind of edges, each with its version and its features.
fn packages(root: &Path, edges: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--target", "x86_64-unknown-linux-musl"])
        .args(["--edges", edges, "--prefix", "none", "--no-dedupe", "--format", "{p} {f}"])
        .current_dir(root)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    text.lines().map(str::to_owned).collect()
}

/// What the binary is made of and the tests are not.
pub(crate) fn missing(binary: &BTreeSet<String>, tests: &BTreeSet<String>) -> Vec<String> {
    binary.difference(tests).map(|package| format!("{package}: other features in tests")).collect()
}

pub(crate) fn built_twice(root: &Path) -> Vec<String> {
    missing(&packages(root, "normal,build"), &packages(root, "normal,build,dev"))
}
