//! The rules of server-side apply, by example and by property.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::compare::compare;
use super::fields_v1;
use super::fieldset::FieldSet;
use super::managed::{Managed, Manager, Operation};
use super::merge::merge;
use super::remove::remove;
use super::rules::{Applied, Apply, ApplyError, update};
use super::to_set;
use crate::model::schema::{Type, by_kind};

const NOW: &str = "2026-01-01T00:00:00Z";
const LATER: &str = "2026-01-02T00:00:00Z";

fn shape() -> &'static Type {
    by_kind("apps/v1", "Deployment").unwrap()
}

fn manager(name: &str, operation: Operation) -> Manager {
    Manager {
        name: name.into(),
        operation,
        api_version: "apps/v1".into(),
        subresource: String::new(),
    }
}

fn apply_at(
    state: &(Option<Value>, Managed),
    who: &str,
    config: &Value,
    force: bool,
    now: &str,
) -> Result<(Option<Value>, Managed), ApplyError> {
    let applier = manager(who, Operation::Apply);
    let live = state.0.as_ref();
    let apply = Apply { live, config, shape: shape(), applier: &applier, force, now };
    let Applied { object, managed } = apply.run(state.1.clone())?;
    Ok((Some(object), managed))
}

fn apply(
    state: &(Option<Value>, Managed),
    who: &str,
    config: &Value,
) -> Result<(Option<Value>, Managed), ApplyError> {
    apply_at(state, who, config, false, NOW)
}

fn updated(state: &(Option<Value>, Managed), who: &str, new: Value) -> (Option<Value>, Managed) {
    let writer = manager(who, Operation::Update);
    let managed = update(state.1.clone(), state.0.as_ref(), &new, shape(), &writer, NOW);
    (Some(new), managed)
}

fn owned(state: &(Option<Value>, Managed), who: &str, operation: Operation) -> Value {
    state.1.fields_of(&manager(who, operation)).map_or(Value::Null, fields_v1::to_json)
}

fn deployment(replicas: i64, containers: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": containers}}},
    })
}

#[test]
fn a_conflict_is_told_in_kubernetes_words_and_force_takes_the_field() {
    let first = apply(&(None, Managed::default()), "one", &deployment(1, json!([]))).unwrap();
    let first = updated(&first, "kubectl-scale", deployment(3, json!([])));
    let refused = apply(&first, "one", &deployment(1, json!([]))).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-scale\" using apps/v1: .spec.replicas"
    );
    let forced = apply_at(&first, "one", &deployment(1, json!([])), true, NOW).unwrap();
    assert_eq!(forced.0.as_ref().unwrap()["spec"]["replicas"], 1);
    assert_eq!(owned(&forced, "kubectl-scale", Operation::Update), Value::Null);
    let shared = apply(&forced, "two", &deployment(1, json!([]))).unwrap();
    for who in ["one", "two"] {
        assert_eq!(owned(&shared, who, Operation::Apply)["f:spec"]["f:replicas"], json!({}));
    }
    let refused = apply(&shared, "one", &deployment(5, json!([]))).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"two\": .spec.replicas"
    );
}

#[test]
fn several_conflicts_are_grouped_by_manager() {
    let container = |image: &str| json!([{"name": "a", "image": image}]);
    let first =
        apply(&(None, Managed::default()), "one", &deployment(1, container("a:1"))).unwrap();
    let refused = apply(&first, "two", &deployment(2, container("a:2"))).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.replicas\n- .spec.template.spec.containers[name=\"a\"].image"
    );
}

#[test]
fn what_an_applier_says_no_more_goes_unless_another_owns_it() {
    let both = json!([{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]);
    let state = apply(&(None, Managed::default()), "one", &deployment(1, both.clone())).unwrap();
    let env = json!([{"name": "b", "env": [{"name": "K", "value": "V"}]}]);
    let extra = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "spec": {"template": {"spec": {"containers": env}}}});
    let state = apply(&state, "two", &extra).unwrap();
    let only_a = json!([{"name": "a", "image": "a:1"}]);
    let state = apply(&state, "one", &deployment(1, only_a.clone())).unwrap();
    // The element stays for the other's sake, without what was the first one's alone.
    let containers = &state.0.as_ref().unwrap()["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[0], only_a[0]);
    assert_eq!(containers[1], json!({"name": "b", "env": [{"name": "K", "value": "V"}]}));
    let nothing = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
    let state = apply(&state, "two", &nothing).unwrap();
    assert_eq!(state.0.as_ref().unwrap(), &deployment(1, only_a));
    assert_eq!(owned(&state, "two", Operation::Apply), Value::Null);
}

#[test]
fn ports_with_one_number_are_told_apart_by_protocol_and_its_default() {
    let ports = |list: Value| deployment(1, json!([{"name": "a", "ports": list}]));
    let dns = ports(json!([{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]));
    let state = apply(&(None, Managed::default()), "one", &dns).unwrap();
    let fields = owned(&state, "one", Operation::Apply);
    let fields = fields
        .pointer("/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"a\"}/f:ports")
        .unwrap();
    assert!(fields.get("k:{\"containerPort\":53,\"protocol\":\"TCP\"}").is_some(), "{fields}");
    assert!(fields.get("k:{\"containerPort\":53,\"protocol\":\"UDP\"}").is_some(), "{fields}");
    let twice = ports(json!([{"containerPort": 53}, {"containerPort": 53, "protocol": "TCP"}]));
    let refused = apply(&state, "one", &twice).unwrap_err().to_string();
    assert!(
        refused.contains(".ports: duplicate entries for key [containerPort=53,protocol=\"TCP\"]"),
        "{refused}"
    );
}

#[test]
fn misshapen_configurations_are_named_field_by_field() {
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {
        "replicaz": 1, "replicas": "three", "template": {"spec": {"containers": [{"image": "x"}]}}}});
    let refused = apply(&(None, Managed::default()), "one", &config).unwrap_err();
    let ApplyError::Invalid(problems) = refused else { panic!("{refused:?}") };
    assert_eq!(
        problems,
        [
            ".spec.replicaz: field not declared in schema",
            ".spec.replicas: expected numeric (int or float), got \"three\"",
            ".spec.template.spec.containers: element 0: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)",
        ]
    );
}

#[test]
fn the_first_apply_to_an_old_object_names_its_owner() {
    let state = (Some(deployment(2, json!([{"name": "a", "image": "a:1"}]))), Managed::default());
    let refused = apply(&state, "one", &deployment(3, json!([]))).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using apps/v1: .spec.replicas"
    );
    let same = apply(&state, "one", &deployment(2, json!([]))).unwrap();
    assert_eq!(same.0, state.0);
    assert_eq!(
        owned(&same, "before-first-apply", Operation::Update)["f:spec"]["f:replicas"],
        json!({})
    );
}

#[test]
fn kubectl_takes_over_what_its_older_apply_wrote() {
    let config = deployment(2, json!([{"name": "a", "image": "a:1"}]));
    let mut live = config.clone();
    live["metadata"]["annotations"] = json!({
        "kubectl.kubernetes.io/last-applied-configuration": config.to_string()});
    let state = updated(&(None, Managed::default()), "kubectl-client-side-apply", live);
    let next = deployment(5, json!([{"name": "a", "image": "a:2"}]));
    assert!(matches!(apply(&state, "other", &next), Err(ApplyError::Conflicts(_))));
    let taken = apply(&state, "kubectl", &next).unwrap();
    let object = taken.0.unwrap();
    assert_eq!(object["spec"]["replicas"], 5);
    let last =
        object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
            .as_str()
            .unwrap();
    assert_eq!(serde_json::from_str::<Value>(last).unwrap(), next);
}

#[test]
fn more_updaters_than_ten_are_put_together_and_lose_nothing() {
    let mut state = (None, Managed::default());
    let mut labels = serde_json::Map::new();
    for number in 0..15 {
        labels.insert(format!("l{number:02}"), "x".into());
        let new = json!({"metadata": {"labels": labels.clone()}});
        state = updated(&state, &format!("writer-{number:02}"), new);
    }
    assert_eq!(state.1.entries().len(), 10);
    let all = fields_v1::to_json(&state.1.owned());
    for name in labels.keys() {
        assert!(all["f:metadata"]["f:labels"].get(format!("f:{name}")).is_some(), "{name}: {all}");
    }
    assert!(state.1.entries().iter().any(|entry| entry.manager.name == "ancient-changes"));
}

#[test]
fn an_apply_that_changes_nothing_keeps_its_time() {
    let config = deployment(1, json!([{"name": "a"}]));
    let state = apply(&(None, Managed::default()), "one", &config).unwrap();
    assert_eq!(apply_at(&state, "one", &config, false, LATER).unwrap(), state);
    let changed = apply_at(&state, "one", &deployment(2, json!([])), false, LATER).unwrap();
    assert_eq!(changed.1.entries()[0].time.as_deref(), Some(LATER));
}

#[test]
fn elements_keep_the_order_that_the_configuration_gives() {
    let live = deployment(1, json!([{"name": "x"}, {"name": "b"}, {"name": "a"}, {"name": "y"}]));
    let config = deployment(1, json!([{"name": "a"}, {"name": "n"}, {"name": "b"}]));
    let merged = merge(&live, &config, shape());
    let names: Vec<&str> = merged["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|container| container["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["x", "a", "y", "n", "b"]);
}

/// Deployments over a few names, so that they meet often; `keys` are the letters that
/// labels, containers and variables may have.
pub(in crate::logic) fn objects(keys: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let key = move || prop::sample::select(keys);
    let word = || prop::sample::select(&["1", "2", "3"][..]);
    let map = move || prop::collection::btree_map(key(), word(), 0..3);
    let env = move || {
        prop::collection::btree_map(key(), word(), 0..3).prop_map(|map| {
            map.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
        })
    };
    let ports = prop::collection::btree_set((80..82_i64, prop::bool::ANY), 0..3).prop_map(|set| {
        set.into_iter()
            .map(|(port, udp)| match udp {
                true => json!({"containerPort": port, "protocol": "UDP"}),
                false => json!({"containerPort": port}),
            })
            .collect::<Value>()
    });
    let container = (env(), ports, prop::option::of(word()), prop::collection::vec(word(), 0..2));
    let containers = prop::collection::vec((key(), container), 0..3).prop_map(|list| {
        let mut seen = std::collections::BTreeSet::new();
        let list = list.into_iter().filter(|(name, _)| seen.insert(*name));
        list.map(|(name, (env, ports, image, args)): (_, (Value, _, _, _))| {
            let mut fields = json!({"name": name, "env": env, "ports": ports, "args": args});
            if let Some(image) = image {
                fields["image"] = image.into();
            }
            fields
        })
        .collect::<Value>()
    });
    let finalizers = prop::collection::btree_set(key(), 0..3);
    (map(), finalizers, containers, map()).prop_map(|(labels, finalizers, containers, nodes)| {
        let finalizers: Vec<String> = finalizers.iter().map(|name| format!("x/{name}")).collect();
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "d", "labels": labels, "finalizers": finalizers},
            "spec": {"template": {"spec": {"containers": containers, "nodeSelector": nodes}}},
        })
    })
}

/// Without what a set could not tell apart: empty lists and maps, null, order of elements.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), normal(value)));
            let mut fields: Vec<(String, Value)> =
                fields.filter(|(_, value)| !value.is_null()).collect();
            fields.sort_by(|left, right| left.0.cmp(&right.0));
            if fields.is_empty() {
                Value::Null
            } else {
                Value::Object(fields.into_iter().collect())
            }
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(normal).collect();
            items.sort_by_key(Value::to_string);
            if items.is_empty() { Value::Null } else { Value::Array(items) }
        }
        other => other.clone(),
    }
}

const LEFT: &[&str] = &["a", "b", "c"];
const RIGHT: &[&str] = &["k", "l", "m"];

proptest! {
    #[test]
    fn field_sets_survive_json(object in objects(LEFT)) {
        let set = to_set::of(&object, shape());
        prop_assert_eq!(fields_v1::from_json(&fields_v1::to_json(&set)), Ok(set));
    }

    #[test]
    fn sets_obey_algebra(left in objects(LEFT), right in objects(LEFT)) {
        let (left, right) = (to_set::of(&left, shape()), to_set::of(&right, shape()));
        let both = left.intersection(&right);
        let all = left.clone().union(&right);
        prop_assert_eq!(&left.difference(&right).union(&both), &left);
        prop_assert_eq!(&all, &right.clone().union(&left));
        prop_assert_eq!(all.difference(&right).union(&both), left.clone());
        prop_assert!(left.difference(&left).is_empty());
        prop_assert_eq!(both.difference(&right), FieldSet::default());
    }

    #[test]
    fn comparing_with_itself_finds_nothing(object in objects(LEFT)) {
        prop_assert_eq!(compare(Some(&object), &object, shape()), Default::default());
    }

    #[test]
    fn a_merge_says_all_that_the_configuration_says(live in objects(LEFT), config in objects(LEFT)) {
        let merged = merge(&live, &config, shape());
        let found = compare(Some(&config), &merged, shape());
        prop_assert_eq!((found.removed, found.modified), Default::default());
        let found = compare(Some(&live), &merged, shape());
        prop_assert!(found.removed.is_empty());
        prop_assert_eq!(merge(&merged, &config, shape()), merged);
    }

    #[test]
    fn removing_every_field_leaves_nothing_of_them(object in objects(LEFT)) {
        let set = to_set::of(&object, shape());
        let rest = remove(&object, &set.with_named_fields(shape()), shape());
        prop_assert_eq!(normal(&rest), Value::Null);
    }

    #[test]
    fn applying_twice_is_applying_once(live in objects(LEFT), config in objects(LEFT)) {
        let start = updated(&(None, Managed::default()), "someone", live);
        let once = apply_at(&start, "one", &config, true, NOW).unwrap();
        let twice = apply_at(&once, "one", &config, false, LATER).unwrap();
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn an_applier_owns_what_it_says_and_no_more(live in objects(LEFT), config in objects(LEFT)) {
        let start = updated(&(None, Managed::default()), "someone", live);
        let after = apply_at(&start, "one", &config, true, NOW).unwrap();
        let own = after.1.fields_of(&manager("one", Operation::Apply)).cloned().unwrap_or_default();
        prop_assert!(own.difference(&to_set::of(&config, shape())).is_empty());
        // The live object has what is owned, and nobody owns what is not there.
        let there = to_set::of(after.0.as_ref().unwrap(), shape()).with_named_fields(shape());
        let lost = after.1.owned().difference(&there).paths();
        let lost: Vec<String> = lost.iter().map(|path| super::path::print(path)).collect();
        prop_assert!(lost.iter().all(|path| config_says_empty(&config, path)), "{:?}", lost);
    }

    #[test]
    fn appliers_of_different_fields_commute(left in objects(LEFT), right in objects(RIGHT)) {
        let (mut left, mut right) = (left, right);
        // One value for all of them: what is atomic only one of the two may say.
        right["spec"]["template"]["spec"].as_object_mut().unwrap().shift_remove("nodeSelector");
        for one in [&mut left, &mut right] {
            one["metadata"].as_object_mut().unwrap().shift_remove("name");
        }
        let none = (None, Managed::default());
        let one = apply(&apply(&none, "left", &left).unwrap(), "right", &right).unwrap();
        let two = apply(&apply(&none, "right", &right).unwrap(), "left", &left).unwrap();
        prop_assert_eq!(normal(&one.0.unwrap()), normal(&two.0.unwrap()));
        prop_assert_eq!(one.1.to_json(), two.1.to_json());
    }

    #[test]
    fn an_applier_that_leaves_leaves_no_trace(live in objects(LEFT), config in objects(RIGHT)) {
        let mut config = config;
        config["spec"]["template"]["spec"].as_object_mut().unwrap().shift_remove("nodeSelector");
        let start = updated(&(None, Managed::default()), "someone", live);
        let with = apply(&start, "one", &config).unwrap();
        let nothing = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
        let without = apply(&with, "one", &nothing).unwrap();
        prop_assert_eq!(normal(without.0.as_ref().unwrap()), normal(start.0.as_ref().unwrap()));
        prop_assert_eq!(owned(&without, "one", Operation::Apply), Value::Null);
    }

    #[test]
    fn without_force_nothing_of_others_changes(live in objects(LEFT), config in objects(LEFT)) {
        let start = updated(&(None, Managed::default()), "someone", live);
        if let Ok(after) = apply(&start, "one", &config) {
            let writer = manager("someone", Operation::Update);
            let theirs = start.1.fields_of(&writer).cloned().unwrap_or_default();
            let found = compare(start.0.as_ref(), after.0.as_ref().unwrap(), shape());
            let touched = found.added.union(&found.modified).intersection(&theirs);
            prop_assert!(touched.is_empty(), "{:?}", touched.paths());
        }
    }

    #[test]
    fn any_json_is_read_or_refused(text in "\\PC{0,40}", depth in 0_usize..80) {
        let mut json = json!({text.clone(): {}, format!("k:{text}"): {}, format!("i:{text}"): {}});
        for _ in 0..depth {
            json = json!({"f:a": json});
        }
        let _ = fields_v1::from_json(&json);
        let _ = Managed::from_json(&json!([{"operation": text, "fieldsV1": json}]));
        let _ = super::check::check(&json, shape());
    }
}

/// An empty list or map in a configuration is owned and leaves nothing in the object.
fn config_says_empty(config: &Value, path: &str) -> bool {
    let pointer: String = path
        .split(['.', '['])
        .filter(|part| !part.is_empty())
        .map(|part| format!("/{part}"))
        .collect();
    match config.pointer(&pointer) {
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        // Inside a list: the generated elements hold empty lists of scalars only.
        _ => path.contains('['),
    }
}
