//! Properties of all three patches, and the directives of the strategic one.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::strategic;
use super::{PatchError, json_patch, merge_patch};
use crate::logic::apply::tests::objects;
use crate::model::schema::{Field, Type, by_kind};

const KEYS: &[&str] = &["a", "b", "c", "d"];

fn shape() -> &'static Type {
    by_kind("apps/v1", "Deployment").unwrap()
}

/// What kubectl would send to make `new` of `old`.
fn difference(old: &Value, new: &Value, shape: &Type) -> Value {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return new.clone() };
    let mut patch = Map::new();
    for (name, before) in old {
        if !new.contains_key(name) {
            patch.insert(name.clone(), Value::Null);
        } else if new[name] != *before {
            field(name, before, &new[name], shape, &mut patch);
        }
    }
    for (name, after) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        patch.insert(name.clone(), after.clone());
    }
    Value::Object(patch)
}

fn field(name: &str, old: &Value, new: &Value, shape: &Type, patch: &mut Map<String, Value>) {
    let declared = shape.declared(name);
    match (declared.and_then(|field| field.merge_key), old, new) {
        (Some(""), Value::Array(old), Value::Array(new)) => {
            let gone: Vec<&Value> = old.iter().filter(|item| !new.contains(item)).collect();
            let come: Vec<&Value> = new.iter().filter(|item| !old.contains(item)).collect();
            patch.insert(format!("$deleteFromPrimitiveList/{name}"), json!(gone));
            patch.insert(format!("$setElementOrder/{name}"), json!(new));
            patch.insert(name.to_owned(), json!(come));
        }
        (Some(key), Value::Array(old), Value::Array(new)) => {
            let Some(Field { shape: Type::List { element, .. }, .. }) = declared else {
                panic!("{name} has a merge key and is no list")
            };
            let twin = |item: &Value, list: &[Value]| {
                list.iter().find(|other| other[key] == item[key]).cloned()
            };
            let mut changes: Vec<Value> = Vec::new();
            for item in new {
                match twin(item, old) {
                    None => changes.push(item.clone()),
                    Some(before) if before == *item => {}
                    Some(before) => {
                        let mut change = difference(&before, item, element);
                        change[key] = item[key].clone();
                        changes.push(change);
                    }
                }
            }
            for item in old.iter().filter(|item| twin(item, new).is_none()) {
                changes.push(json!({key: item[key], "$patch": "delete"}));
            }
            let order: Vec<Value> = new.iter().map(|item| json!({key: item[key]})).collect();
            patch.insert(format!("$setElementOrder/{name}"), json!(order));
            patch.insert(name.to_owned(), json!(changes));
        }
        (_, Value::Object(_), Value::Object(_)) => {
            let inner = shape.field(name).unwrap_or(&Type::Any);
            patch.insert(name.to_owned(), difference(old, new, inner));
        }
        _ => {
            patch.insert(name.to_owned(), new.clone());
        }
    }
}

/// Ports that the merge key of a strategic merge patch cannot tell apart are left out, as
/// Kubernetes' own patch cannot change one of them alone.
fn mergeable() -> impl Strategy<Value = Value> {
    objects(KEYS).prop_map(|mut object| {
        let containers = &mut object["spec"]["template"]["spec"]["containers"];
        for container in containers.as_array_mut().unwrap() {
            let mut seen = Vec::new();
            container["ports"].as_array_mut().unwrap().retain(|port| {
                let new = !seen.contains(&port["containerPort"]);
                seen.push(port["containerPort"].clone());
                new
            });
        }
        object
    })
}

fn merge_difference(old: &Value, new: &Value) -> Value {
    difference(old, new, &Type::Any)
}

proptest! {
    #[test]
    fn a_strategic_difference_applied_is_the_new_object(old in mergeable(), new in mergeable()) {
        let patch = difference(&old, &new, shape());
        let once = strategic::apply(&old, &patch, shape()).unwrap();
        prop_assert_eq!(&once, &new, "{}", patch);
        let twice = strategic::apply(&once, &patch, shape()).unwrap();
        prop_assert_eq!(twice, new);
    }

    #[test]
    fn a_json_patch_difference_applied_is_the_new_object(old in objects(KEYS), new in objects(KEYS)) {
        let patch = serde_json::to_value(json_patch::diff(&old, &new)).unwrap();
        prop_assert_eq!(json_patch(&old, &patch).unwrap(), new);
    }

    #[test]
    fn a_merge_difference_applied_is_the_new_object(old in objects(KEYS), new in objects(KEYS)) {
        let patch = merge_difference(&old, &new);
        let once = merge_patch(&old, &patch).unwrap();
        prop_assert_eq!(&once, &new);
        prop_assert_eq!(merge_patch(&once, &patch).unwrap(), new);
    }

    #[test]
    fn an_empty_patch_changes_nothing(object in objects(KEYS)) {
        prop_assert_eq!(&strategic::apply(&object, &json!({}), shape()).unwrap(), &object);
        prop_assert_eq!(&merge_patch(&object, &json!({})).unwrap(), &object);
        prop_assert_eq!(&json_patch(&object, &json!([])).unwrap(), &object);
    }

    #[test]
    fn any_patch_is_applied_or_refused(
        object in objects(KEYS),
        patch in wild(),
    ) {
        let _ = strategic::apply(&object, &patch, shape());
        let _ = merge_patch(&object, &patch);
        let _ = json_patch(&object, &patch);
    }
}

/// JSON with the words of patches in it, in and out of their places.
fn wild() -> impl Strategy<Value = Value> {
    let name = || {
        prop::sample::select(
            &[
                "spec",
                "template",
                "containers",
                "metadata",
                "labels",
                "finalizers",
                "name",
                "$patch",
                "$retainKeys",
                "$setElementOrder/containers",
                "ports",
                "env",
                "$deleteFromPrimitiveList/finalizers",
                "$setElementOrder/finalizers",
                "op",
                "path",
                "value",
                "from",
            ][..],
        )
    };
    let word = prop::sample::select(
        &["a", "delete", "replace", "merge", "add", "remove", "test", "move", "/spec", "/spec/-"][..],
    );
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    leaf.prop_recursive(7, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name(), inner, 0..4).prop_map(|map| map
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

fn in_pod(spec: Value) -> Value {
    json!({"spec": {"template": {"spec": spec}}})
}

fn pod_of(patched: &Value) -> &Value {
    &patched["spec"]["template"]["spec"]
}

#[test]
fn a_list_is_replaced_or_emptied_by_directive() {
    let old = in_pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    let replace = in_pod(json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}));
    let new = strategic::apply(&old, &replace, shape()).unwrap();
    assert_eq!(pod_of(&new)["containers"], json!([{"name": "c"}]));
    let empty = in_pod(json!({"containers": [{"$patch": "replace"}]}));
    let new = strategic::apply(&old, &empty, shape()).unwrap();
    assert_eq!(pod_of(&new)["containers"], json!([]));
}

#[test]
fn an_element_is_replaced_or_merged_by_directive() {
    let old = in_pod(json!({"containers": [{"name": "a", "image": "a:1", "tty": true}]}));
    let replace =
        in_pod(json!({"containers": [{"$patch": "replace", "name": "a", "image": "a:2"}]}));
    let new = strategic::apply(&old, &replace, shape()).unwrap();
    assert_eq!(pod_of(&new)["containers"], json!([{"name": "a", "image": "a:2"}]));
    let merge = in_pod(json!({"containers": [{"$patch": "merge", "name": "a", "image": "a:2"}]}));
    let new = strategic::apply(&old, &merge, shape()).unwrap();
    assert_eq!(pod_of(&new)["containers"], json!([{"name": "a", "image": "a:2", "tty": true}]));
}

#[test]
fn a_map_is_replaced_or_emptied_by_directive() {
    let old = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
    let replace = json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}});
    let new = strategic::apply(&old, &replace, shape()).unwrap();
    assert_eq!(new["metadata"]["labels"], json!({"c": "3"}));
    let delete = json!({"metadata": {"labels": {"$patch": "delete"}}});
    let new = strategic::apply(&old, &delete, shape()).unwrap();
    assert_eq!(new["metadata"]["labels"], json!({}));
}

#[test]
fn a_volume_changes_its_source_and_keeps_no_other() {
    let old = in_pod(json!({"volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]}));
    let patch = in_pod(json!({"volumes": [
        {"$retainKeys": ["name", "configMap"], "name": "v", "configMap": {"name": "c"}}]}));
    let new = strategic::apply(&old, &patch, shape()).unwrap();
    assert_eq!(pod_of(&new)["volumes"], json!([{"name": "v", "configMap": {"name": "c"}}]));
    let contradiction = in_pod(json!({"volumes": [
        {"$retainKeys": ["name"], "name": "v", "configMap": {"name": "c"}}]}));
    let refused = strategic::apply(&old, &contradiction, shape()).unwrap_err();
    assert!(refused.to_string().contains("configMap is set and not named"), "{refused}");
}

#[test]
fn a_budgets_selector_is_replaced_as_a_whole() {
    let shape = by_kind("policy/v1", "PodDisruptionBudget").unwrap();
    let old = json!({"spec": {"selector": {"matchLabels": {"a": "1"}}}});
    let patch = json!({"spec": {"selector": {"matchLabels": {"b": "2"}}}});
    let new = strategic::apply(&old, &patch, shape).unwrap();
    assert_eq!(new["spec"]["selector"], json!({"matchLabels": {"b": "2"}}));
}

#[test]
fn bad_directives_name_their_place() {
    let old = in_pod(json!({"containers": [{"name": "a"}]}));
    for (patch, word) in [
        (in_pod(json!({"containers": [{"image": "x"}]})), "declared merge key: name"),
        (in_pod(json!({"containers": ["x"]})), "spec.template.spec.containers: expected an object"),
        (in_pod(json!({"$patch": "explode"})), "unknown $patch type: explode"),
        (in_pod(json!({"$patch": 1})), "unknown $patch type"),
        (in_pod(json!({"$setElementOrder/containers": "a"})), "the order must be a list"),
        (in_pod(json!({"$retainKeys": "a"})), "$retainKeys must be a list"),
    ] {
        let refused = strategic::apply(&old, &patch, shape()).unwrap_err();
        assert!(refused.to_string().contains(word), "{patch}: {refused}");
    }
    assert!(matches!(strategic::apply(&old, &json!([]), shape()), Err(PatchError::NotAnObject)));
}

#[test]
fn a_json_patch_is_done_whole_or_not_at_all() {
    let old = json!({"a": {"b": [1, 2]}, "x/y": 1, "t~": 2});
    let both = json!([
        {"op": "remove", "path": "/a/b/0"},
        {"op": "test", "path": "/a/b/0", "value": 9},
    ]);
    assert!(matches!(json_patch(&old, &both), Err(PatchError::Operation(_))));
    let escaped = json!([
        {"op": "replace", "path": "/x~1y", "value": 5},
        {"op": "move", "from": "/t~0", "path": "/a/c"},
        {"op": "add", "path": "/a/b/-", "value": 3},
        {"op": "copy", "from": "/a/b", "path": "/d"},
    ]);
    let expected = json!({"a": {"b": [1, 2, 3], "c": 2}, "x/y": 5, "d": [1, 2, 3]});
    assert_eq!(json_patch(&old, &escaped).unwrap(), expected);
    assert!(matches!(json_patch(&old, &json!({"op": "add"})), Err(PatchError::NotOperations(_))));
    let unknown = json!([{"op": "explode", "path": "/a"}]);
    assert!(matches!(json_patch(&old, &unknown), Err(PatchError::NotOperations(_))));
    let missing = json!([{"op": "remove", "path": "/nope"}]);
    assert!(matches!(json_patch(&old, &missing), Err(PatchError::Operation(_))));
}

#[test]
fn a_merge_patch_deletes_by_null_and_replaces_lists() {
    let old = json!({"a": {"b": 1, "c": [1, 2]}, "d": 1});
    let patch = json!({"a": {"b": null, "c": [3], "e": {"f": null, "g": 1}}, "d": {"h": 1}});
    let expected = json!({"a": {"c": [3], "e": {"g": 1}}, "d": {"h": 1}});
    assert_eq!(merge_patch(&old, &patch).unwrap(), expected);
    for wrong in [json!([]), json!("x"), json!(null), json!(1)] {
        assert!(matches!(merge_patch(&old, &wrong), Err(PatchError::NotAnObject)));
    }
}
