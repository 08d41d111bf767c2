//! Reads a playbook: plays, tasks, handlers, with everything wrong reported at once.
//!
//! Ansible's keys, as far as the runner gives them meaning; an unknown key is refused
//! rather than silently ignored. A block is flattened: its conditions and tags go to
//! its tasks.
//! Not here: evaluating expressions (`expression`), what modules take (`modules`).

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::model::cluster::Problem;
use crate::model::located::{Key, Located, Tree};
use crate::playbook::modules;

/// Everything that is wrong in the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the playbook {name} has {} problem(s): {}", problems.len(), text(problems))]
pub struct ParseError {
    pub name: String,
    pub problems: Vec<Problem>,
}

fn text(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// One file.
#[derive(Clone, Debug, PartialEq)]
pub struct Playbook {
    pub name: String,
    /// SHA-256 of the text.
    pub hash: String,
    pub plays: Vec<Play>,
}

/// A list of tasks for a set of hosts; ours are always this host.
#[derive(Clone, Debug, PartialEq)]
pub struct Play {
    pub name: String,
    pub vars: Map<String, Value>,
    pub tasks: Vec<Task>,
    pub handlers: Vec<Task>,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Task {
    pub name: String,
    pub line: u64,
    /// Without the prefix `ansible.builtin.`.
    pub module: String,
    pub args: Value,
    /// All must hold.
    pub when: Vec<String>,
    pub loop_over: Option<Value>,
    pub register: Option<String>,
    pub notify: Vec<String>,
    pub tags: Vec<String>,
    pub changed_when: Option<Value>,
    pub failed_when: Option<Value>,
    pub ignore_errors: bool,
    pub vars: Map<String, Value>,
}

const PLAY_KEYS: &[&str] =
    &["name", "hosts", "become", "gather_facts", "vars", "tasks", "handlers"];
const TASK_KEYS: &[&str] = &[
    "name",
    "when",
    "loop",
    "with_items",
    "register",
    "notify",
    "become",
    "tags",
    "changed_when",
    "failed_when",
    "ignore_errors",
    "vars",
    "block",
];

/// What a block hands down.
#[derive(Clone, Default)]
struct Inherited {
    when: Vec<String>,
    tags: Vec<String>,
    vars: Map<String, Value>,
}

struct Reader {
    problems: Vec<Problem>,
}

impl Playbook {
    pub fn parse(name: &str, source: &str) -> Result<Self, ParseError> {
        let fail = |problems| ParseError { name: name.to_owned(), problems };
        let root = Located::parse(source).map_err(|error| {
            fail(vec![Problem { line: error.line, path: "(file)".into(), message: error.message }])
        })?;
        let mut reader = Reader { problems: Vec::new() };
        let mut plays = Vec::new();
        match &root.tree {
            Tree::List(items) => {
                for item in items {
                    plays.push(reader.play(item));
                }
            }
            _ => reader.problem(root.line, "(file)", "must be a list of plays"),
        }
        if !reader.problems.is_empty() {
            return Err(fail(reader.problems));
        }
        let hash = hex::encode(Sha256::digest(source.as_bytes()));
        Ok(Self { name: name.to_owned(), hash, plays })
    }
}

impl Reader {
    fn problem(&mut self, line: u64, path: &str, message: impl Into<String>) {
        self.problems.push(Problem { line, path: path.to_owned(), message: message.into() });
    }

    fn play(&mut self, node: &Located) -> Play {
        let mut play =
            Play { name: String::new(), vars: Map::new(), tasks: Vec::new(), handlers: Vec::new() };
        let Tree::Map(entries) = &node.tree else {
            self.problem(node.line, "play", "must be a mapping");
            return play;
        };
        for (key, _) in entries {
            if !PLAY_KEYS.contains(&key.name.as_str()) {
                self.problem(key.line, "play", format!("unknown key {:?}", key.name));
            }
        }
        if node.get("hosts").is_none() {
            self.problem(node.line, "play", "hosts is missing");
        }
        play.name = node.get("name").and_then(Located::scalar).unwrap_or_default();
        play.vars = self.mapping(node.get("vars"), "vars");
        play.tasks = self.tasks(node.get("tasks"), &Inherited::default());
        play.handlers = self.tasks(node.get("handlers"), &Inherited::default());
        let known: Vec<&str> = play.handlers.iter().map(|task| task.name.as_str()).collect();
        let missing: Vec<(u64, String)> = play
            .tasks
            .iter()
            .flat_map(|task| task.notify.iter().map(move |name| (task.line, name)))
            .filter(|(_, name)| !known.contains(&name.as_str()))
            .map(|(line, name)| (line, format!("there is no handler {name:?}")))
            .collect();
        for (line, message) in missing {
            self.problem(line, "notify", message);
        }
        play
    }

    fn mapping(&mut self, node: Option<&Located>, path: &str) -> Map<String, Value> {
        match node.map(|node| (node.line, node.to_json())) {
            None | Some((_, Value::Null)) => Map::new(),
            Some((_, Value::Object(map))) => map,
            Some((line, _)) => {
                self.problem(line, path, "must be a mapping");
                Map::new()
            }
        }
    }

    /// A string or a list of strings.
    fn strings(&mut self, node: Option<&Located>, path: &str) -> Vec<String> {
        let Some(node) = node else { return Vec::new() };
        let items = match &node.tree {
            Tree::List(items) => items.iter().collect(),
            _ => vec![node],
        };
        let mut texts = Vec::new();
        for item in items {
            match item.scalar() {
                Some(text) => texts.push(text),
                None => self.problem(item.line, path, "must be text or a list of texts"),
            }
        }
        texts
    }

    fn tasks(&mut self, node: Option<&Located>, inherited: &Inherited) -> Vec<Task> {
        let Some(node) = node else { return Vec::new() };
        let Tree::List(items) = &node.tree else {
            self.problem(node.line, "tasks", "must be a list");
            return Vec::new();
        };
        items.iter().flat_map(|item| self.task_or_block(item, inherited)).collect()
    }

    fn task_or_block(&mut self, node: &Located, inherited: &Inherited) -> Vec<Task> {
        let Tree::Map(entries) = &node.tree else {
            self.problem(node.line, "task", "must be a mapping");
            return Vec::new();
        };
        let mut here = inherited.clone();
        here.when.extend(self.strings(node.get("when"), "when"));
        here.tags.extend(self.strings(node.get("tags"), "tags"));
        here.vars.extend(self.mapping(node.get("vars"), "vars"));
        let others: Vec<&(Key, Located)> =
            entries.iter().filter(|(key, _)| !TASK_KEYS.contains(&key.name.as_str())).collect();
        if let Some(block) = node.get("block") {
            for (key, _) in others {
                self.problem(key.line, "block", format!("unknown key {:?}", key.name));
            }
            return self.tasks(Some(block), &here);
        }
        let (known, unknown): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|(key, _)| modules::is_known(short(&key.name)));
        for (key, _) in unknown {
            let message = format!("{:?} is neither a key of a task nor a module", key.name);
            self.problem(key.line, "task", message);
        }
        let [(key, args)] = known[..] else {
            self.problem(node.line, "task", "must name exactly one module");
            return Vec::new();
        };
        vec![self.task(node, short(&key.name), args, here)]
    }

    fn task(&mut self, node: &Located, module: &str, args: &Located, here: Inherited) -> Task {
        let json = |key: &str| node.get(key).map(Located::to_json);
        let args = match args.to_json() {
            Value::Null => Value::Object(Map::new()),
            Value::Object(map) => Value::Object(map),
            Value::String(text) => modules::free_form(module, text),
            other => {
                self.problem(args.line, module, "must be a mapping or text");
                other
            }
        };
        let name = node.get("name").and_then(Located::scalar);
        Task {
            name: name.unwrap_or_else(|| module.to_owned()),
            line: node.line,
            module: module.to_owned(),
            args,
            when: here.when,
            loop_over: json("loop").or_else(|| json("with_items")),
            register: node.get("register").and_then(Located::scalar),
            notify: self.strings(node.get("notify"), "notify"),
            tags: here.tags,
            changed_when: json("changed_when"),
            failed_when: json("failed_when"),
            ignore_errors: json("ignore_errors") == Some(Value::Bool(true)),
            vars: here.vars,
        }
    }
}

fn short(name: &str) -> &str {
    name.strip_prefix("ansible.builtin.")
        .or_else(|| name.strip_prefix("ansible.posix."))
        .or_else(|| name.strip_prefix("community.general."))
        .unwrap_or(name)
}
