//! The modules: what a task can do to a host.
//!
//! Each is idempotent, says whether it changed anything, does nothing in check mode but
//! say what it would, and notes in the undo log what it is about to overwrite.
//! Not here: loops, conditions and the journal (`runner`).

mod files;
mod logic;
mod system;
mod tree;

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::playbook::expression::{Evaluator, ExpressionError};
use crate::playbook::undo::UndoLog;
use crate::playbook::{BundleFileError, BundleFiles};
use crate::sys::files::FileError;
use crate::sys::process::ProcessError;
use crate::sys::services::{ServiceError, ServiceManager};

#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    #[error("there is no module {0}")]
    Unknown(String),
    #[error("argument {argument}: {reason}")]
    Argument { argument: String, reason: String },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Bundle(#[from] BundleFileError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    #[error("{program} ended with {code}: {output}")]
    Command { program: String, code: i32, output: String },
    #[error("{0}")]
    Asserted(String),
    #[error("waited {} s in vain for {what}", waited.as_secs())]
    Waited { what: String, waited: Duration },
    #[error("failed_when holds")]
    FailedWhen,
}

/// One call of a module.
pub(crate) struct Call<'a> {
    pub(crate) args: &'a Map<String, Value>,
    pub(crate) vars: &'a Map<String, Value>,
    pub(crate) evaluator: &'a Evaluator,
    pub(crate) check: bool,
    pub(crate) files: &'a dyn BundleFiles,
    pub(crate) services: &'a dyn ServiceManager,
    pub(crate) undo: &'a UndoLog,
}

/// What a call did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) changed: bool,
    pub(crate) skipped: bool,
    pub(crate) ignored: Option<ModuleError>,
    pub(crate) result: Map<String, Value>,
    pub(crate) facts: Map<String, Value>,
    pub(crate) diff: Option<String>,
}

impl Outcome {
    pub(crate) fn changed(changed: bool) -> Self {
        Self { changed, ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.result.insert(name.to_owned(), value.into());
        self
    }

    /// A failure that the playbook may look at.
    pub(crate) fn failed(error: ModuleError) -> Self {
        let mut outcome = Self::default();
        if let ModuleError::Command { code, output, .. } = &error {
            outcome = outcome.with("rc", *code).with("stderr", output.as_str());
        }
        let outcome = outcome.with("msg", crate::base::chain::chain(&error));
        Self { ignored: Some(error), ..outcome }
    }

    /// What `register` stores.
    pub(crate) fn result_value(&self) -> Value {
        let mut result = self.result.clone();
        result.insert("changed".into(), json!(self.changed));
        result.insert("skipped".into(), json!(self.skipped));
        result.insert("failed".into(), json!(self.ignored.is_some()));
        Value::Object(result)
    }
}

const KNOWN: &[&str] = &[
    "assert",
    "bundle_tree",
    "command",
    "copy",
    "debug",
    "fail",
    "file",
    "meta",
    "modprobe",
    "service",
    "set_fact",
    "stat",
    "sysctl",
    "systemd",
    "systemd_service",
    "template",
    "wait_for",
];

pub(crate) fn is_known(module: &str) -> bool {
    KNOWN.contains(&module)
}

/// `assert` takes expressions, not values.
pub(crate) fn takes_raw_expressions(module: &str) -> bool {
    module == "assert"
}

/// The mapping that a text after the module's name stands for.
pub(crate) fn free_form(module: &str, text: String) -> Value {
    let key = match module {
        "command" => "cmd",
        "meta" => "action",
        _ => "name",
    };
    json!({ key: text })
}

pub(crate) async fn run(module: &str, call: &Call<'_>) -> Result<Outcome, ModuleError> {
    match module {
        "file" => files::file(call),
        "copy" => files::copy(call),
        "template" => files::template(call),
        "stat" => files::stat(call),
        "bundle_tree" => tree::bundle_tree(call),
        "command" => system::command(call).await,
        "service" | "systemd" | "systemd_service" => system::service(call).await,
        "sysctl" => system::sysctl(call),
        "modprobe" => system::modprobe(call).await,
        "assert" => logic::assert(call),
        "fail" => logic::fail(call),
        "set_fact" => logic::set_fact(call),
        "debug" => logic::debug(call),
        "wait_for" => logic::wait_for(call).await,
        other => Err(ModuleError::Unknown(other.to_owned())),
    }
}

impl Call<'_> {
    /// Refuses arguments that the module does not know.
    fn allow(&self, known: &[&str]) -> Result<(), ModuleError> {
        match self.args.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(ModuleError::Argument {
                argument: key.clone(),
                reason: format!("is not known here; known are {}", known.join(", ")),
            }),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>, ModuleError> {
        match self.args.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Bool(value)) => Ok(Some(value.to_string())),
            Some(Value::Number(value)) => Ok(Some(value.to_string())),
            Some(_) => Err(wrong(name, "must be text")),
        }
    }

    fn required(&self, name: &str) -> Result<String, ModuleError> {
        self.text(name)?.ok_or_else(|| wrong(name, "is missing"))
    }

    fn path(&self, name: &str) -> Result<std::path::PathBuf, ModuleError> {
        let path = std::path::PathBuf::from(self.required(name)?);
        if path.is_absolute() { Ok(path) } else { Err(wrong(name, "must be an absolute path")) }
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, ModuleError> {
        match self.args.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(Value::String(text)) => match text.as_str() {
                "yes" | "true" => Ok(Some(true)),
                "no" | "false" => Ok(Some(false)),
                _ => Err(wrong(name, "must be true or false")),
            },
            Some(_) => Err(wrong(name, "must be true or false")),
        }
    }

    /// Permission bits; quoted and octal, because YAML reads a bare 0644 as 644.
    fn mode(&self) -> Result<Option<u32>, ModuleError> {
        match self.args.get("mode") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => u32::from_str_radix(text, 8)
                .map(Some)
                .map_err(|_| wrong("mode", "must be octal, such as \"0644\"")),
            Some(_) => Err(wrong("mode", "must be quoted, such as \"0644\"")),
        }
    }

    fn strings(&self, name: &str) -> Result<Vec<String>, ModuleError> {
        match self.args.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| match item {
                    Value::String(text) => Ok(text.clone()),
                    Value::Number(value) => Ok(value.to_string()),
                    Value::Bool(value) => Ok(value.to_string()),
                    _ => Err(wrong(name, "must be a list of texts")),
                })
                .collect(),
            Some(_) => Err(wrong(name, "must be a list of texts")),
        }
    }

    fn seconds(&self, name: &str, default: u64) -> Result<Duration, ModuleError> {
        let Some(text) = self.text(name)? else { return Ok(Duration::from_secs(default)) };
        text.parse().map(Duration::from_secs).map_err(|_| wrong(name, "must be whole seconds"))
    }
}

fn wrong(argument: &str, reason: &str) -> ModuleError {
    ModuleError::Argument { argument: argument.to_owned(), reason: reason.to_owned() }
}
