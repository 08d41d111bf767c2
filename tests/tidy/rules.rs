//! Rules that look at one file: header, length, name, and what only `sys/` may call.

use crate::Source;

/// Longest file, lines; 500 is a sign to cut, this is the wall.
const MAX_LINES: usize = 600;

/// Calls into the operating system that our own code makes only in `sys/`.
const OPERATING_SYSTEM: &[&str] = &["nix::", "libc::", "rtnetlink::", "procfs::", "sysinfo::"];

pub(crate) fn missing_header(source: &Source) -> Option<String> {
    let first = source.text.lines().next().unwrap_or_default();
    let has_text = first.strip_prefix("//!").is_some_and(|rest| rest.trim().len() > 3);
    let generated = source.text.starts_with("#!");
    (!has_text && !generated).then(|| format!("{}: opens without a `//!` header", source.path))
}

pub(crate) fn too_long(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    (lines > MAX_LINES).then(|| format!("{}: {lines} lines, at most {MAX_LINES}", source.path))
}

pub(crate) fn vague_name(source: &Source) -> Option<String> {
    let vague = ["utils", "util", "common", "misc", "helpers"];
    let named = source
        .path
        .split('/')
        .map(|part| part.strip_suffix(".rs").unwrap_or(part))
        .any(|part| vague.contains(&part));
    named.then(|| format!("{}: a name that says nothing", source.path))
}

/// Whether the line names the crate itself, not one that ends like it (`unix::`).
fn calls(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

pub(crate) fn operating_system_outside_sys(source: &Source) -> Vec<String> {
    if !source.path.starts_with("src/") || source.path.starts_with("src/sys/") {
        return Vec::new();
    }
    // What only tests are built with may look at the host by any means.
    let for_tests = |part: &str| matches!(part.trim_end_matches(".rs"), "tests" | "proof" | "fake");
    if source.path.split('/').any(for_tests) || source.path.ends_with("_tests.rs") {
        return Vec::new();
    }
    let production = source.text.split("#[cfg(test)]").next().unwrap_or_default();
    production
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .filter_map(|(number, line)| {
            let call = OPERATING_SYSTEM.iter().find(|call| calls(line, call))?;
            Some(format!("{}:{}: `{call}` outside sys/", source.path, number + 1))
        })
        .collect()
}
