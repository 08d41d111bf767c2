//! Runs a playbook's tasks in order, remembering in the journal what is done.
//!
//! ```text
//!  Started ──► module ──► Ran ──► journal ──► Finished
//!      ▲ killed here: runs again   ▲ here: runs again, changes nothing
//! ```
//! Why every event is a place to stop: cancellation between any two steps is the same as
//! a kill there, so tests can walk through all of them.
//! Not here: what modules do (`modules`), putting the host back (`undo`).

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::playbook::BundleFiles;
use crate::playbook::expression::{Evaluator, ExpressionError};
use crate::playbook::journal::{DoneTask, Journal, JournalError};
use crate::playbook::modules::{self, Call, ModuleError, Outcome};
use crate::playbook::parse::{ParseError, Play, Playbook, Task};
use crate::playbook::undo::UndoLog;
use crate::sys::host;
use crate::sys::services::ServiceManager;

#[derive(Debug, thiserror::Error)]
pub enum PlaybookError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("{playbook}, line {line}: task {task:?} failed")]
    Task {
        playbook: String,
        line: u64,
        task: String,
        #[source]
        source: Box<ModuleError>,
    },
    #[error("{playbook}, line {line}: task {task:?} cannot be evaluated")]
    Expression {
        playbook: String,
        line: u64,
        task: String,
        #[source]
        source: ExpressionError,
    },
    #[error("interrupted in {playbook}; the same command goes on from there")]
    Interrupted { playbook: String },
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    Ok,
    Changed,
    Skipped,
    /// Done by an earlier, interrupted run.
    Resumed,
    /// Failed, and the playbook says to go on.
    Ignored,
}

/// One task's outcome, for people.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskReport {
    pub name: String,
    pub state: TaskState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaybookReport {
    pub playbook: String,
    pub changed: usize,
    pub tasks: Vec<TaskReport>,
}

/// What happens while a playbook runs.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    Started {
        task: &'a str,
    },
    /// The module has returned; nothing is recorded yet.
    Ran {
        task: &'a str,
    },
    Finished {
        report: &'a TaskReport,
    },
}

/// Shown every event.
pub type Reporter = Arc<dyn Fn(Event<'_>) + Send + Sync>;

/// What a run needs.
#[derive(Clone)]
pub struct RunnerInput {
    pub files: Arc<dyn BundleFiles>,
    pub services: Arc<dyn ServiceManager>,
    pub undo: Arc<UndoLog>,
    /// Facts and variables; a play's own `vars` are defaults below them.
    pub vars: Map<String, Value>,
    /// Where journals are kept, one file for each playbook.
    pub journal_dir: PathBuf,
    /// Say what would change, change nothing.
    pub check: bool,
    /// Empty runs everything; otherwise only tasks with one of these tags (or `always`).
    pub tags: Vec<String>,
    pub reporter: Reporter,
    pub cancel: CancellationToken,
}

impl std::fmt::Debug for RunnerInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunnerInput")
            .field("journal_dir", &self.journal_dir)
            .finish_non_exhaustive()
    }
}

/// Runs playbooks with one set of variables.
#[derive(Debug)]
pub struct Runner {
    input: RunnerInput,
    evaluator: Evaluator,
}

/// The state of one play while it runs.
struct Progress<'a> {
    playbook: &'a str,
    vars: Map<String, Value>,
    journal: Option<Journal>,
    notified: Vec<String>,
    report: PlaybookReport,
}

impl Runner {
    pub fn new(input: RunnerInput) -> Self {
        Self { input, evaluator: Evaluator::new() }
    }

    /// Reads `playbooks/<name>.yaml` from the bundle and runs it to the end.
    pub async fn run(&self, name: &str) -> Result<PlaybookReport, PlaybookError> {
        let file = format!("playbooks/{name}.yaml");
        let source = self.input.files.read(&file).map_err(|error| PlaybookError::Task {
            playbook: name.to_owned(),
            line: 0,
            task: "read the playbook".into(),
            source: Box::new(error.into()),
        })?;
        let playbook = Playbook::parse(name, &String::from_utf8_lossy(&source))?;
        self.run_playbook(&playbook).await
    }

    /// Runs a playbook that was read already.
    pub async fn run_playbook(&self, playbook: &Playbook) -> Result<PlaybookReport, PlaybookError> {
        // What is not on a disk is gone after a reboot, so a journal counts for one boot.
        let boot = host::boot_mark();
        let tags = self.input.tags.join(",");
        let run = digest(&[&playbook.hash, &self.input.files.digest(), &tags, &boot]);
        let journal = if self.input.check {
            None
        } else {
            let path = self.input.journal_dir.join(format!("{}.journal", playbook.name));
            Some(Journal::open(&path, &run)?)
        };
        let report = PlaybookReport { playbook: playbook.name.clone(), ..Default::default() };
        let mut progress = Progress {
            playbook: &playbook.name,
            vars: Map::new(),
            journal,
            notified: Vec::new(),
            report,
        };
        for (number, play) in playbook.plays.iter().enumerate() {
            self.play(number, play, &mut progress).await?;
        }
        if let Some(journal) = &progress.journal {
            journal.finish()?;
        }
        Ok(progress.report)
    }

    async fn play(
        &self,
        number: usize,
        play: &Play,
        progress: &mut Progress<'_>,
    ) -> Result<(), PlaybookError> {
        // A play's own values come first, so that ours, given from outside, win. Set
        // facts of an earlier play stay, as in Ansible.
        let mut vars = play.vars.clone();
        vars.extend(self.input.vars.clone());
        vars.extend(std::mem::take(&mut progress.vars));
        vars.insert("ansible_check_mode".into(), Value::Bool(self.input.check));
        progress.vars = vars;
        for (name, value) in &play.vars {
            if !self.input.vars.contains_key(name) {
                let value = self.evaluator.value(value, &progress.vars).map_err(|source| {
                    let task = format!("variable {name}");
                    PlaybookError::Expression {
                        playbook: progress.playbook.to_owned(),
                        line: 0,
                        task,
                        source,
                    }
                })?;
                progress.vars.insert(name.clone(), value);
            }
        }
        for (index, task) in play.tasks.iter().enumerate() {
            if task.module == "meta" {
                self.handlers(&format!("{number}.{index}"), play, progress).await?;
            } else {
                self.task(&format!("{number}.{index}"), task, progress).await?;
            }
        }
        self.handlers(&format!("{number}.end"), play, progress).await
    }

    /// Runs the notified handlers in the order they are defined in.
    async fn handlers(
        &self,
        at: &str,
        play: &Play,
        progress: &mut Progress<'_>,
    ) -> Result<(), PlaybookError> {
        for (index, handler) in play.handlers.iter().enumerate() {
            if progress.notified.contains(&handler.name) {
                self.task(&format!("{at}.h{index}"), handler, progress).await?;
            }
        }
        progress.notified.clear();
        Ok(())
    }

    fn wanted(&self, task: &Task) -> bool {
        self.input.tags.is_empty()
            || task.tags.iter().any(|tag| tag == "always" || self.input.tags.contains(tag))
    }

    fn event(&self, event: Event<'_>, playbook: &str) -> Result<(), PlaybookError> {
        (self.input.reporter)(event);
        if self.input.cancel.is_cancelled() {
            return Err(PlaybookError::Interrupted { playbook: playbook.to_owned() });
        }
        Ok(())
    }

    async fn task(
        &self,
        key: &str,
        task: &Task,
        progress: &mut Progress<'_>,
    ) -> Result<(), PlaybookError> {
        if !self.wanted(task) {
            return Ok(());
        }
        let playbook = progress.playbook;
        let calls = self
            .calls(task, &progress.vars)
            .map_err(|source| Failure::Expression(source).of(playbook, task))?;
        let inputs =
            digest(&[&task.module, &serde_json::to_string(&calls).expect("JSON values serialize")]);
        let known = progress.journal.as_ref().and_then(|journal| journal.done(key, &inputs));
        if let Some(done) = known.cloned() {
            let state = if done.skipped { TaskState::Skipped } else { TaskState::Resumed };
            self.finished(task, done, state, None, progress);
            return Ok(());
        }
        self.event(Event::Started { task: &task.name }, playbook)?;
        let began_before = match &mut progress.journal {
            Some(journal) if !task.notify.is_empty() => journal.start(key)?,
            _ => false,
        };
        let ran = self.run_calls(task, &calls, &progress.vars).await;
        let mut outcome = ran.map_err(|failure| failure.of(playbook, task))?;
        outcome.changed |= began_before && !outcome.skipped;
        self.event(Event::Ran { task: &task.name }, playbook)?;
        let state = match (outcome.skipped, outcome.ignored.is_some(), outcome.changed) {
            (true, _, _) => TaskState::Skipped,
            (_, true, _) => TaskState::Ignored,
            (_, _, true) => TaskState::Changed,
            _ => TaskState::Ok,
        };
        let diff = outcome.diff.take();
        let done = DoneTask {
            task: key.to_owned(),
            inputs,
            changed: outcome.changed,
            skipped: outcome.skipped,
            result: outcome.result_value(),
            facts: outcome.facts,
        };
        if let Some(journal) = &mut progress.journal {
            journal.record(done.clone())?;
        }
        self.finished(task, done, state, diff, progress);
        let report = progress.report.tasks.last().expect("was just pushed").clone();
        self.event(Event::Finished { report: &report }, playbook)
    }

    /// The module's arguments, once, or once for each item of the loop; empty when the
    /// condition does not hold.
    fn calls(&self, task: &Task, vars: &Map<String, Value>) -> Result<Vec<Value>, ExpressionError> {
        let mut vars = vars.clone();
        for (name, value) in &task.vars {
            let value = self.evaluator.value(value, &vars)?;
            vars.insert(name.clone(), value);
        }
        let mut calls = Vec::new();
        let items = match &task.loop_over {
            None => vec![None],
            Some(list) => match self.evaluator.value(list, &vars)? {
                Value::Array(items) => items.into_iter().map(Some).collect(),
                other => {
                    let reason = "a loop needs a list".to_owned();
                    return Err(ExpressionError { text: other.to_string(), reason });
                }
            },
        };
        for item in items {
            if let Some(item) = item {
                vars.insert("item".into(), item);
            }
            let mut holds = true;
            for condition in &task.when {
                holds = holds && self.evaluator.condition(condition, &vars)?;
            }
            if holds {
                let args = if modules::takes_raw_expressions(&task.module) {
                    task.args.clone()
                } else {
                    self.evaluator.value(&task.args, &vars)?
                };
                calls.push(json!({ "args": args, "item": vars.get("item") }));
            }
        }
        Ok(calls)
    }

    async fn run_calls(
        &self,
        task: &Task,
        calls: &[Value],
        vars: &Map<String, Value>,
    ) -> Result<Outcome, Failure> {
        let mut vars = vars.clone();
        let mut results = Vec::new();
        let mut whole = Outcome { skipped: calls.is_empty(), ..Outcome::default() };
        for call in calls {
            vars.insert("item".into(), call["item"].clone());
            let empty = Map::new();
            let call = Call {
                args: call["args"].as_object().unwrap_or(&empty),
                vars: &vars,
                evaluator: &self.evaluator,
                check: self.input.check,
                files: self.input.files.as_ref(),
                services: self.input.services.as_ref(),
                undo: &self.input.undo,
            };
            let mut outcome = match modules::run(&task.module, &call).await {
                Err(error) if task.ignore_errors || task.failed_when.is_some() => {
                    Outcome::failed(error)
                }
                other => other.map_err(Failure::Module)?,
            };
            if !outcome.skipped {
                self.judge(task, &mut outcome, &vars)?;
            }
            whole.changed |= outcome.changed;
            whole.ignored = outcome.ignored.take().or(whole.ignored);
            whole.facts.extend(std::mem::take(&mut outcome.facts));
            if let Some(diff) = outcome.diff.take() {
                whole.diff.get_or_insert_default().push_str(&diff);
            }
            results.push(outcome.result_value());
        }
        if task.loop_over.is_some() {
            whole.result.insert("results".into(), Value::Array(results));
        } else if let Some(Value::Object(result)) = results.pop() {
            whole.result = result;
        }
        Ok(whole)
    }

    /// Applies `failed_when` and `changed_when`, which see the result under the name it
    /// is registered as.
    fn judge(
        &self,
        task: &Task,
        outcome: &mut Outcome,
        vars: &Map<String, Value>,
    ) -> Result<(), Failure> {
        let mut seen = vars.clone();
        if let Some(name) = &task.register {
            seen.insert(name.clone(), outcome.result_value());
        }
        let holds = |condition: &Value| match condition {
            Value::Bool(value) => Ok(*value),
            Value::String(text) => self.evaluator.condition(text, &seen),
            other => Ok(!other.is_null()),
        };
        if let Some(condition) = &task.failed_when {
            let failed = holds(condition).map_err(Failure::Expression)?;
            let error = outcome.ignored.take();
            if failed {
                let error = error.unwrap_or(ModuleError::FailedWhen);
                if !task.ignore_errors {
                    return Err(Failure::Module(error));
                }
                outcome.ignored = Some(error);
            }
        }
        if let Some(condition) = &task.changed_when {
            outcome.changed = holds(condition).map_err(Failure::Expression)?;
        }
        Ok(())
    }

    fn finished(
        &self,
        task: &Task,
        done: DoneTask,
        state: TaskState,
        diff: Option<String>,
        progress: &mut Progress<'_>,
    ) {
        if done.changed {
            progress.notified.extend(task.notify.iter().cloned());
            progress.report.changed += usize::from(state == TaskState::Changed);
        }
        let message = done.result.get("msg").and_then(Value::as_str).map(ToOwned::to_owned);
        progress.vars.extend(done.facts);
        if let Some(name) = &task.register {
            progress.vars.insert(name.clone(), done.result);
        }
        progress.report.tasks.push(TaskReport { name: task.name.clone(), state, diff, message });
    }
}

enum Failure {
    Module(ModuleError),
    Expression(ExpressionError),
}

impl Failure {
    /// Says in which task it happened.
    fn of(self, playbook: &str, task: &Task) -> PlaybookError {
        let (playbook, line, task) = (playbook.to_owned(), task.line, task.name.clone());
        match self {
            Failure::Module(source) => {
                PlaybookError::Task { playbook, line, task, source: Box::new(source) }
            }
            Failure::Expression(source) => {
                PlaybookError::Expression { playbook, line, task, source }
            }
        }
    }
}

impl From<ExpressionError> for Failure {
    fn from(error: ExpressionError) -> Self {
        Failure::Expression(error)
    }
}

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}
