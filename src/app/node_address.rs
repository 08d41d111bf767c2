//! Where a node is reached from the others.

use serde_json::Value;

use crate::model::kinds;
use crate::model::status::Status;
use crate::objects::{Address, Objects};

/// The address that a node tells of itself.
pub(super) async fn node_address(objects: &Objects, node: &str) -> Result<String, Status> {
    let kind = kinds::by_path("", "v1", "nodes")
        .ok_or_else(|| Status::internal("the table of kinds lacks nodes"))?;
    let object = objects.get(&Address::new(kind, None, node), None).await?;
    let addresses = object.pointer("/status/addresses").and_then(Value::as_array);
    addresses
        .into_iter()
        .flatten()
        .find(|address| address["type"] == "InternalIP")
        .and_then(|address| address["address"].as_str().map(str::to_owned))
        .ok_or_else(|| Status::unavailable(format!("node {node:?} has told no address")))
}
