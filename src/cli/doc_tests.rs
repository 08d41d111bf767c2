//! Every command that a document prints is one that this binary understands.
//!
//! Why by parsing: what the commands do is shown by the lab's tests; that a document's
//! words still match the command line is what goes stale unseen.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;

use super::Cli;

fn documents(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    let mut folders = vec![root.join("src/docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|ext| ext == "md") {
                found.push(entry);
            }
        }
    }
    found
}

/// Lines of code blocks, with `\` continuations joined, prompts and comments cut off.
fn commands(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut found: Vec<String> = Vec::new();
    let mut continued = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
            continued = false;
            continue;
        }
        if !inside {
            continue;
        }
        let line = line.split(" #").next().unwrap_or_default().trim();
        let line = line.strip_prefix("$ ").or(line.strip_prefix("# ")).unwrap_or(line);
        let (part, more) = match line.strip_suffix('\\') {
            Some(part) => (part.trim(), true),
            None => (line, false),
        };
        match found.last_mut() {
            Some(last) if continued => *last = format!("{last} {part}"),
            _ => found.push(part.to_owned()),
        }
        continued = more;
    }
    found
}

#[test]
fn every_printed_command_is_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makefile = fs::read_to_string(root.join("Makefile")).unwrap();
    let mut checked = 0;
    let mut wrong = Vec::new();
    for path in documents(root) {
        let text = fs::read_to_string(&path).unwrap();
        for command in commands(&text) {
            let words: Vec<&str> = command.split_whitespace().collect();
            let failure = match words.as_slice() {
                // A synopsis names its parts in brackets or alternatives; it is not typed.
                ["holdfast", rest @ ..]
                    if rest.iter().any(|w| w.contains(['[', '|', '<', '…', '>'])) =>
                {
                    None
                }
                ["holdfast", ..] => Cli::try_parse_from(&words)
                    .err()
                    .filter(clap::Error::use_stderr)
                    .map(|error| error.to_string()),
                ["make", target, ..] => {
                    let known =
                        makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
                    (!known).then(|| format!("the Makefile has no target {target}"))
                }
                _ => continue,
            };
            checked += 1;
            wrong.extend(failure.map(|why| format!("{}: `{command}`: {why}", path.display())));
        }
    }
    assert!(checked > 10, "only {checked} commands were found");
    assert!(wrong.is_empty(), "{} of {checked}:\n{}", wrong.len(), wrong.join("\n"));
}
