//! `metadata.managedFields`: the managers of an object and what each owns.
//!
//! Invariants: a manager has one entry for each operation, subresource and, of updates,
//! version; an entry owns something; appliers stand before updaters, then the older first.

use serde_json::{Map, Value, json};

use super::fields_v1;
use super::fieldset::FieldSet;

/// Most updaters of one object; older ones are put together.
const UPDATERS_MAX: usize = 10;
/// Who stands for the updaters put together.
const ANCIENT: &str = "ancient-changes";

/// How fields came to be owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// Who writes, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    pub name: String,
    pub operation: Operation,
    pub api_version: String,
    /// Empty for the object itself.
    pub subresource: String,
}

impl Manager {
    /// An applier is one whatever version it applies in.
    fn is(&self, other: &Manager) -> bool {
        self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// As it is named in a conflict.
    pub fn print(&self) -> String {
        let mut text = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// One manager and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub manager: Manager,
    /// RFC 3339; absent if it was never said.
    pub time: Option<String>,
    pub fields: FieldSet,
}

/// All managers of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed {
    entries: Vec<Entry>,
}

impl Managed {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What a manager owns.
    pub fn fields_of(&self, manager: &Manager) -> Option<&FieldSet> {
        self.entries.iter().find(|entry| entry.manager.is(manager)).map(|entry| &entry.fields)
    }

    /// All owned fields.
    pub fn owned(&self) -> FieldSet {
        self.entries.iter().fold(FieldSet::default(), |all, entry| all.union(&entry.fields))
    }

    /// Those of others that are in `fields`.
    pub fn owned_by_others(
        &self,
        manager: &Manager,
        fields: &FieldSet,
    ) -> Vec<(Manager, FieldSet)> {
        let others = self.entries.iter().filter(|entry| !entry.manager.is(manager));
        others
            .map(|entry| (entry.manager.clone(), entry.fields.intersection(fields)))
            .filter(|(_, shared)| !shared.is_empty())
            .collect()
    }

    /// Takes fields from everybody, or from everybody but one.
    pub fn take(&mut self, fields: &FieldSet, but: Option<&Manager>) {
        for entry in &mut self.entries {
            if !but.is_some_and(|own| entry.manager.is(own)) {
                entry.fields = entry.fields.difference(fields);
            }
        }
        self.entries.retain(|entry| !entry.fields.is_empty());
    }

    /// Sets what a manager owns; `time` of an entry that stays is kept where it is `None`.
    pub fn set(&mut self, manager: &Manager, fields: FieldSet, time: Option<&str>) {
        match self.entries.iter_mut().find(|entry| entry.manager.is(manager)) {
            Some(entry) => {
                entry.fields = fields;
                entry.manager = manager.clone();
                if let Some(time) = time {
                    entry.time = Some(time.to_owned());
                }
            }
            None => {
                let time = time.map(str::to_owned);
                self.entries.push(Entry { manager: manager.clone(), time, fields });
            }
        }
        self.entries.retain(|entry| !entry.fields.is_empty());
    }

    /// Adds to what an updater owns.
    pub fn add(&mut self, manager: &Manager, fields: &FieldSet, now: &str) {
        if fields.is_empty() {
            return;
        }
        let before = self.fields_of(manager).cloned().unwrap_or_default();
        self.set(manager, before.union(fields), Some(now));
        self.cap();
    }

    /// Puts the oldest updaters together while there are too many.
    fn cap(&mut self) {
        loop {
            let updates = self.entries.iter().enumerate();
            let mut updates: Vec<(usize, &Entry)> =
                updates.filter(|(_, entry)| entry.manager.operation == Operation::Update).collect();
            if updates.len() <= UPDATERS_MAX {
                return;
            }
            updates.sort_by(|(_, left), (_, right)| left.time.cmp(&right.time));
            let (first, second) = (updates[0].0, updates[1].0);
            let (older, newer) = (self.entries[first].clone(), self.entries[second].clone());
            let manager =
                Manager { name: ANCIENT.into(), subresource: String::new(), ..newer.manager };
            self.entries.remove(first.max(second));
            self.entries.remove(first.min(second));
            let before = self.fields_of(&manager).cloned().unwrap_or_default();
            let fields = before.union(&older.fields).union(&newer.fields);
            self.set(&manager, fields, newer.time.as_deref());
        }
    }

    /// The list for an object's metadata; `None` for nobody.
    pub fn to_json(&self) -> Option<Value> {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by(|left, right| {
            let key = |entry: &Entry| {
                (entry.manager.operation, entry.time.clone(), entry.manager.name.clone())
            };
            key(left).cmp(&key(right)).then_with(|| {
                let rest = |entry: &Entry| {
                    (entry.manager.api_version.clone(), entry.manager.subresource.clone())
                };
                rest(left).cmp(&rest(right))
            })
        });
        (!entries.is_empty()).then(|| entries.into_iter().map(entry_to_json).collect())
    }

    /// Reads the list; what is wrong with it otherwise.
    pub fn from_json(list: &Value) -> Result<Self, String> {
        let list = match list {
            Value::Null => return Ok(Self::default()),
            Value::Array(list) => list,
            other => return Err(format!("expected a list, got {other}")),
        };
        let mut managed = Self::default();
        for item in list {
            let entry = entry_from_json(item)?;
            let before = managed.fields_of(&entry.manager).cloned().unwrap_or_default();
            managed.set(&entry.manager, before.union(&entry.fields), entry.time.as_deref());
        }
        Ok(managed)
    }
}

fn entry_to_json(entry: &Entry) -> Value {
    let manager = &entry.manager;
    let mut fields = Map::new();
    fields.insert("manager".into(), manager.name.as_str().into());
    fields.insert("operation".into(), manager.operation.name().into());
    fields.insert("apiVersion".into(), manager.api_version.as_str().into());
    if let Some(time) = &entry.time {
        fields.insert("time".into(), time.as_str().into());
    }
    fields.insert("fieldsType".into(), "FieldsV1".into());
    fields.insert("fieldsV1".into(), fields_v1::to_json(&entry.fields));
    if !manager.subresource.is_empty() {
        fields.insert("subresource".into(), manager.subresource.as_str().into());
    }
    Value::Object(fields)
}

fn entry_from_json(item: &Value) -> Result<Entry, String> {
    let text = |field: &str| item.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let operation = match text("operation").as_str() {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        other => {
            return Err(format!(
                "operation: Invalid value: {other:?}: must be `Apply` or `Update`"
            ));
        }
    };
    match text("fieldsType").as_str() {
        "" | "FieldsV1" => {}
        other => return Err(format!("fieldsType: Invalid value: {other:?}: must be `FieldsV1`")),
    }
    let fields = match item.get("fieldsV1") {
        None | Some(Value::Null) => FieldSet::default(),
        Some(json) => fields_v1::from_json(json).map_err(|why| format!("fieldsV1: {why}"))?,
    };
    let time = Some(text("time")).filter(|time| !time.is_empty());
    let manager = Manager {
        name: text("manager"),
        operation,
        api_version: text("apiVersion"),
        subresource: text("subresource"),
    };
    Ok(Entry { manager, time, fields })
}

/// A list that asks to forget all managers: empty, or one empty entry.
pub fn is_reset(list: &Value) -> bool {
    let empty = |item: &Value| item.as_object().is_some_and(Map::is_empty);
    list.as_array().is_some_and(|items| match items.as_slice() {
        [] => true,
        [only] => empty(only) || *only == json!({"time": null}),
        _ => false,
    })
}
