//! The rows of what weighs workloads against each other: disruption budgets, priorities,
//! autoscalers.

use serde_json::Value;

use super::access::shaped;
use super::{Kind, PLAIN, Subresource};
use crate::model::kinds::{convert, defaults, print, validate};

pub(super) const DISRUPTION_BUDGET: Kind = Kind {
    group: "policy",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short_names: &["pdb"],
    subresources: &[Subresource::Status],
    generation: true,
    columns: print::scaling::DISRUPTION_BUDGET,
    decode: |value| shaped("policy/v1", "PodDisruptionBudget", value),
    validate: validate::scaling::disruption_budget,
    on_create: |budget: &mut Value| {
        budget["status"] = serde_json::json!({
            "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
        });
    },
    ..PLAIN
};

/// What is stored.
pub(super) const AUTOSCALER: Kind = Kind {
    group: "autoscaling",
    version: "v2",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    categories: &["all"],
    subresources: &[Subresource::Status],
    columns: print::scaling::AUTOSCALER,
    decode: |value| shaped("autoscaling/v2", "HorizontalPodAutoscaler", value),
    default: defaults::scaling::autoscaler,
    validate: validate::scaling::autoscaler,
    on_create: |autoscaler: &mut Value| {
        autoscaler["status"] = serde_json::json!({"currentReplicas": 0, "desiredReplicas": 0});
    },
    ..PLAIN
};

/// The same objects as older clients write them.
pub(super) const AUTOSCALER_V1: Kind = Kind {
    version: "v1",
    columns: print::scaling::AUTOSCALER_V1,
    decode: |value| shaped("autoscaling/v1", "HorizontalPodAutoscaler", value),
    from_stored: convert::to_v1,
    to_stored: convert::to_v2,
    default: defaults::scaling::autoscaler_v1,
    validate: validate::scaling::autoscaler_v1,
    ..AUTOSCALER
};

pub(super) const PRIORITY_CLASS: Kind = Kind {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    namespaced: false,
    columns: print::scaling::PRIORITY_CLASS,
    fields: &[super::NAME],
    decode: |value| shaped("scheduling.k8s.io/v1", "PriorityClass", value),
    default: defaults::scaling::priority_class,
    validate: validate::scaling::priority_class,
    validate_update: validate::scaling::priority_class_update,
    ..PLAIN
};

/// Answered by `api/kube/metrics`; nothing is stored.
const METRICS: Kind = Kind {
    group: "metrics.k8s.io",
    version: "v1beta1",
    verbs: &["get", "list"],
    kept: false,
    columns: print::scaling::METRICS,
    ..PLAIN
};

pub(super) const NODE_METRICS: Kind = Kind {
    kind: "NodeMetrics",
    plural: "nodes",
    namespaced: false,
    decode: |value| shaped("metrics.k8s.io/v1beta1", "NodeMetrics", value),
    ..METRICS
};

pub(super) const POD_METRICS: Kind = Kind {
    kind: "PodMetrics",
    plural: "pods",
    decode: |value| shaped("metrics.k8s.io/v1beta1", "PodMetrics", value),
    ..METRICS
};
