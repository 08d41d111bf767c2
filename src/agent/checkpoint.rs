//! The agent's own copy of what the API last said, for the time without an API.
//!
//! Why: after a restart without any control node the agent must go on restarting what
//! crashes and must not take pods for orphans. Invariant: the copy is never believed
//! about what is *gone*; only a living API is.
//! The files are JSON and need no fsync: after a power cut the containers are gone too,
//! and an unreadable file counts as absent.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::sys::pod_files;

/// A directory of JSON objects by key.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    dir: PathBuf,
}

impl Checkpoint {
    pub(crate) fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{}.json", key.replace('/', "_")))
    }

    /// Keeps an object; a failure is logged, because it harms nothing now.
    pub(crate) fn keep(&self, key: &str, object: &Value) {
        let path = self.path(key);
        let outcome = pod_files::make_dir(&self.dir, 0o700)
            .and_then(|()| pod_files::replace_file(&path, object.to_string().as_bytes(), 0o600));
        if let Err(error) = outcome {
            tracing::warn!(path = %path.display(), %error, "cannot keep a copy of an object");
        }
    }

    pub(crate) fn forget(&self, key: &str) {
        let path = self.path(key);
        if let Err(error) = pod_files::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove the copy of an object");
        }
    }

    /// Removes every copy but those of these keys.
    pub(crate) fn keep_only(&self, keys: &BTreeSet<String>) {
        let kept: BTreeSet<PathBuf> = keys.iter().map(|key| self.path(key)).collect();
        for name in pod_files::names_in(&self.dir).unwrap_or_default() {
            let path = self.dir.join(&name);
            // What is being written has another ending.
            if name.ends_with(".json")
                && !kept.contains(&path)
                && let Err(error) = pod_files::remove_file(&path)
            {
                let path = path.display();
                tracing::warn!(%path, %error, "cannot remove the copy of an object");
            }
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Value> {
        read(&self.path(key))
    }

    /// Everything kept.
    pub(crate) fn all(&self) -> Vec<Value> {
        let names = pod_files::names_in(&self.dir).unwrap_or_default();
        names
            .iter()
            .filter(|name| name.ends_with(".json"))
            .filter_map(|name| read(&self.dir.join(name)))
            .collect()
    }
}

fn read(path: &Path) -> Option<Value> {
    let content = pod_files::read_file(path).ok()??;
    serde_json::from_slice(&content).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_rubbish_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::new(dir.path().join("pods"));
        assert!(checkpoint.all().is_empty());
        checkpoint.keep("a/b", &json!({"x": 1}));
        std::fs::write(dir.path().join("pods/torn.json"), b"{\"x\":").unwrap();
        assert_eq!(checkpoint.all(), [json!({"x": 1})]);
        assert_eq!(checkpoint.get("a/b"), Some(json!({"x": 1})));
        checkpoint.keep("c/d", &json!({"y": 1}));
        checkpoint.keep_only(&BTreeSet::from(["a/b".to_owned()]));
        assert_eq!(checkpoint.all(), [json!({"x": 1})]);
        assert!(!dir.path().join("pods/torn.json").exists());
        checkpoint.forget("a/b");
        checkpoint.forget("a/b");
        assert!(checkpoint.all().is_empty());
    }
}
