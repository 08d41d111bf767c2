//! The rows of the sets and jobs say what Kubernetes says.

use serde_json::{Value, json};

use super::tests::{cells, kind, problems_of};

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "hello:1"}]}})
}

fn defaulted(group: &str, plural: &str, object: Value) -> Value {
    let kind = kind(group, plural);
    let mut object = (kind.decode)(object).unwrap();
    (kind.default)(&mut object);
    object
}

#[test]
fn sets_get_kubernetes_defaults() {
    let spec = json!({"metadata": {"name": "x"}, "spec": {
        "selector": {"matchLabels": {"app": "a"}}, "template": template()}});
    let set = defaulted("apps", "statefulsets", spec.clone());
    assert_eq!(set["spec"]["replicas"], 1);
    assert_eq!(set["spec"]["updateStrategy"]["rollingUpdate"], json!({"partition": 0}));
    assert_eq!(set["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"], "Retain");
    let set = defaulted("apps", "daemonsets", spec.clone());
    let rolling = &set["spec"]["updateStrategy"]["rollingUpdate"];
    assert_eq!(rolling, &json!({"maxUnavailable": 1, "maxSurge": 0}));
    let mut on_delete = spec;
    on_delete["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    let set = defaulted("apps", "statefulsets", on_delete);
    assert_eq!(set["spec"]["updateStrategy"], json!({"type": "OnDelete"}));
}

#[test]
fn jobs_get_kubernetes_defaults_and_their_own_selector() {
    let of = |spec: Value| {
        let object = json!({"metadata": {"name": "sum", "uid": "u1"}, "spec": spec});
        defaulted("batch", "jobs", object)["spec"].clone()
    };
    let spec = of(json!({"template": template()}));
    assert_eq!((&spec["completions"], &spec["parallelism"]), (&json!(1), &json!(1)));
    assert_eq!((&spec["backoffLimit"], &spec["suspend"]), (&json!(6), &json!(false)));
    assert_eq!(spec["podReplacementPolicy"], "TerminatingOrFailed");
    let chosen = json!({"batch.kubernetes.io/controller-uid": "u1"});
    assert_eq!(spec["selector"]["matchLabels"], chosen);
    assert_eq!(spec["template"]["metadata"]["labels"]["job-name"], "sum");
    let queue = of(json!({"parallelism": 3, "template": template()}));
    assert!(queue["completions"].is_null());
    let each = of(json!({"backoffLimitPerIndex": 1, "template": template()}));
    assert_eq!(each["backoffLimit"], i32::MAX);
    let manual = of(json!({"manualSelector": true, "template": template()}));
    assert!(manual["selector"].get("matchLabels").is_none());
}

#[test]
fn wrong_sets_and_jobs_name_every_field() {
    let found = problems_of(
        kind("apps", "statefulsets"),
        json!({"metadata": {"name": "db"}, "spec": {
            "selector": {"matchLabels": {"app": "a"}}, "template": template(),
            "podManagementPolicy": "Random", "updateStrategy": {"type": "OnDelete",
                "rollingUpdate": {"partition": -1}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Maybe"},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}}),
    );
    let starts = [
        "spec.podManagementPolicy: Unsupported value: \"Random\"",
        "spec.updateStrategy.rollingUpdate: Invalid value",
        "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1",
        "spec.volumeClaimTemplates[0].spec.accessModes: Required value",
        "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
        "spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: \"Maybe\"",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (problem, start) in found.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}");
    }
    let mut mounts = template();
    mounts["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/data"}, {"name": "none", "mountPath": "/x"}]);
    let found = problems_of(
        kind("apps", "statefulsets"),
        json!({"metadata": {"name": "db"}, "spec": {
            "selector": {"matchLabels": {"app": "a"}}, "template": mounts,
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}]}}),
    );
    let only = "spec.template.spec.containers[0].volumeMounts[1].name: Not found: \"none\"";
    assert_eq!(found, [only], "a template of a claim is a volume");
    let mut never = template();
    never["spec"]["restartPolicy"] = "OnFailure".into();
    let found = problems_of(
        kind("batch", "jobs"),
        json!({"metadata": {"name": "sum", "uid": "u"}, "spec": {"template": never,
            "completionMode": "Indexed", "completions": 3, "maxFailedIndexes": 4,
            "podFailurePolicy": {"rules": [{"action": "Ignore"}]},
            "successPolicy": {"rules": [{"succeededIndexes": "2-5"}]}}}),
    );
    for start in [
        "spec.backoffLimitPerIndex: Required value",
        "spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions",
        "spec.template.spec.restartPolicy: Invalid value",
        "spec.podFailurePolicy.rules[0]: Invalid value",
        "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"2-5\": too large index",
    ] {
        assert!(found.iter().any(|problem| problem.starts_with(start)), "{start}: {found:#?}");
    }
}

#[test]
fn the_columns_are_kubectls() {
    let daemon = json!({"metadata": {"name": "agent"}, "spec": {"template": {"spec": {
        "nodeSelector": {"disk": "ssd"}, "containers": []}}},
        "status": {"desiredNumberScheduled": 3, "currentNumberScheduled": 3, "numberReady": 2,
            "updatedNumberScheduled": 1, "numberAvailable": 2}});
    let shown = cells(kind("apps", "daemonsets"), &daemon);
    assert_eq!(shown[..7], ["agent", "3", "3", "2", "1", "2", "disk=ssd"]);
    let job = json!({"metadata": {"name": "sum"}, "spec": {"parallelism": 3},
        "status": {"succeeded": 1, "startTime": "2026-01-01T00:50:00Z",
            "conditions": [{"type": "Suspended", "status": "True"}]}});
    let shown = cells(kind("batch", "jobs"), &job);
    assert_eq!(shown[..4], ["sum", "Suspended", "1/1 of 3", "10m"]);
    let cron = json!({"metadata": {"name": "tick"}, "spec": {"schedule": "@daily",
        "suspend": false}, "status": {"lastScheduleTime": "2026-01-01T00:00:00Z",
            "active": [{"name": "tick-1"}]}});
    let shown = cells(kind("batch", "cronjobs"), &cron);
    assert_eq!(shown[..6], ["tick", "@daily", "<none>", "False", "1", "60m"]);
    let revision = json!({"metadata": {"name": "db-1", "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "controller": true}]},
        "revision": 4});
    let shown = cells(kind("apps", "controllerrevisions"), &revision);
    assert_eq!(shown[..3], ["db-1", "statefulset.apps/db", "4"]);
}
