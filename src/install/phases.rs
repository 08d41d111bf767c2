//! The installation's own journal: which phases are done on this host.
//!
//! `<config>/install.journal`, one JSON record a line. The first names the command and
//! what it installs, so that the same command continues and another one is refused.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sys::files::{self, FileError};

/// What is being installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Purpose {
    /// `init` or `join`.
    pub command: String,
    pub node_name: String,
    /// Hash of what must be the same for the installation to be the same: the cluster
    /// file for `init`, the cluster's authority for `join`.
    pub identity: String,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
enum Record {
    Purpose(Purpose),
    Done { phase: String },
}

/// The last phase's name; with it an installation is complete.
pub const COMPLETE: &str = "complete";

/// The open journal.
#[derive(Debug)]
pub struct PhaseLog {
    path: PathBuf,
    purpose: Purpose,
    done: BTreeSet<String>,
}

impl PhaseLog {
    /// Where it lies.
    pub fn path(config: &Path) -> PathBuf {
        config.join("install.journal")
    }

    /// What an earlier run left, if there was one.
    pub fn find(config: &Path) -> Result<Option<Self>, FileError> {
        let path = Self::path(config);
        let Some(content) = files::read_if_present(&path)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&content);
        let mut purpose = None;
        let mut done = BTreeSet::new();
        for line in text.lines() {
            match serde_json::from_str(line) {
                Ok(Record::Purpose(found)) => purpose = Some(found),
                Ok(Record::Done { phase }) => {
                    done.insert(phase);
                }
                // The torn last line of a power cut: its phase runs again.
                Err(_) => {}
            }
        }
        if !text.ends_with('\n') {
            files::append_durable(&path, b"\n")?;
        }
        Ok(purpose.map(|purpose| Self { path, purpose, done }))
    }

    /// Begins a new one; this is the installation's first write.
    pub fn begin(config: &Path, purpose: Purpose) -> Result<Self, FileError> {
        files::create_dir(config, 0o755)?;
        let path = Self::path(config);
        files::write_atomic(&path, &line(&Record::Purpose(purpose.clone())), 0o600)?;
        Ok(Self { path, purpose, done: BTreeSet::new() })
    }

    pub fn purpose(&self) -> &Purpose {
        &self.purpose
    }

    pub fn is_done(&self, phase: &str) -> bool {
        self.done.contains(phase)
    }

    pub fn is_complete(&self) -> bool {
        self.is_done(COMPLETE)
    }

    pub fn finish(&mut self, phase: &str) -> Result<(), FileError> {
        files::append_durable(&self.path, &line(&Record::Done { phase: phase.to_owned() }))?;
        self.done.insert(phase.to_owned());
        Ok(())
    }
}

fn line(record: &Record) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).expect("phase records serialize");
    line.push(b'\n');
    line
}
