//! The rules for the admin page's source: floors, headers, lengths, names.
//!
//! | floor | folder | holds |
//! |---|---|---|
//! | 6 | `main` | the beginning |
//! | 5 | `app` | what is shown to whom |
//! | 4 | `pages/` | one file for each page |
//! | 3 | `deploy/` | a text that is deployed: read, checked, edited, compared, applied |
//! | 2 | `parts/` | what pages are made of; `shell` alone names the pages, to load them |
//! | 1 | `session`, `theme`, `csp` | who is here |
//! | 0 | `api/`, `i18n/`, `draft` | the server's side, the words, what somebody is writing |

use std::fs;
use std::path::Path;

use crate::Source;
use crate::rules;

fn floor(module: &str) -> Option<u8> {
    Some(match module {
        "main" => 6,
        "app" => 5,
        "pages" => 4,
        "deploy" => 3,
        "parts" => 2,
        "session" | "theme" | "csp" => 1,
        "api" | "i18n" | "draft" => 0,
        _ => return None,
    })
}

fn collect(folder: &Path, root: &Path, into: &mut Vec<Source>) {
    let entries = fs::read_dir(folder).expect("readable folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, root, into);
        } else if path.extension().is_some_and(|ext| ext == "ts" || ext == "tsx") {
            let relative = path.strip_prefix(root).expect("below the root");
            into.push(Source {
                path: relative.to_string_lossy().into_owned(),
                text: fs::read_to_string(&path).expect("UTF-8 source"),
            });
        }
    }
}

pub(crate) fn sources(root: &Path) -> Vec<Source> {
    let mut all = Vec::new();
    collect(&root.join("src/web/src"), root, &mut all);
    all
}

/// The module that a relative import names: `../api/http` in `parts/act.tsx` is `api`.
fn imported<'t>(own: &str, target: &'t str, nested: bool) -> Option<&'t str> {
    match (target.strip_prefix("../"), target.strip_prefix("./")) {
        (Some(rest), _) => rest.split('/').next(),
        (_, Some(rest)) if !nested => rest.split('/').next(),
        _ => None,
    }
    .filter(|module| *module != own)
}

fn upward_imports(source: &Source) -> Vec<String> {
    let Some(inside) = source.path.strip_prefix("src/web/src/") else { return Vec::new() };
    let first = inside.split('/').next().unwrap_or_default();
    let own = first.split('.').next().unwrap_or_default();
    let Some(own_floor) = floor(own) else {
        return vec![format!("{}: `{own}` stands on no floor", source.path)];
    };
    let names = source.text.split(" from \"").skip(1).chain(source.text.split("import(\"").skip(1));
    names
        .filter_map(|rest| imported(own, rest.split('"').next()?, inside.contains('/')))
        .filter(|target| floor(target).is_some_and(|below| below >= own_floor))
        .filter(|target| !(inside == "parts/shell.tsx" && *target == "pages"))
        .map(|target| format!("{}: `{own}` imports `{target}`", source.path))
        .collect()
}

pub(crate) fn faults(source: &Source) -> Vec<String> {
    let header = source.text.lines().next().unwrap_or_default();
    let mut found = upward_imports(source);
    if header.strip_prefix("//").is_none_or(|rest| rest.trim().is_empty()) {
        found.push(format!("{}: opens without a header", source.path));
    }
    found.extend(rules::too_long(source));
    found.extend(rules::vague_name(source));
    found
}
