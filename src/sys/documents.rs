//! Reads whole text documents: a kubeconfig, a manifest, standard input.
//!
//! Not here: writing files atomically, which is the installer's business.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The file's text.
pub fn read_text(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path)
}

/// The file's bytes.
pub fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}

/// The manifests of a directory, in order of their names; nothing below it.
pub fn manifests_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let known = ["yaml", "yml", "json"];
        let fits = path.extension().is_some_and(|own| known.iter().any(|name| own == *name));
        if fits && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Everything that comes on standard input.
pub fn read_stdin() -> io::Result<String> {
    let mut text = String::new();
    io::stdin().lock().read_to_string(&mut text)?;
    Ok(text)
}

/// An environment variable, if it is set, readable and not empty.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
