//! Every dependency's licence is one that `deny.toml` allows.

use std::process::Command;

use serde_json::Value;
use spdx::{Expression, LicenseReq};

/// The `allow` list of `deny.toml`, which is the one place that holds it.
pub(crate) fn allowed(deny_toml: &str) -> Vec<String> {
    let list = deny_toml.split("allow = [").nth(1).and_then(|rest| rest.split(']').next());
    let quoted = list.unwrap_or_default().split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// Whether a licence expression can be satisfied with allowed licences alone.
pub(crate) fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let parsed = Expression::parse_mode(expression, spdx::ParseMode::LAX);
    parsed.is_ok_and(|parsed| {
        parsed.evaluate(|request: &LicenseReq| allowed.contains(&request.to_string()))
    })
}

/// One line for each package that this machine's target needs and whose licence is not allowed.
pub(crate) fn refused(root: &std::path::Path, allowed: &[String]) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-musl"])
        .current_dir(root)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let resolved: Vec<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .expect("a resolved graph")
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect();
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages
        .iter()
        .filter(|package| resolved.contains(&package["id"].as_str().unwrap_or_default()))
        .filter_map(|package| {
            let licence = package["license"].as_str().unwrap_or("none given");
            let name = package["name"].as_str().unwrap_or_default();
            (!is_allowed(licence, allowed)).then(|| format!("{name}: {licence}"))
        })
        .collect()
}
