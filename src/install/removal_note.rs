//! The note on a node's own disk that it was removed from the cluster.
//!
//! Why on disk: a removed node must know it at its next start, also when nobody answers,
//! and `join` must not take its finished journal for a node that is in order.
//! Invariant: written once; only `reset` removes it, with everything else.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::node_config::Paths;
use crate::sys::files::{self, FileError};

/// When and from whom this node learned it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemovalNote {
    pub node_name: String,
    pub learned_at: Timestamp,
    /// For people.
    pub learned_from: String,
}

fn path(paths: &Paths) -> PathBuf {
    paths.config.join("removed.json")
}

impl RemovalNote {
    /// The note, if this node was removed. One that cannot be read counts, too.
    pub fn find(paths: &Paths) -> Result<Option<Self>, FileError> {
        let Some(content) = files::read_if_present(&path(paths))? else { return Ok(None) };
        let unreadable = || Self {
            node_name: String::new(),
            learned_at: Timestamp::UNIX_EPOCH,
            learned_from: "a note that cannot be read".to_owned(),
        };
        Ok(Some(serde_json::from_slice(&content).unwrap_or_else(|_| unreadable())))
    }

    /// Writes it; a note that is there already stays.
    pub fn write(&self, paths: &Paths) -> Result<(), FileError> {
        if Self::find(paths)?.is_some() {
            return Ok(());
        }
        let json = serde_json::to_vec(self).expect("a note serializes");
        files::write_atomic(&path(paths), &json, 0o644)
    }
}

/// What such a node says, everywhere.
pub const REMOVED_TEXT: &str = "this node was removed from the cluster; run `holdfast reset`, then `holdfast join` with a \
     new token";
