//! The table says what Kubernetes says.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Kind, Problems, by_path, human_duration};

pub(super) fn kind(group: &str, plural: &str) -> &'static Kind {
    by_path(group, "v1", plural).expect("the kind is in the table")
}

pub(super) fn cells(kind: &Kind, object: &Value) -> Vec<String> {
    let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
    kind.columns
        .iter()
        .map(|column| match (column.cell)(object, now) {
            Value::String(text) => text,
            other => other.to_string(),
        })
        .collect()
}

pub(super) fn problems_of(kind: &Kind, object: Value) -> Vec<String> {
    let mut object = (kind.decode)(object).unwrap();
    (kind.default)(&mut object);
    let mut problems = Problems::default();
    super::validate_metadata(kind, &object, &mut problems);
    (kind.validate)(&object, &mut problems);
    problems
        .into_causes()
        .iter()
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect()
}

#[test]
fn ages_read_as_kubectl_writes_them() {
    for (seconds, text) in [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (11_520, "3h12m"),
        (28_800, "8h"),
        (172_800, "2d"),
        (363_600, "4d5h"),
        (691_200, "8d"),
        (63_072_000, "2y"),
        (-5, "<invalid>"),
    ] {
        assert_eq!(human_duration(seconds), text, "{seconds}");
    }
}

#[test]
fn a_crashing_pod_says_why() {
    let pod = json!({
        "metadata": {"name": "web", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}], "nodeName": "n1"},
        "status": {"phase": "Running", "podIP": "10.1.0.5", "containerStatuses": [
            {"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}},
            {"name": "b", "ready": false, "restartCount": 4,
             "state": {"waiting": {"reason": "CrashLoopBackOff"}},
             "lastState": {"terminated": {"finishedAt": "2026-01-01T00:58:00Z"}}},
        ]},
    });
    let expected = [
        "web",
        "1/2",
        "CrashLoopBackOff",
        "4 (2m ago)",
        "60m",
        "10.1.0.5",
        "n1",
        "<none>",
        "<none>",
    ];
    assert_eq!(cells(kind("", "pods"), &pod), expected);
}

#[test]
fn init_containers_completion_and_deletion_show_in_the_status() {
    let mut pod = json!({
        "metadata": {"name": "job"},
        "spec": {"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]},
        "status": {"phase": "Pending", "initContainerStatuses": [
            {"name": "i", "state": {"terminated": {"exitCode": 0}}},
            {"name": "j", "state": {"running": {}}},
        ]},
    });
    assert_eq!(cells(kind("", "pods"), &pod)[2], "Init:1/2");
    pod["status"] = json!({"phase": "Succeeded", "containerStatuses": [
        {"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]});
    assert_eq!(cells(kind("", "pods"), &pod)[1..3], ["0/1", "Completed"]);
    pod["status"]["phase"] = "Running".into();
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert_eq!(cells(kind("", "pods"), &pod)[2], "Terminating");
}

#[test]
fn defaults_are_idempotent_and_survive_decoding() {
    for kind in super::KINDS {
        let object = json!({"apiVersion": kind.api_version(), "kind": kind.kind,
            "metadata": {"name": "x"}, "spec": {}});
        let mut once = (kind.decode)(object).unwrap();
        (kind.default)(&mut once);
        let once = (kind.decode)(once).unwrap();
        let mut twice = (kind.decode)(once.clone()).unwrap();
        (kind.default)(&mut twice);
        assert_eq!(once, twice, "{}", kind.kind);
    }
}

#[test]
fn a_wrong_deployment_names_every_field() {
    let found = problems_of(
        kind("apps", "deployments"),
        json!({"metadata": {"name": "Web"}, "spec": {
            "replicas": -1,
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "b"}},
                "spec": {"containers": [{"name": "c"}]}}}}),
    );
    let starts = [
        "metadata.name: Invalid value: \"Web\": a lowercase RFC 1123 subdomain",
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        "spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match",
        "spec.template.spec.containers[0].image: Required value",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (problem, start) in found.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}");
    }
}

#[test]
fn a_type_error_is_an_error() {
    let object = json!({"metadata": {"name": "x"}, "spec": {"replicas": "three"}});
    assert!((kind("apps", "deployments").decode)(object).is_err());
}

#[test]
fn every_kind_has_a_schema() {
    for kind in super::KINDS {
        let shape = kind.schema();
        assert!(shape.field("metadata").is_some(), "{}", kind.kind);
        assert!(shape.field("metadata").unwrap().declared("labels").is_some(), "{}", kind.kind);
    }
}
