//! Puts a pod on a node, once.

use serde_json::{Value, json};

use super::update::Part;
use super::{Address, Objects, WriteOptions, stored, str_at};
use crate::model::status::Status;

impl Objects {
    /// `POST pods/NAME/binding`: sets `spec.nodeName` if it is not set yet.
    pub async fn bind(
        &self,
        pod: &Address,
        binding: &Value,
        options: WriteOptions,
    ) -> Result<(), Status> {
        let node = str_at(binding, "/target/name");
        let kind = str_at(binding, "/target/kind");
        if node.is_empty() || !(kind.is_empty() || kind == "Node") {
            return Err(Status::bad_request("the binding's target must be a node with a name"));
        }
        let uid = str_at(binding, "/metadata/uid");
        self.modify(pod, Part::Server, &options, |current| {
            let own = str_at(current, "/metadata/uid");
            if !uid.is_empty() && uid != own {
                return Err(pod.conflict(&format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {own}"
                )));
            }
            if current.pointer("/metadata/deletionTimestamp").is_some() {
                let why =
                    format!("pod {} is being deleted, cannot be assigned to a host", pod.name);
                return Err(pod.conflict(&why));
            }
            let bound = str_at(current, "/spec/nodeName");
            if !bound.is_empty() {
                let why = format!("pod {} is already assigned to node {bound:?}", pod.name);
                return Err(pod.conflict(&why));
            }
            let mut next = current.clone();
            next["spec"]["nodeName"] = node.into();
            // What it waited for it has.
            if let Some(status) = next.get_mut("status").and_then(Value::as_object_mut) {
                status.shift_remove("nominatedNodeName");
            }
            set_scheduled(&mut next);
            Ok(next)
        })
        .await
        .map(|_| ())
    }
}

fn set_scheduled(pod: &mut Value) {
    let condition = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": stored::timestamp(),
    });
    let Some(status) = pod.get_mut("status").and_then(Value::as_object_mut) else { return };
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|known| known["type"] != "PodScheduled");
        list.push(condition);
    }
}
