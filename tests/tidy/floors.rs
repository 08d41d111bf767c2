//! Which module may import which: the table of design and `lib.rs`, checked on text.
//!
//! Why text and not a compiler: `crate::x` is how this package names its modules, so a
//! scan for it sees imports and inline paths alike and needs no second parser.

use std::collections::{BTreeMap, BTreeSet};

use crate::Source;

/// Module and its floor; several modules may share one.
const FLOORS: &[(&str, u8)] = &[
    ("base", 0),
    ("model", 1),
    ("logic", 2),
    ("sys", 2),
    ("store", 3),
    ("bundle", 3),
    ("engine", 3),
    ("playbook", 3),
    ("pki", 3),
    ("objects", 4),
    ("registry", 4),
    ("client", 4),
    ("controllers", 5),
    ("agent", 5),
    ("network", 5),
    ("dr", 5),
    ("install", 5),
    ("api", 6),
    ("web", 6),
    ("app", 7),
    ("lab", 7),
    ("cli", 8),
];

fn floor_of(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// `src/store/log.rs` is in `store`; `src/lib.rs` is in none.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let first = inside.split('/').next()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (name != "lib" && name != "main").then_some(name)
}

/// Code without comment lines, so that prose may name any module.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The identifiers that follow `crate::`, also inside `crate::{a::b, c}`.
fn crate_roots(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, matched) in text.match_indices("crate::") {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &text[at + matched.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut item = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 || (depth == 1 && c == ',') {
                    found.insert(identifier(item.trim()));
                    item.clear();
                    if depth == 0 {
                        break;
                    }
                } else {
                    item.push(c);
                }
            }
        } else {
            found.insert(identifier(rest));
        }
    }
    found.remove("");
    found
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// One line for each import that does not point strictly downwards.
pub(crate) fn upward_imports(source: &Source) -> Vec<String> {
    let Some(module) = module_of(&source.path) else { return Vec::new() };
    let Some(floor) = floor_of(module) else {
        return vec![format!("{}: module `{module}` stands on no floor", source.path)];
    };
    crate_roots(&code(&source.text))
        .into_iter()
        .filter(|target| target != module)
        .filter_map(|target| {
            let below = floor_of(&target)?;
            (below >= floor).then(|| {
                format!(
                    "{}: `{module}` (floor {floor}) imports `{target}` (floor {below})",
                    source.path
                )
            })
        })
        .collect()
}

/// Cycles between the files of one top-level module, by `crate::m::file` and
/// `super::file` paths. `mod.rs` only gathers, so it takes no part.
pub(crate) fn cycles(sources: &[Source]) -> Vec<String> {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let Some(module) = module_of(&source.path) else { continue };
        let Some(unit) = unit_of(&source.path, module) else { continue };
        let text = code(&source.text);
        let mut targets = BTreeSet::new();
        let direct = source.path == format!("src/{module}/{unit}.rs");
        for prefix in [format!("crate::{module}::"), "super::".to_owned()] {
            if prefix == "super::" && !direct {
                continue;
            }
            for (at, matched) in text.match_indices(&prefix) {
                targets.insert(identifier(&text[at + matched.len()..]));
            }
        }
        edges
            .entry(format!("{module}::{unit}"))
            .or_default()
            .extend(targets.into_iter().filter(|t| *t != unit).map(|t| format!("{module}::{t}")));
    }
    let mut faults = Vec::new();
    let nodes: Vec<String> = edges.keys().cloned().collect();
    for start in &nodes {
        let mut stack = vec![start.clone()];
        let mut seen = BTreeSet::new();
        while let Some(node) = stack.pop() {
            for next in edges.get(&node).into_iter().flatten() {
                if next == start && node > *start {
                    faults.push(format!("cycle: {start} and {node} reach each other"));
                }
                if edges.contains_key(next) && seen.insert(next.clone()) {
                    stack.push(next.clone());
                }
            }
        }
    }
    faults
}

/// The file or folder directly below the module: `log` for `src/store/log/file.rs`.
fn unit_of(path: &str, module: &str) -> Option<String> {
    let inside = path.strip_prefix("src/")?.strip_prefix(module)?.strip_prefix('/')?;
    let first = inside.split('/').next()?;
    let unit = first.strip_suffix(".rs").unwrap_or(first);
    (unit != "mod").then(|| unit.to_owned())
}
