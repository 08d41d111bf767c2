//! What a definition may say, and what is said of one that may not.

use serde_json::{Value, json};

use super::custom::{tests::databases, unenforced};
use super::{Kind, Problems, by_path};

fn definitions() -> &'static Kind {
    by_path("apiextensions.k8s.io", "v1", "customresourcedefinitions").unwrap()
}

fn filled(definition: Value) -> Value {
    let mut definition = definitions().decode(definition).unwrap();
    definitions().default(&mut definition);
    definition
}

fn problems_of(definition: Value) -> Vec<String> {
    let mut problems = Problems::default();
    definitions().validate(&filled(definition), &mut problems);
    let causes = problems.into_causes().into_iter();
    causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

/// A small definition, with a schema in it.
fn widgets(schema: Value) -> Value {
    json!({"metadata": {"name": "widgets.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": schema}}]}})
}

fn plain() -> Value {
    widgets(json!({"type": "object"}))
}

#[test]
fn a_real_definition_is_filled_in_and_let_through() {
    assert_eq!(problems_of(databases()), Vec::<String>::new());
    let mut made = filled(databases());
    (definitions().on_create)(&mut made);
    assert_eq!(made["spec"]["names"]["singular"], "database");
    assert_eq!(made["spec"]["names"]["listKind"], "DatabaseList");
    assert_eq!(made["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    let said = unenforced(&made);
    assert_eq!(
        said,
        [
            "1 x-kubernetes-validations (CEL) of version v1 are stored and published but not evaluated"
        ]
    );
    assert!(unenforced(&filled(plain())).is_empty());
}

#[test]
fn another_storage_version_joins_those_before() {
    let mut made = filled(databases());
    (definitions().on_create)(&mut made);
    made["spec"]["versions"][0]["storage"] = true.into();
    made["spec"]["versions"][1]["storage"] = false.into();
    let made = filled(made);
    assert_eq!(made["status"]["storedVersions"], json!(["v1", "v1beta1"]));
    let mut without = made.clone();
    without["spec"]["versions"].as_array_mut().unwrap().remove(1);
    let problems = problems_of(without);
    assert!(problems[0].starts_with(r#"status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was previously a storage version"#), "{problems:?}");
}

#[test]
fn names_scope_and_versions_are_judged() {
    assert_eq!(problems_of(plain()), Vec::<String>::new());
    for (pointer, value, wanted) in [
        (
            "/metadata/name",
            json!("gadgets.example.com"),
            r#"metadata.name: Invalid value: "gadgets.example.com": must be spec.names.plural+"."+spec.group"#,
        ),
        (
            "/spec/scope",
            json!("Global"),
            r#"spec.scope: Unsupported value: "Global": supported values: "Cluster", "Namespaced""#,
        ),
        ("/spec/scope", json!(""), "spec.scope: Required value"),
        (
            "/spec/group",
            json!("example"),
            r#"spec.group: Invalid value: "example": should be a domain with at least one dot"#,
        ),
        ("/spec/names/plural", json!("Widgets"), "spec.names.plural: Invalid value"),
        ("/spec/names/kind", json!(""), "spec.names.kind: Required value"),
        (
            "/spec/names/listKind",
            json!("Widget"),
            r#"spec.names.listKind: Invalid value: "Widget": kind and listKind may not be the same"#,
        ),
        ("/spec/names/shortNames", json!(["W!"]), "spec.names.shortNames[0]: Invalid value"),
        (
            "/spec/preserveUnknownFields",
            json!(true),
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true",
        ),
        (
            "/spec/conversion/strategy",
            json!("Webhook"),
            r#"spec.conversion.strategy: Unsupported value: "Webhook": supported values: "None""#,
        ),
        (
            "/spec/versions",
            json!([]),
            "spec.versions: Invalid value: []: must have at least one version",
        ),
        (
            "/spec/versions/0/storage",
            json!(false),
            r#"spec.versions: Invalid value: ["v1"]: must have exactly one version marked as storage version"#,
        ),
        ("/spec/versions/0/name", json!("V1"), "spec.versions[0].name: Invalid value"),
        (
            "/spec/versions/0/schema",
            json!({}),
            "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
        ),
        (
            "/spec/versions/0/additionalPrinterColumns",
            json!([{"name": "A", "type": "text", "jsonPath": ".a"}]),
            r#"spec.versions[0].additionalPrinterColumns[0].type: Invalid value: "text": must be one of integer,number,string,boolean,date"#,
        ),
        (
            "/spec/versions/0/additionalPrinterColumns",
            json!([{"name": "A", "type": "string", "jsonPath": "..a"}]),
            "spec.versions[0].additionalPrinterColumns[0].jsonPath: Invalid value",
        ),
        (
            "/spec/versions/0/subresources",
            json!({"scale": {"specReplicasPath": ".size", "statusReplicasPath": ".status.n"}}),
            r#"spec.versions[0].subresources.scale.specReplicasPath: Invalid value: ".size": should be a json path under .spec"#,
        ),
        (
            "/spec/versions/0/selectableFields",
            json!([{"jsonPath": ".spec.a[0]"}]),
            "spec.versions[0].selectableFields[0].jsonPath: Invalid value",
        ),
        (
            "/spec/versions/0/deprecationWarning",
            json!("old"),
            "spec.versions[0].deprecationWarning: Invalid value",
        ),
    ] {
        let mut definition = filled(plain());
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        definition.pointer_mut(parent).unwrap()[field] = value;
        let problems = problems_of(definition);
        assert!(problems.iter().any(|one| one.starts_with(wanted)), "{wanted}\nin {problems:#?}");
    }
}

#[test]
fn groups_of_kubernetes_are_protected() {
    let mut definition = plain();
    definition["metadata"]["name"] = "widgets.x.k8s.io".into();
    definition["spec"]["group"] = "x.k8s.io".into();
    let problems = problems_of(definition.clone());
    assert!(problems[0].starts_with(r#"metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation "api-approved.kubernetes.io""#), "{problems:?}");
    let approved = json!({"api-approved.kubernetes.io": "https://github.com/kubernetes/x/pull/1"});
    definition["metadata"]["annotations"] = approved.clone();
    assert_eq!(problems_of(definition.clone()), Vec::<String>::new());
    definition["metadata"]["name"] = "leases.coordination.k8s.io".into();
    definition["spec"]["group"] = "coordination.k8s.io".into();
    definition["spec"]["names"]["plural"] = "leases".into();
    let problems = problems_of(definition);
    assert_eq!(
        problems,
        [
            r#"metadata.name: Invalid value: "leases.coordination.k8s.io": is a resource of the cluster itself"#
        ]
    );
}

#[test]
fn schemas_must_be_structural() {
    let at = "spec.versions[0].schema.openAPIV3Schema";
    for (schema, wanted) in [
        (
            json!({"type": "string"}),
            r#".type: Invalid value: "string": must be object at the root"#,
        ),
        (
            json!({"x-kubernetes-preserve-unknown-fields": true}),
            ".type: Required value: must not be empty at the root",
        ),
        (
            json!({"type": "object", "properties": {"a": {}}}),
            ".properties[a].type: Required value: must not be empty for specified object fields",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array"}}}),
            ".properties[a].items: Required value: must be specified",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array", "items": {}}}}),
            ".properties[a].items.type: Required value: must not be empty for specified array items",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "text"}}}),
            r#".properties[a].type: Unsupported value: "text""#,
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string", "x-kubernetes-int-or-string": true}}}),
            r#".properties[a].type: Invalid value: "string": must be empty if x-kubernetes-int-or-string is true"#,
        ),
        (
            json!({"type": "object", "properties": {"a": {"$ref": "#/x"}}}),
            ".properties[a].$ref: Forbidden: $ref is not supported",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true, "items": {"type": "string"}}}}),
            ".properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true",
        ),
        (
            json!({"type": "object", "additionalProperties": false}),
            ".additionalProperties: Forbidden: additionalProperties cannot be set to false",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
            ".additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}),
            r#".properties[a].pattern: Invalid value: "(": must be a valid regular expression"#,
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "\\p{Greek}"}}}),
            ".properties[a].pattern: Invalid value",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}),
            r#".properties[a].default: Invalid value: "string""#,
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "object", "default": {"b": 1}}}}),
            r#".properties[a].default: Invalid value: {"b":1}: must not have unknown fields"#,
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "object", "x-kubernetes-preserve-unknown-fields": false}}}),
            ".properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
        ),
        (
            json!({"type": "object", "anyOf": [{"properties": {"a": {"type": "string"}}}], "properties": {"a": {"type": "string"}}}),
            ".anyOf[0].properties[a].type: Forbidden: must be empty to be structural",
        ),
        (
            json!({"type": "object", "anyOf": [{"properties": {"b": {"enum": ["x"]}}}]}),
            ".anyOf[0].properties[b]: Required value",
        ),
        (
            json!({"type": "object", "not": {"default": {}}}),
            ".not.default: Forbidden: must be undefined to be structural",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}}}}),
            ".properties[a].x-kubernetes-list-map-keys: Required value",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"], "items": {"type": "object", "properties": {"n": {"type": "string"}}}}}}),
            ".properties[a].items.properties[n].default: Required value: this property is in x-kubernetes-list-map-keys",
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            ".properties[metadata]: Forbidden: must not specify anything other than name and generateName",
        ),
    ] {
        let problems = problems_of(widgets(schema));
        let wanted = format!("{at}{wanted}");
        assert!(problems.iter().any(|one| one.starts_with(&wanted)), "{wanted}\nin {problems:#?}");
    }
}

#[test]
fn what_objects_rest_on_stays() {
    let mut old = filled(plain());
    (definitions().on_create)(&mut old);
    let mut new = old.clone();
    new["spec"]["scope"] = "Cluster".into();
    let change = |old: &Value, new: &Value| {
        let mut problems = Problems::default();
        definitions().validate_change(old, new, false, &mut problems);
        problems
            .into_causes()
            .into_iter()
            .map(|one| format!("{}: {}", one.field, one.message))
            .collect::<Vec<_>>()
    };
    assert_eq!(change(&old, &new), Vec::<String>::new(), "nobody made objects of it yet");
    old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
    assert_eq!(change(&old, &new), [r#"spec.scope: Invalid value: "Cluster": field is immutable"#]);
}
