//! Defaults of stateful sets and daemon sets.

use serde_json::{Value, json};

use super::{each, object, pod, set, storage};

pub(in super::super) fn stateful_set(stateful: &mut Value) {
    let Some(spec) = object(stateful, "spec") else { return };
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "podManagementPolicy", "OrderedReady");
    set(
        spec,
        "persistentVolumeClaimRetentionPolicy",
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
    );
    if let Some(strategy) =
        spec.entry("updateStrategy").or_insert_with(|| json!({})).as_object_mut()
    {
        set(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) =
                strategy.entry("rollingUpdate").or_insert_with(|| json!({})).as_object_mut()
        {
            set(rolling, "partition", 0);
        }
    }
    for template in each(spec, "volumeClaimTemplates") {
        // Kubernetes fills these in, and clients compare what they read.
        template.insert("apiVersion".into(), "v1".into());
        template.insert("kind".into(), "PersistentVolumeClaim".into());
        template.insert("status".into(), json!({"phase": "Pending"}));
        if let Some(claim) = template.get_mut("spec").and_then(Value::as_object_mut) {
            storage::claim_spec(claim);
        }
    }
    pod::template(spec);
}

pub(in super::super) fn daemon_set(daemon: &mut Value) {
    let Some(spec) = object(daemon, "spec") else { return };
    set(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) =
        spec.entry("updateStrategy").or_insert_with(|| json!({})).as_object_mut()
    {
        set(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) =
                strategy.entry("rollingUpdate").or_insert_with(|| json!({})).as_object_mut()
        {
            set(rolling, "maxUnavailable", 1);
            set(rolling, "maxSurge", 0);
        }
    }
    pod::template(spec);
}

pub(in super::super) fn daemon_set_on_create(daemon: &mut Value) {
    daemon["status"] = json!({
        "currentNumberScheduled": 0,
        "desiredNumberScheduled": 0,
        "numberMisscheduled": 0,
        "numberReady": 0,
    });
}
