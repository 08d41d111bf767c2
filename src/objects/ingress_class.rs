//! An Ingress that names no class is of the default one, if there is one.
//!
//! Source: `plugin/pkg/admission/network/defaultingressclass`.

use serde_json::Value;

use super::{Address, ListRequest, Objects};
use crate::logic::ingress::{class_of, default_class};
use crate::model::kinds::by_path;
use crate::model::status::Status;

impl Objects {
    /// Fills in the class of a new Ingress.
    pub(super) async fn admit_ingress(
        &self,
        address: &Address,
        ingress: &mut Value,
    ) -> Result<(), Status> {
        let kind = address.kind;
        if kind.kind != "Ingress" || kind.group != "networking.k8s.io" {
            return Ok(());
        }
        if !class_of(ingress).is_empty() {
            return Ok(());
        }
        let classes = by_path(kind.group, "v1", "ingressclasses");
        let classes = classes.ok_or_else(Status::unknown_resource)?;
        let listing = self.list(&ListRequest::selecting(classes, None, "", "")?).await?;
        if let Some(class) = default_class(listing.items.iter()) {
            ingress["spec"]["ingressClassName"] = class.into();
        }
        Ok(())
    }

    /// Whether an Ingress of the namespace names a Secret for its certificate; then every
    /// node that may serve it may read it.
    pub(super) async fn an_ingress_names(
        &self,
        namespace: &str,
        secret: &str,
    ) -> Result<bool, Status> {
        let kind = by_path("networking.k8s.io", "v1", "ingresses");
        let kind = kind.ok_or_else(Status::unknown_resource)?;
        let listing = self.list(&ListRequest::selecting(kind, Some(namespace), "", "")?).await?;
        Ok(listing.items.iter().any(|ingress| {
            let tls = ingress.pointer("/spec/tls").and_then(Value::as_array);
            tls.into_iter().flatten().any(|one| one["secretName"] == secret)
        }))
    }
}
