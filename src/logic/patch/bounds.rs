//! What a JSON patch may make of a document.
//!
//! Why: `copy` makes much of little, and again of what it has made. 35 operations double a
//! document to more than any memory holds, 17 nest it deeper than any stack.

use json_patch::PatchOperation;
use serde_json::Value;

/// Operations of one patch, as Kubernetes.
const OPERATIONS_MAX: usize = 10_000;
/// Deepest nesting of what a patch makes; serde reads no deeper than this either.
const DEPTH_MAX: usize = 128;
/// Parts of values that all copies of one patch make.
const COPIED_MAX: usize = 3 * 1024 * 1024;

/// What the operations so far have used up.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    operations: usize,
    copied: usize,
}

impl Bounds {
    /// Lets an operation on the document pass, or says what it asks too much of.
    pub(super) fn admit(
        &mut self,
        document: &Value,
        operation: &PatchOperation,
    ) -> Result<(), &'static str> {
        self.operations += 1;
        if self.operations > OPERATIONS_MAX {
            return Err("it has more than 10000 operations");
        }
        let into = operation.path().as_str();
        let (weight, depth) = match operation {
            PatchOperation::Copy(copy) => {
                let (weight, depth) = measure(document.pointer(copy.from.as_str()));
                self.copied += weight;
                (self.copied, depth)
            }
            PatchOperation::Move(moved) => (0, measure(document.pointer(moved.from.as_str())).1),
            PatchOperation::Add(add) => (0, measure(Some(&add.value)).1),
            PatchOperation::Replace(replace) => (0, measure(Some(&replace.value)).1),
            PatchOperation::Remove(_) | PatchOperation::Test(_) => (0, 0),
        };
        if weight > COPIED_MAX {
            return Err("its copies make more than 3 MiB");
        }
        if depth + into.matches('/').count() > DEPTH_MAX {
            return Err("it nests values deeper than 128");
        }
        Ok(())
    }
}

/// Bytes and depth of a value, without recursion.
fn measure(value: Option<&Value>) -> (usize, usize) {
    let mut open: Vec<(&Value, usize)> = value.into_iter().map(|value| (value, 1)).collect();
    let (mut weight, mut deepest) = (0, 0);
    while let Some((value, depth)) = open.pop() {
        deepest = deepest.max(depth);
        weight += 16;
        match value {
            Value::String(text) => weight += text.len(),
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(fields) => {
                weight += fields.keys().map(String::len).sum::<usize>();
                open.extend(fields.values().map(|field| (field, depth + 1)));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    (weight, deepest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::logic::patch::{PatchError, json_patch};

    fn refused(patch: &serde_json::Value) -> &'static str {
        match json_patch(&json!({"data": {"k": "0123456789"}}), patch) {
            Err(PatchError::TooMuch(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn copies_of_copies_fill_no_memory() {
        let copy = |n: usize| json!({"op": "copy", "from": "/data", "path": format!("/data/x{n}")});
        let patch = (0..35).map(copy).collect();
        assert_eq!(refused(&patch), "its copies make more than 3 MiB");
    }

    #[test]
    fn copies_into_themselves_nest_no_deeper_than_a_stack() {
        let mut operations = vec![json!({"op": "add", "path": "/data/a", "value": {}})];
        for step in 0..17 {
            let path = format!("/data/a{}", "/a".repeat(1 << step));
            operations.push(json!({"op": "copy", "from": "/data/a", "path": path}));
        }
        assert_eq!(refused(&operations.into()), "it nests values deeper than 128");
    }

    #[test]
    fn endless_lists_are_refused_and_ordinary_ones_are_not() {
        let add = |n: usize| json!({"op": "add", "path": format!("/data/y{}", n % 7), "value": n});
        assert_eq!(refused(&(0..10_001).map(add).collect()), "it has more than 10000 operations");
        let patch = (0..10_000).map(add).collect();
        json_patch(&json!({"data": {}}), &patch).unwrap();
    }

    #[test]
    fn a_patch_that_fails_half_way_changes_nothing() {
        let before = json!({"a": 1});
        let patch = json!([{"op": "add", "path": "/b", "value": 2},
            {"op": "test", "path": "/a", "value": 3}]);
        assert!(json_patch(&before, &patch).is_err());
        assert_eq!(before, json!({"a": 1}));
    }
}
