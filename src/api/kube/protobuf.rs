//! Kubernetes' protobuf bodies.

use serde_json::Value;

use crate::model::status::Status;

/// How clients name the encoding.
pub(super) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

pub(super) fn decode(_: &[u8]) -> Result<Value, Status> {
    Err(Status::failure(415, "UnsupportedMediaType", "protobuf bodies are not understood"))
}
