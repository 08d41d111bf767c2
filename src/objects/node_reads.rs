//! Whether a node may read one config map, secret or claim: only if a pod on it names that.
//!
//! Why asked of the pods at every read: a right that follows from a pod must end with it.

use serde_json::Value;

use super::{Address, ListRequest, Objects, str_at};
use crate::logic::pod_references::{Referred, refers};
use crate::logic::volume_binding::{LOCAL_PATH, PROVISIONED_BY};
use crate::model::kinds::by_path;
use crate::model::status::Status;

impl Objects {
    /// Whether a volume is a released directory of the node, which the node may then remove
    /// and forget.
    pub(super) async fn is_released_on(&self, node: &str, name: &str) -> Result<bool, Status> {
        let kind = by_path("", "v1", "persistentvolumes").ok_or_else(Status::unknown_resource)?;
        let Some(found) = self.fetch(&Address::new(kind, None, name)).await? else {
            return Ok(true);
        };
        let hosts = found
            .object
            .pointer("/spec/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0/values");
        let here = hosts.and_then(Value::as_array).is_some_and(|hosts| hosts[..] == [node]);
        Ok(here
            && found.object["metadata"]["annotations"][PROVISIONED_BY] == LOCAL_PATH
            && str_at(&found.object, "/status/phase") == "Released")
    }

    /// Looks at the pods of the namespace that are on the node.
    pub(super) async fn a_pod_refers(
        &self,
        node: &str,
        namespace: &str,
        what: Referred,
        name: &str,
    ) -> Result<bool, Status> {
        let pods = by_path("", "v1", "pods").ok_or_else(Status::unknown_resource)?;
        let on_node = format!("spec.nodeName={node}");
        let mut list = ListRequest::selecting(pods, Some(namespace), "", &on_node)?;
        // What this member has mostly suffices; a pod that is missing there may be new.
        for version in [Some("0"), None] {
            list.resource_version = version.map(str::to_owned);
            let listing = self.list(&list).await?;
            if listing.items.iter().any(|pod| refers(pod, what, name)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
