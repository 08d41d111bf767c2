//! Strategic merge patch: like a merge patch, but lists with a merge key merge by it.
//!
//! Source: apimachinery `pkg/util/strategicpatch`. `kubectl apply`, `edit`, `label`,
//! `set image` and `rollout restart` send it. Which lists merge, and by what, comes from
//! the table of types.
//!
//! Directives: `$patch: delete|replace|merge` in an object or list element,
//! `$retainKeys`, `$setElementOrder/FIELD`, `$deleteFromPrimitiveList/FIELD`.

use serde_json::{Map, Value};

use super::PatchError;
use crate::model::schema::Type;

type Fields = Map<String, Value>;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER_PREFIX: &str = "$setElementOrder/";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";

/// Applies `patch` to `document` by the merge keys of its type.
pub fn apply(document: &Value, patch: &Value, shape: &Type) -> Result<Value, PatchError> {
    let patch = patch.as_object().ok_or(PatchError::NotAnObject)?;
    let original = document.as_object().cloned().unwrap_or_default();
    let root = Place { shape: Some(shape), ..Place::default() };
    object(original, patch, &root, "").map(Value::Object)
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

fn wrong(path: &str, reason: impl Into<String>) -> PatchError {
    PatchError::Strategic { path: path.to_owned(), reason: reason.into() }
}

/// Identity of a list element under a merge key.
fn same(left: &Value, right: &Value, key: &str) -> bool {
    if key.is_empty() {
        return left == right;
    }
    match (left.get(key), right.get(key)) {
        (Some(left), Some(right)) => left == right,
        _ => false,
    }
}

/// What is known of the value at a path.
#[derive(Clone, Copy, Default)]
struct Place<'t> {
    shape: Option<&'t Type>,
    /// See [`crate::model::schema::Field::merge_key`].
    merge_key: Option<&'static str>,
    replace: bool,
}

impl<'t> Place<'t> {
    fn field(&self, name: &str) -> Place<'t> {
        let Some(shape) = self.shape else { return Place::default() };
        match shape.declared(name) {
            Some(field) => Place {
                shape: Some(&field.shape),
                merge_key: field.merge_key,
                replace: field.replace,
            },
            None => Place { shape: shape.field(name), ..Place::default() },
        }
    }

    fn element(&self) -> Place<'t> {
        match self.shape.map(Type::resolve) {
            Some(Type::List { element, .. }) => Place { shape: Some(element), ..Place::default() },
            _ => Place::default(),
        }
    }
}

fn object(
    mut original: Fields,
    patch: &Fields,
    place: &Place<'_>,
    path: &str,
) -> Result<Fields, PatchError> {
    match patch.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or_default()) {
        Some("replace") => return clean(patch, place, path),
        Some("delete") => return Ok(Fields::new()),
        Some("merge") | None => {}
        Some(other) => return Err(wrong(path, format!("unknown $patch type: {other}"))),
    }
    if let Some(keep) = patch.get(RETAIN_KEYS) {
        retain(&mut original, patch, keep, path)?;
    }
    for (field, change) in patch {
        if field == DIRECTIVE || field == RETAIN_KEYS || field.starts_with(ORDER_PREFIX) {
            continue;
        }
        if let Some(list) = field.strip_prefix(DELETE_PREFIX) {
            delete_scalars(&mut original, list, change);
            continue;
        }
        if change.is_null() {
            original.shift_remove(field);
            continue;
        }
        let before = original.get(field).cloned();
        let after = value(before, change, &place.field(field), &join(path, field))?;
        original.insert(field.clone(), after);
    }
    for (field, order) in patch {
        if let Some(list) = field.strip_prefix(ORDER_PREFIX) {
            let key = place.field(list).merge_key.unwrap_or_default();
            reorder(&mut original, list, order, key, path)?;
        }
    }
    Ok(original)
}

/// Of the fields that are there only the named ones stay; a patch that sets another one
/// contradicts itself.
fn retain(
    original: &mut Fields,
    patch: &Fields,
    keep: &Value,
    path: &str,
) -> Result<(), PatchError> {
    let keep = keep.as_array().ok_or_else(|| wrong(path, "$retainKeys must be a list"))?;
    let kept = |field: &str| keep.iter().any(|kept| kept == field);
    let plain = |field: &str| !field.starts_with('$');
    if let Some((field, _)) =
        patch.iter().find(|(field, value)| plain(field) && !value.is_null() && !kept(field))
    {
        return Err(wrong(path, format!("{field} is set and not named by $retainKeys")));
    }
    original.retain(|field, _| kept(field));
    Ok(())
}

fn value(
    before: Option<Value>,
    change: &Value,
    place: &Place<'_>,
    path: &str,
) -> Result<Value, PatchError> {
    match (before, change) {
        (Some(Value::Object(before)), Value::Object(change)) if !place.replace => {
            object(before, change, place, path).map(Value::Object)
        }
        (_, Value::Object(change)) => object(Fields::new(), change, place, path).map(Value::Object),
        (before, Value::Array(changes)) => {
            let before = match before {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            match place.merge_key {
                Some(key) => list(before, changes, key, &place.element(), path).map(Value::Array),
                None => Ok(change.clone()),
            }
        }
        (_, scalar) => Ok(scalar.clone()),
    }
}

fn list(
    mut items: Vec<Value>,
    changes: &[Value],
    key: &str,
    element: &Place<'_>,
    path: &str,
) -> Result<Vec<Value>, PatchError> {
    if key.is_empty() {
        for change in changes {
            if !items.contains(change) {
                items.push(change.clone());
            }
        }
        return Ok(items);
    }
    let is_replace = |change: &Value| {
        change.get(DIRECTIVE).and_then(Value::as_str) == Some("replace")
            && change.get(key).is_none()
    };
    if changes.iter().any(is_replace) {
        items = Vec::new();
    }
    for change in changes.iter().filter(|change| !is_replace(change)) {
        let fields = change.as_object().ok_or_else(|| wrong(path, "expected an object"))?;
        if !fields.contains_key(key) {
            let reason = format!("map: {change} does not contain declared merge key: {key}");
            return Err(wrong(path, reason));
        }
        if fields.get(DIRECTIVE).and_then(Value::as_str) == Some("delete") {
            items.retain(|item| !same(item, change, key));
            continue;
        }
        match items.iter_mut().find(|item| same(item, change, key)) {
            Some(item) => *item = value(Some(item.take()), change, element, path)?,
            None => items.push(value(None, change, element, path)?),
        }
    }
    Ok(items)
}

/// A replacing object without the directives inside it.
fn clean(patch: &Fields, place: &Place<'_>, path: &str) -> Result<Fields, PatchError> {
    let mut rest = patch.clone();
    rest.shift_remove(DIRECTIVE);
    object(Fields::new(), &rest, place, path)
}

/// Puts the elements named by `order` into that order; others keep their place
/// relative to those that were there before.
fn reorder(
    fields: &mut Fields,
    list: &str,
    order: &Value,
    key: &str,
    path: &str,
) -> Result<(), PatchError> {
    let Some(Value::Array(items)) = fields.get_mut(list) else { return Ok(()) };
    let order =
        order.as_array().ok_or_else(|| wrong(&join(path, list), "the order must be a list"))?;
    let place = |item: &Value| order.iter().position(|wanted| same(item, wanted, key));
    let mut listed: Vec<(usize, usize, Value)> = Vec::new();
    let mut others: Vec<(usize, Value)> = Vec::new();
    for (index, item) in items.drain(..).enumerate() {
        match place(&item) {
            Some(position) => listed.push((position, index, item)),
            None => others.push((index, item)),
        }
    }
    listed.sort_by_key(|(position, _, _)| *position);
    let mut others = others.into_iter().peekable();
    for (_, index, item) in listed {
        while let Some((_, other)) = others.next_if(|(before, _)| *before < index) {
            items.push(other);
        }
        items.push(item);
    }
    items.extend(others.map(|(_, item)| item));
    Ok(())
}

fn delete_scalars(fields: &mut Fields, list: &str, gone: &Value) {
    if let (Some(Value::Array(items)), Some(gone)) = (fields.get_mut(list), gone.as_array()) {
        items.retain(|item| !gone.contains(item));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::apply;
    use crate::model::schema::by_kind;

    fn patched(document: &Value, patch: &Value) -> Value {
        apply(document, patch, by_kind("apps/v1", "Deployment").unwrap()).unwrap()
    }

    fn containers(value: &Value) -> Value {
        value.pointer("/spec/template/spec/containers").cloned().unwrap_or_default()
    }

    fn with_containers(list: Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": list}}}})
    }

    #[test]
    fn containers_merge_by_name_and_ports_by_number() {
        let document = with_containers(json!([
            {"name": "a", "image": "a:1", "ports": [{"containerPort": 80, "name": "web"}]},
            {"name": "b", "image": "b:1"},
        ]));
        let patch = with_containers(json!([
            {"name": "a", "image": "a:2", "ports": [{"containerPort": 81}]},
            {"name": "c", "image": "c:1"},
            {"name": "b", "$patch": "delete"},
        ]));
        let expected = json!([
            {"name": "a", "image": "a:2",
             "ports": [{"containerPort": 80, "name": "web"}, {"containerPort": 81}]},
            {"name": "c", "image": "c:1"},
        ]);
        assert_eq!(containers(&patched(&document, &patch)), expected);
    }

    #[test]
    fn lists_without_a_key_are_replaced_and_nulls_delete() {
        let document = with_containers(json!([{"name": "a", "args": ["x", "y"], "tty": true}]));
        let patch = with_containers(json!([{"name": "a", "args": ["z"], "tty": null}]));
        let expected = json!([{"name": "a", "args": ["z"]}]);
        assert_eq!(containers(&patched(&document, &patch)), expected);
    }

    #[test]
    fn directives_replace_retain_order_and_delete() {
        let document = json!({
            "metadata": {"finalizers": ["x/a", "x/b"]},
            "spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
                "template": {"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}}});
        let patch = json!({
            "metadata": {"$deleteFromPrimitiveList/finalizers": ["x/a"]},
            "spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"},
                "template": {"spec": {
                    "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
                    "containers": [{"name": "c"}]}}}});
        let result = patched(&document, &patch);
        assert_eq!(result["metadata"]["finalizers"], json!(["x/b"]));
        assert_eq!(result["spec"]["strategy"], json!({"type": "Recreate"}));
        assert_eq!(containers(&result), json!([{"name": "c"}, {"name": "b"}, {"name": "a"}]));
    }
}
