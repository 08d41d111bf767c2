//! What every cluster has from the start: its namespaces, the two classes of priority,
//! and its own two services.

use serde_json::{Value, json};

use super::{Objects, WriteOptions, service_ip};
use crate::logic::ingress;
use crate::logic::volume_binding::{DEFAULT_CLASS, LOCAL_PATH};
use crate::model::kinds;
use crate::model::priority::SYSTEM_CLASSES;
use crate::model::status::Status;

/// Namespaces that Kubernetes' clients and manifests take for granted.
const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

impl Objects {
    /// Makes what is missing; changes nothing that is there. Safe to run on every start
    /// and on every master at once.
    pub async fn ensure_bootstrap(&self) -> Result<(), Status> {
        for name in NAMESPACES {
            let namespace = json!({"metadata": {"name": name}});
            self.ensure("namespaces", None, namespace).await?;
        }
        for class in SYSTEM_CLASSES {
            let object = json!({
                "metadata": {"name": class.name},
                "value": class.value,
                "description": class.description,
                "preemptionPolicy": "PreemptLowerPriority",
            });
            self.ensure_in("scheduling.k8s.io", "priorityclasses", None, object).await?;
        }
        // Claims work out of the box, and an operator's other default goes first: it is newer.
        let class = json!({
            "metadata": {"name": "local-path", "annotations": {DEFAULT_CLASS: "true"}},
            "provisioner": LOCAL_PATH,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        });
        self.ensure_in("storage.k8s.io", "storageclasses", None, class).await?;
        let ingress = json!({
            "metadata": {"name": ingress::CLASS, "annotations": {ingress::DEFAULT_CLASS: "true"}},
            "spec": {"controller": ingress::CONTROLLER},
        });
        self.ensure_in("networking.k8s.io", "ingressclasses", None, ingress).await?;
        let api = json!({
            "metadata": {
                "name": "kubernetes",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "clusterIP": self.service_address(service_ip::API_OFFSET).to_string(),
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
            },
        });
        self.ensure("services", Some("default"), api).await?;
        let dns = json!({
            "metadata": {
                "name": "kube-dns",
                "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"},
            },
            "spec": {
                "clusterIP": self.service_address(service_ip::DNS_OFFSET).to_string(),
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                ],
            },
        });
        self.ensure("services", Some("kube-system"), dns).await?;
        self.ensure_access().await
    }

    async fn ensure(
        &self,
        plural: &str,
        namespace: Option<&str>,
        object: Value,
    ) -> Result<(), Status> {
        self.ensure_in("", plural, namespace, object).await
    }

    async fn ensure_in(
        &self,
        group: &str,
        plural: &str,
        namespace: Option<&str>,
        object: Value,
    ) -> Result<(), Status> {
        let kind = kinds::by_path(group, "v1", plural).ok_or_else(Status::unknown_resource)?;
        let address = super::Address::new(
            kind,
            namespace,
            object["metadata"]["name"].as_str().unwrap_or_default(),
        );
        if self.fetch(&address).await?.is_some() {
            return Ok(());
        }
        match self.create(kind, namespace, object, WriteOptions::server("create", kind)).await {
            Ok(_) => Ok(()),
            // Another master was faster.
            Err(status) if status.reason == "AlreadyExists" => Ok(()),
            Err(status) => match self.fetch(&address).await? {
                Some(_) => Ok(()),
                None => Err(status),
            },
        }
    }
}
