//! What a definition makes of objects, without a server.

use serde_json::{Value, json};

use super::super::{Kind, Problems, Subresource};
use super::read;
use crate::model::schema::{ListKind, Scalar, Type};

const DATABASES: &str = include_str!("databases.yaml");

pub(crate) fn databases() -> Value {
    serde_saphyr::from_str(DATABASES).unwrap()
}

fn kind_of(definition: &Value) -> &'static Kind {
    let version = read(definition).unwrap().into_iter().next().unwrap();
    version.identity.keep(version.custom)
}

/// Decoded, filled in, and what is wrong with it.
fn made(kind: &Kind, object: Value) -> (Value, Vec<String>) {
    let mut object = kind.decode(object).unwrap();
    kind.default(&mut object);
    let mut problems = Problems::default();
    kind.validate(&object, &mut problems);
    let texts = problems.into_causes().into_iter();
    (object, texts.map(|cause| format!("{}: {}", cause.field, cause.message)).collect())
}

fn database(spec: Value) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "Database",
        "metadata": {"name": "d"}, "spec": spec})
}

#[test]
fn the_newest_version_comes_first_and_has_its_parts() {
    let versions = read(&databases()).unwrap();
    let said: Vec<_> = versions.iter().map(|one| (one.served, one.stored)).collect();
    assert_eq!(said, [(true, true), (true, false)]);
    assert_eq!(versions[0].identity.definition(), "databases.stable.example.com");
    let kind = kind_of(&databases());
    assert_eq!((kind.kind, kind.version, kind.namespaced), ("Database", "v1", true));
    assert!(kind.has(Subresource::Status) && kind.has(Subresource::Scale));
    assert_eq!(kind.fields.last().unwrap().pointer, "/spec/engine");
    assert_eq!(kind.list_kind(), "DatabaseList");
    let scale = kind.custom().unwrap().scale.clone().unwrap();
    assert_eq!(
        (scale.spec.as_str(), scale.selector.as_deref()),
        ("/spec/replicas", Some("/status/selector"))
    );
}

#[test]
fn objects_are_pruned_and_filled_in() {
    let sent = json!({"apiVersion": "stable.example.com/v1", "kind": "Database", "extra": 1,
        "metadata": {"name": "d", "colour": "red"},
        "spec": {"engine": "mysql", "colour": "blue", "replicas": null,
            "storage": {"class": null, "speed": 9},
            "users": [{"name": "a", "age": 3}],
            "labels": {"tier": "gold"},
            "settings": {"any": {"thing": [1, null]}},
            "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "wrong": 1},
                "spec": {"free": true}}},
        "status": {"host": "h", "more": 1}});
    let (object, problems) = made(kind_of(&databases()), sent);
    assert_eq!(problems, Vec::<String>::new());
    let wanted = json!({"apiVersion": "stable.example.com/v1", "kind": "Database",
        "metadata": {"name": "d"},
        "spec": {"engine": "mysql", "replicas": 1,
            "storage": {"class": null, "size": "1Gi"},
            "users": [{"name": "a"}],
            "labels": {"tier": "gold"},
            "settings": {"any": {"thing": [1, null]}},
            "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
                "spec": {"free": true}}},
        "status": {"host": "h"}});
    assert_eq!(object, wanted);
    let kind = kind_of(&databases());
    assert_eq!(made(kind, object.clone()).0, object, "nothing changes the second time");
    let wrong = json!({"metadata": {"name": "d", "labels": 1}, "spec": {}});
    assert!(kind.decode(wrong).unwrap_err().to_string().contains("expected a map in \"labels\""));
}

#[test]
fn problems_are_told_in_kubernetes_words() {
    let kind = kind_of(&databases());
    let (_, problems) = made(kind, json!({"metadata": {"name": "d"}}));
    assert_eq!(problems, ["spec: Required value"]);
    for (spec, wanted) in [
        (json!({}), r#"spec.engine: Required value"#),
        (
            json!({"engine": "oracle"}),
            r#"spec.engine: Unsupported value: "oracle": supported values: "postgres", "mysql""#,
        ),
        (
            json!({"engine": 5}),
            r#"spec.engine: Invalid value: "integer": spec.engine in body must be of type string: "integer""#,
        ),
        (
            json!({"engine": "mysql", "replicas": "two"}),
            r#"spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string""#,
        ),
        (
            json!({"engine": "mysql", "replicas": 8}),
            "spec.replicas: Invalid value: 8: spec.replicas in body should be less than or equal to 7",
        ),
        (
            json!({"engine": "mysql", "replicas": 0}),
            "spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1",
        ),
        (
            json!({"engine": "mysql", "version": "x"}),
            r#"spec.version: Invalid value: "x": spec.version in body should match '^\d+(\.\d+)?$'"#,
        ),
        (
            json!({"engine": "mysql", "storage": {"size": "big"}}),
            r#"spec.storage.size: Invalid value: "big": spec.storage.size in body should match '^(\d+)(Mi|Gi)?$'"#,
        ),
        (
            json!({"engine": "mysql", "storage": {"size": []}}),
            r#"spec.storage.size: Invalid value: "array": spec.storage.size in body must be of type integer,string: "array""#,
        ),
        (
            json!({"engine": "mysql", "users": [{"name": ""}]}),
            r#"spec.users[0].name: Invalid value: "": spec.users[0].name in body should be at least 1 chars long"#,
        ),
        (
            json!({"engine": "mysql", "users": [{"name": "abcdefghijklmnopq"}]}),
            "spec.users[0].name: Too long: may not be more than 16 bytes",
        ),
        (
            json!({"engine": "mysql", "users": [{"name": "a"}, {"name": "a"}]}),
            r#"spec.users[1]: Duplicate value: {"name":"a"}"#,
        ),
        (
            json!({"engine": "mysql", "users": [{"name": "a", "rights": ["r", "r"]}]}),
            r#"spec.users[0].rights[1]: Duplicate value: "r""#,
        ),
        (
            json!({"engine": "mysql", "users": [{"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "d"}, {"name": "e"}]}),
            "spec.users: Too many: 5: must have at most 4 items",
        ),
        (
            json!({"engine": "mysql", "labels": {"a": 1}}),
            r#"spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer""#,
        ),
        (
            json!({"engine": "mysql", "source": {"url": "no uri", "backup": null}}),
            r#"spec.source.url: Invalid value: "no uri": spec.source.url in body must be of type uri: "no uri""#,
        ),
        (
            json!({"engine": "mysql", "source": {"url": "a:b", "backup": "b"}}),
            r#"<nil>: Invalid value: "": "spec.source" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
        ),
        (
            json!({"engine": "mysql", "template": {"spec": 1}}),
            "spec.template.apiVersion: Required value: must not be empty",
        ),
    ] {
        let (_, problems) = made(kind, database(spec));
        assert!(problems.iter().any(|problem| problem == wanted), "{wanted}\nin {problems:#?}");
    }
    let (_, problems) = made(kind, database(json!({"engine": "mysql", "source": {}})));
    assert_eq!(
        problems[0],
        r#"<nil>: Invalid value: "": "spec.source" must validate one and only one schema (oneOf). Found none valid"#
    );
    assert!(problems.contains(&"spec.source.backup: Required value".to_owned()), "{problems:?}");
}

#[test]
fn what_did_not_change_is_not_judged_again() {
    let kind = kind_of(&databases());
    let old = database(json!({"engine": "oracle", "replicas": 9, "users": [{"name": ""}]}));
    let change = |new: &Value| {
        let mut problems = Problems::default();
        kind.validate_change(&old, new, false, &mut problems);
        problems.into_causes().into_iter().map(|cause| cause.field).collect::<Vec<_>>()
    };
    let mut new = old.clone();
    new["spec"]["version"] = "1".into();
    new["spec"]["users"] = json!([{"name": "x"}, {"name": ""}]);
    assert_eq!(change(&new), Vec::<String>::new());
    new["spec"]["replicas"] = 10.into();
    assert_eq!(change(&new), ["spec.replicas"]);
}

#[test]
fn apply_knows_its_lists_and_open_places_take_everything() {
    let shape = kind_of(&databases()).schema();
    let users = shape.field("spec").unwrap().declared("users").unwrap();
    let Type::List { kind: listed, element } = &users.shape else { panic!("{users:?}") };
    assert_eq!(*listed, ListKind::Map(vec!["name"]));
    let rights = &element.declared("rights").unwrap().shape;
    assert!(matches!(rights, Type::List { kind: ListKind::Set, .. }), "{rights:?}");
    let spec = shape.field("spec").unwrap();
    assert_eq!(spec.field("colour"), None);
    assert_eq!(spec.field("settings").unwrap().field("any"), Some(&Type::Any));
    assert!(spec.field("template").unwrap().field("metadata").unwrap().field("labels").is_some());
    assert_eq!(
        spec.field("storage").unwrap().field("size"),
        Some(&Type::Scalar(Scalar::IntOrString, ""))
    );
}

#[test]
fn columns_show_what_paths_find() {
    let kind = kind_of(&databases());
    let custom = kind.custom().unwrap();
    let names: Vec<_> = custom.column_definitions().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["Name", "Engine", "Replicas", "Ready", "Host", "Age"]);
    let mut object = database(json!({"engine": "mysql", "replicas": 3}));
    object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    object["status"] = json!({"conditions": [{"type": "Other", "status": "True"}, {"type": "Ready", "status": "False"}]});
    let now = "2026-01-01T00:05:00Z".parse().unwrap();
    let cells = custom.cells(&object, now);
    assert_eq!(json!(cells), json!(["d", "mysql", 3, "False", null, "5m"]));
}

#[test]
fn versions_differ_in_their_name_alone() {
    let versions = read(&databases()).unwrap();
    let old = versions[1].identity.keep(versions[1].custom.clone());
    let mut object = database(json!({"engine": "mysql"}));
    old.load(&mut object);
    assert_eq!(object["apiVersion"], "stable.example.com/v1beta1");
    old.store(&mut object);
    assert_eq!(object["apiVersion"], "stable.example.com/v1");
    assert_eq!(
        versions[1].custom.deprecation.as_deref(),
        Some("stable.example.com/v1beta1 Database is deprecated; use v1")
    );
    // What a newer schema fills in is there on objects that are older.
    let new = kind_of(&databases());
    new.load(&mut object);
    assert_eq!(object["spec"]["replicas"], 1);
}
