//! The journal of one playbook on one host: which tasks are done, durably.
//!
//! One JSON record a line, synced before the next task starts:
//! ```text
//!  {"record":"begin","run":"<hash>"}
//!  {"record":"started","task":"0.3"}          only where handlers hang on the change
//!  {"record":"done","task":"0.3","inputs":"<hash>", …}
//!  {"record":"finished"}
//! ```
//! A run that did not finish is continued if its hash (text, bundle) is the same; a done
//! task is skipped if its inputs are the same too. A task that was started and is not done
//! may have made its change before the kill, so its handlers must run although it finds
//! nothing left to change. A torn last line is what a power cut
//! leaves: it is ignored, its task runs again.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::sys::files::{self, FileError};

#[derive(Debug, thiserror::Error)]
#[error("cannot keep the playbook's journal")]
pub struct JournalError(#[from] FileError);

#[derive(Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
enum Record {
    Begin { run: String },
    Started { task: String },
    Done(DoneTask),
    Finished,
}

/// What a finished task left for later ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DoneTask {
    pub(crate) task: String,
    pub(crate) inputs: String,
    pub(crate) changed: bool,
    pub(crate) skipped: bool,
    pub(crate) result: Value,
    pub(crate) facts: Map<String, Value>,
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    done: HashMap<String, DoneTask>,
    started: HashSet<String>,
}

impl Journal {
    /// Continues the run with this hash, or begins it.
    pub(crate) fn open(path: &Path, run: &str) -> Result<Self, JournalError> {
        let mut journal =
            Self { path: path.to_owned(), done: HashMap::new(), started: HashSet::new() };
        let content = files::read_if_present(path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&content);
        let mut continues = false;
        for line in text.lines() {
            match serde_json::from_str::<Record>(line) {
                Ok(Record::Begin { run: found }) => {
                    journal.done.clear();
                    journal.started.clear();
                    continues = found == run;
                }
                Ok(Record::Started { task }) if continues => {
                    journal.started.insert(task);
                }
                Ok(Record::Done(done)) if continues => {
                    journal.done.insert(done.task.clone(), done);
                }
                Ok(Record::Finished) => continues = false,
                // Another run's task, or the torn line of a power cut.
                Ok(Record::Done(_) | Record::Started { .. }) | Err(_) => {}
            }
        }
        if !continues {
            journal.done.clear();
            journal.started.clear();
            let begin = encode(&Record::Begin { run: run.to_owned() });
            files::write_atomic(path, &begin, 0o600)?;
        } else if !text.ends_with('\n') {
            files::append_durable(path, b"\n")?;
        }
        Ok(journal)
    }

    /// The record of a task that was done with the same inputs.
    pub(crate) fn done(&self, task: &str, inputs: &str) -> Option<&DoneTask> {
        self.done.get(task).filter(|done| done.inputs == inputs)
    }

    /// Notes that a task begins; true when an earlier run began it and did not finish.
    pub(crate) fn start(&mut self, task: &str) -> Result<bool, JournalError> {
        if self.started.contains(task) {
            return Ok(true);
        }
        files::append_durable(&self.path, &encode(&Record::Started { task: task.to_owned() }))?;
        self.started.insert(task.to_owned());
        Ok(false)
    }

    pub(crate) fn record(&mut self, done: DoneTask) -> Result<(), JournalError> {
        files::append_durable(&self.path, &encode(&Record::Done(done.clone())))?;
        self.done.insert(done.task.clone(), done);
        Ok(())
    }

    pub(crate) fn finish(&self) -> Result<(), JournalError> {
        Ok(files::append_durable(&self.path, &encode(&Record::Finished))?)
    }
}

fn encode(record: &Record) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).expect("journal records serialize");
    line.push(b'\n');
    line
}
