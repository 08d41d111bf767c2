//! Who may do what.
//!
//! Two kinds of callers exist so far: administrators (`system:masters`) and nodes
//! (`system:node:NAME` in `system:nodes`). A node reads everything that it must run and
//! writes itself, its pods' status, and what it reports; nobody else may do anything.
//! Of config maps and secrets a node gets those that its pods name, one by one.
//! The question of whether a pod is on a node, or names an object, needs the pods: the
//! decision says so and [`Objects::authorize`] looks.

use super::{Address, Objects, str_at};
use crate::logic::pod_references::Referred;
use crate::model::kinds::by_path;
use crate::model::status::Status;

const MASTERS: &str = "system:masters";
const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// Who asks, as the client certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub groups: Vec<String>,
}

impl Identity {
    /// May do everything.
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    /// The node that asks, if it is one.
    pub fn node(&self) -> Option<&str> {
        if !self.groups.iter().any(|group| group == NODES) {
            return None;
        }
        self.user.strip_prefix(NODE_PREFIX)
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`,
    /// `impersonate`.
    pub verb: &'a str,
    /// Empty for the core group.
    pub group: &'a str,
    /// The plural.
    pub resource: &'a str,
    pub subresource: Option<&'a str>,
    /// Empty for cluster-wide kinds and for all namespaces.
    pub namespace: &'a str,
    /// Of a create too, where the body says it; empty if none.
    pub name: &'a str,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    Allow,
    Deny,
    /// Allowed if the pod is on this node.
    IfPodOn(&'a str),
    /// Allowed if a pod on this node names the object.
    IfPodRefers(&'a str, Referred),
    /// Allowed if the volume is released and on this node.
    IfReleasedOn(&'a str),
}

/// Decides by identity and request alone.
pub fn decide<'a>(identity: &'a Identity, request: &Request<'_>) -> Decision<'a> {
    if identity.is_master() {
        return Decision::Allow;
    }
    let Some(node) = identity.node() else { return Decision::Deny };
    if ["get", "list", "watch"].contains(&request.verb) {
        let referred = match (request.group, request.resource) {
            ("", "configmaps") => Referred::ConfigMap,
            ("", "secrets") => Referred::Secret,
            _ => return Decision::Allow,
        };
        return match request.verb {
            "get" => Decision::IfPodRefers(node, referred),
            _ => Decision::Deny,
        };
    }
    let writes = ["create", "update", "patch"].contains(&request.verb);
    match (request.group, request.resource, request.subresource) {
        ("", "nodes", None | Some("status")) if writes && request.name == node => Decision::Allow,
        ("", "pods", Some("status")) if writes => Decision::IfPodOn(node),
        ("", "pods", None) if request.verb == "delete" => Decision::IfPodOn(node),
        ("", "persistentvolumes", None) if request.verb == "delete" => Decision::IfReleasedOn(node),
        ("", "events", None) if writes => Decision::Allow,
        ("coordination.k8s.io", "leases", None) if writes && request.name == node => {
            Decision::Allow
        }
        _ => Decision::Deny,
    }
}

/// Paths that are no resources and that everybody with an identity may read.
pub const OPEN_URLS: &[&str] = &[
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
];

/// Whether somebody may use a path that is no resource.
pub fn may_get(identity: &Identity, verb: &str, path: &str) -> bool {
    let open = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == *pattern,
    };
    identity.is_master() || (verb == "get" && OPEN_URLS.iter().any(open))
}

/// Kubernetes' refusal.
pub fn forbidden(identity: &Identity, request: &Request<'_>) -> Status {
    let resource = match request.subresource {
        Some(subresource) => format!("{}/{subresource}", request.resource),
        None => request.resource.to_owned(),
    };
    let scope = if request.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", request.namespace)
    };
    let why = format!(
        "User {:?} cannot {} resource {resource:?} in API group {:?} {scope}",
        identity.user, request.verb, request.group
    );
    Status::forbidden(request.resource, request.group, request.name, &why)
}

impl Objects {
    /// Lets the request pass or refuses it.
    pub async fn authorize(
        &self,
        identity: &Identity,
        request: &Request<'_>,
    ) -> Result<(), Status> {
        let allowed = match decide(identity, request) {
            Decision::Allow => true,
            Decision::Deny => false,
            Decision::IfPodRefers(node, what) => {
                self.a_pod_refers(node, request.namespace, what, request.name).await?
            }
            Decision::IfReleasedOn(node) => self.is_released_on(node, request.name).await?,
            Decision::IfPodOn(node) => {
                let kind = by_path("", "v1", "pods").ok_or_else(Status::unknown_resource)?;
                let pod = Address::new(kind, Some(request.namespace), request.name);
                // A pod that is gone is not a secret: the write will say so.
                match self.fetch(&pod).await? {
                    Some(found) => str_at(&found.object, "/spec/nodeName") == node,
                    None => true,
                }
            }
        };
        if allowed { Ok(()) } else { Err(forbidden(identity, request)) }
    }
}
