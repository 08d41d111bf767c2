//! The columns of stateful sets, daemon sets and their revisions.

use jiff::Timestamp;
use serde_json::Value;

use super::super::Column;
use super::workload::{CONTAINERS, IMAGES, SELECTOR};
use super::{AGE, NAME, int_at, list_at, number, pairs, str_at, text};

pub(in super::super) const STATEFUL_SET: &[Column] = &[
    NAME,
    text("Ready", false, |object, _| {
        let wanted = int_at(object, "/spec/replicas");
        format!("{}/{wanted}", int_at(object, "/status/readyReplicas")).into()
    }),
    AGE,
    CONTAINERS,
    IMAGES,
];

pub(in super::super) const DAEMON_SET: &[Column] = &[
    NAME,
    number("Desired", false, |set, _| int_at(set, "/status/desiredNumberScheduled").into()),
    number("Current", false, |set, _| int_at(set, "/status/currentNumberScheduled").into()),
    number("Ready", false, |set, _| int_at(set, "/status/numberReady").into()),
    number("Up-to-date", false, |set, _| int_at(set, "/status/updatedNumberScheduled").into()),
    number("Available", false, |set, _| int_at(set, "/status/numberAvailable").into()),
    text("Node Selector", false, |set, _| pairs(set.pointer("/spec/template/spec/nodeSelector"))),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(in super::super) const CONTROLLER_REVISION: &[Column] = &[
    NAME,
    text("Controller", false, controller),
    number("Revision", false, |object, _| int_at(object, "/revision").into()),
    AGE,
];

/// `statefulset.apps/web`.
fn controller(object: &Value, _: Timestamp) -> Value {
    let owners = list_at(object, "/metadata/ownerReferences");
    let Some(owner) = owners.iter().find(|owner| owner["controller"] == true) else {
        return "<none>".into();
    };
    let group = str_at(owner, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
    let kind = str_at(owner, "/kind").to_lowercase();
    format!("{kind}.{group}/{}", str_at(owner, "/name")).into()
}
