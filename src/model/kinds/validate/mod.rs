//! What an object may not say, in Kubernetes' words.
//!
//! Source: `pkg/apis/core/validation` and `apimachinery/pkg/api/validation`. Only rules
//! whose breach would hurt later are here; types are checked by decoding.

pub(super) mod access;
pub(super) mod batch;
pub(super) mod definition;
pub(super) mod definition_schema;
pub(super) mod ingress;
pub(super) mod limit_range;
pub(super) mod meta;
pub(super) mod network_policy;
pub(super) mod objects;
pub(super) mod pod;
pub(super) mod quota;
pub(super) mod scaling;
pub(super) mod secret;
pub(super) mod service;
pub(super) mod sets;
pub(super) mod storage;
mod volumes;
pub(super) mod workload;

use serde_json::Value;

fn str_at<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list_at<'v>(object: &'v Value, pointer: &str) -> &'v [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
