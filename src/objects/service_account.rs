//! Who a pod is: every namespace has the account `default`, every pod runs as one.
//!
//! The account is written with its namespace, in one transaction, so that a pod never has
//! to wait for a controller; the controller only brings back one that was deleted.
//! Source: `plugin/pkg/admission/serviceaccount/admission.go`.
//! Not here: what the account brings along (`logic/pod_account`), tokens (`access`).

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Address, Objects, key, stored, str_at};
use crate::logic::pod_account;
use crate::model::kinds;
use crate::model::kv::Op;
use crate::model::status::Status;
use crate::sys::fresh;

/// The account that every namespace has.
const DEFAULT: &str = "default";

/// What is written along with a new namespace: its first account.
pub(super) fn with_namespace(address: &Address) -> Result<Option<Op>, Status> {
    let kind = address.kind;
    if kind.kind != "Namespace" || !kind.group.is_empty() {
        return Ok(None);
    }
    let served =
        kinds::by_path("", "v1", "serviceaccounts").ok_or_else(Status::unknown_resource)?;
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": DEFAULT, "namespace": address.name, "uid": fresh::uid(),
            "creationTimestamp": stored::timestamp(),
        },
    });
    let place = Address::new(served, Some(&address.name), DEFAULT);
    Ok(Some(Op::put(Bytes::from(key::object(&place)), stored::encode(served, &account)?)))
}

impl Objects {
    /// Gives a new pod its account, which must exist, and what the account brings along.
    pub(super) async fn admit_service_account(
        &self,
        address: &Address,
        pod: &mut Value,
    ) -> Result<(), Status> {
        let kind = address.kind;
        if kind.kind != "Pod" || !kind.group.is_empty() {
            return Ok(());
        }
        let named = match str_at(pod, "/spec/serviceAccountName") {
            "" => str_at(pod, "/spec/serviceAccount"),
            name => name,
        };
        let name = if named.is_empty() { DEFAULT } else { named }.to_owned();
        let served =
            kinds::by_path("", "v1", "serviceaccounts").ok_or_else(Status::unknown_resource)?;
        let account = Address::new(served, Some(&address.namespace), &name);
        // The local replica may not have what was made a moment ago.
        let mut found = self.fetch_as(&account, true).await?;
        if found.is_none() {
            found = self.fetch(&account).await?;
        }
        let Some(found) = found else {
            let why = format!(
                "error looking up service account {}/{name}: serviceaccount {name:?} not found",
                address.namespace
            );
            return Err(Status::forbidden(kind.plural, kind.group, &address.name, &why));
        };
        pod_account::run_as(pod, &name, &found.object, &fresh::name_suffix());
        Ok(())
    }
}
