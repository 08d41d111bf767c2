//! What was there before a playbook changed it, so that `reset` can put it back.
//!
//! Append-only and written ahead of the change; only the first record of a path counts,
//! because that is how the host was before us. Replayed in reverse, so a directory is
//! reached after what was put into it; a directory that holds something foreign stays.
//! Not here: stopping what uses the files (`install/reset`).

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::base::chain::chain;
use crate::sys::files::{self, FileError};

#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the undo log {} is damaged in line {line}: {reason}", path.display())]
    Damaged { path: PathBuf, line: usize, reason: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "before", rename_all = "lowercase")]
enum Record {
    /// The path did not exist.
    Absent {
        path: PathBuf,
    },
    /// A whole tree was put there by us.
    Tree {
        path: PathBuf,
    },
    File {
        path: PathBuf,
        mode: u32,
        content: String,
    },
    Link {
        path: PathBuf,
        target: PathBuf,
    },
    Mode {
        path: PathBuf,
        mode: u32,
    },
    /// A value under `/proc/sys`.
    Kernel {
        path: PathBuf,
        value: String,
    },
}

impl Record {
    fn key(&self) -> (u8, &Path) {
        match self {
            Record::Absent { path }
            | Record::Tree { path }
            | Record::File { path, .. }
            | Record::Link { path, .. } => (0, path),
            Record::Mode { path, .. } => (1, path),
            Record::Kernel { path, .. } => (2, path),
        }
    }
}

/// The open log.
#[derive(Debug)]
pub struct UndoLog {
    path: PathBuf,
    records: Mutex<Vec<Record>>,
}

impl UndoLog {
    pub fn open(path: &Path) -> Result<Self, UndoError> {
        let content = files::read_if_present(path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&content);
        let mut records = Vec::new();
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
            match serde_json::from_str(line) {
                Ok(record) => records.push(record),
                // Torn by a power cut, so its change was never made.
                Err(_) if i + 1 == lines.len() => files::append_durable(path, b"\n")?,
                // A torn line that a later run ended with a newline.
                Err(error) if error.is_eof() => {}
                Err(error) => {
                    let reason = error.to_string();
                    return Err(UndoError::Damaged { path: path.to_owned(), line: i + 1, reason });
                }
            }
        }
        Ok(Self { path: path.to_owned(), records: Mutex::new(records) })
    }

    fn add(&self, record: Record) -> Result<(), FileError> {
        let mut records = self.records.lock().expect("no holder of the lock panics");
        if records.iter().any(|known| known.key() == record.key()) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(&record).expect("undo records serialize");
        line.push(b'\n');
        if let Some(dir) = self.path.parent() {
            files::create_dir(dir, 0o755)?;
        }
        files::append_durable(&self.path, &line)?;
        records.push(record);
        Ok(())
    }

    /// Call before writing, linking or removing `path`; notes absent parents as well.
    pub fn before_change(&self, path: &Path) -> Result<(), FileError> {
        self.before_parents(path)?;
        let record = match files::inspect(path)? {
            None => Record::Absent { path: path.to_owned() },
            Some(info) if info.is_dir => Record::Mode { path: path.to_owned(), mode: info.mode },
            Some(info) => match info.link_target {
                Some(target) => Record::Link { path: path.to_owned(), target },
                None => Record::File {
                    path: path.to_owned(),
                    mode: info.mode,
                    content: STANDARD.encode(files::read(path)?),
                },
            },
        };
        self.add(record)
    }

    /// Call before creating the directories above `path`.
    pub fn before_parents(&self, path: &Path) -> Result<(), FileError> {
        let mut absent = Vec::new();
        for dir in path.ancestors().skip(1) {
            if files::inspect(dir)?.is_some() {
                break;
            }
            absent.push(dir);
        }
        for dir in absent.into_iter().rev() {
            self.add(Record::Absent { path: dir.to_owned() })?;
        }
        Ok(())
    }

    /// Call before filling a directory of our own that goes away whole.
    pub fn before_tree(&self, path: &Path) -> Result<(), FileError> {
        self.before_parents(path)?;
        self.add(Record::Tree { path: path.to_owned() })
    }

    /// Call before writing a kernel setting.
    pub fn before_kernel(&self, path: &Path, value: &str) -> Result<(), FileError> {
        self.add(Record::Kernel { path: path.to_owned(), value: value.to_owned() })
    }

    /// Puts everything back, newest first, and goes on past failures; the answer is what
    /// could not be put back. Repeating it is harmless.
    pub fn replay(&self) -> Vec<String> {
        let records = self.records.lock().expect("no holder of the lock panics");
        let mut failures = Vec::new();
        for record in records.iter().rev() {
            // The log itself goes last, by the caller.
            if record.key().1 == self.path {
                continue;
            }
            if let Err(error) = put_back(record) {
                failures.push(chain(&error));
            }
        }
        failures
    }
}

fn put_back(record: &Record) -> Result<(), FileError> {
    match record {
        Record::Absent { path } => match files::inspect(path)? {
            None => Ok(()),
            Some(info) if info.is_dir => files::remove_dir_if_empty(path).map(drop),
            Some(_) => files::remove_file(path).map(drop),
        },
        Record::Tree { path } => files::remove_tree(path),
        Record::File { path, mode, content } => {
            let content = STANDARD.decode(content).expect("the log holds what was encoded");
            files::write_atomic(path, &content, *mode)
        }
        Record::Link { path, target } => files::link(path, target),
        Record::Mode { path, mode } => match files::inspect(path)? {
            Some(_) => files::set_mode(path, *mode),
            None => Ok(()),
        },
        Record::Kernel { path, value } => match files::inspect(path)? {
            Some(_) => files::write_kernel(path, value),
            None => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_put_back_as_it_was_and_foreign_files_stay() {
        let dir = tempfile::tempdir().expect("temp dir");
        let at = |name: &str| dir.path().join(name);
        files::write_atomic(&at("kept"), b"old", 0o640).expect("writes");
        let log_path = at("undo");
        let log = UndoLog::open(&log_path).expect("opens");
        for (name, text) in [("kept", "new"), ("a/b/ours", "x"), ("shared/ours", "y")] {
            log.before_change(&at(name)).expect("notes");
            let path = at(name);
            files::create_dir(path.parent().expect("has one"), 0o755).expect("creates");
            files::write_atomic(&path, text.as_bytes(), 0o600).expect("writes");
        }
        files::write_atomic(&at("shared/foreign"), b"z", 0o600).expect("writes");
        // A second change must not overwrite what is known of the first state.
        log.before_change(&at("kept")).expect("notes");
        files::append_durable(&log_path, b"{\"before\":\"abs").expect("tears");
        let log = UndoLog::open(&log_path).expect("opens again");
        assert_eq!(log.replay(), Vec::<String>::new());
        assert_eq!(log.replay(), Vec::<String>::new());
        assert_eq!(files::read_text(&at("kept")).expect("reads"), "old");
        assert_eq!(files::inspect(&at("kept")).expect("looks").expect("exists").mode, 0o640);
        assert!(!at("a").exists());
        assert!(at("shared/foreign").exists() && !at("shared/ours").exists());
    }
}
