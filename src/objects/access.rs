//! Who may do what, and who did what.
//!
//! ```text
//! certificate, token (tokens, user_tokens) ─► Identity
//! Identity + Request ─► node rules (decide) ─► roles and bindings (rights) ─► yes or no
//! yes ─► escalation check of roles and bindings ─► transaction with its audit record
//! ```
//! Administrators (`system:masters`) may do everything. A node (`system:node:NAME` in
//! `system:nodes`) reads everything that it must run and writes itself, its pods' status,
//! and what it reports; of config maps and secrets it gets those that its pods name, and
//! secrets with certificates that an Ingress names, one by one. Those rules come first and need no roles. Everybody else has what roles and bindings
//! give ([`crate::logic::rbac`]). The question of whether a pod is on a node, or names an
//! object, needs the pods: the decision says so and [`Objects::access`] looks.

mod audit_log;
mod author;
mod bootstrap;
mod default_roles;
mod escalation;
mod rights;
mod signing_keys;
mod token_request;
mod tokens;
mod user_tokens;

use std::collections::BTreeMap;

pub use audit_log::AuditRead;
pub use author::{Author, Origin};
pub(in crate::objects) use rights::RightsCache;
pub(in crate::objects) use signing_keys::KEY as SIGNING_KEYS;
pub use signing_keys::KeyInfo;
pub use token_request::Issued;
pub use tokens::{API_AUDIENCE, Authenticated};
pub use user_tokens::{NewUserToken, UserTokenInfo};

use super::{Address, Objects, str_at};
use crate::logic::pod_account::ROOT_CA;
use crate::logic::pod_references::Referred;
use crate::logic::rbac::{Asked, Who, names_url};
use crate::model::kinds::by_path;
use crate::model::rbac::Rule;
use crate::model::status::Status;

const MASTERS: &str = "system:masters";
const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";
/// Everybody who said who he is.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everybody who did not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user without a name.
pub const ANONYMOUS: &str = "system:anonymous";
/// Before `NAMESPACE:NAME` of a service account's user name.
pub const ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// Who asks, as a certificate or a token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    pub fn new(user: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Self { user: user.to_owned(), groups, ..Self::default() }
    }

    /// With the group of everybody who has a name, or of those who have none.
    pub fn authenticated(mut self) -> Self {
        let group = if self.user == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
        if !self.groups.iter().any(|own| own == group) {
            self.groups.push(group.to_owned());
        }
        self
    }

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

    fn who(&self) -> Who<'_> {
        Who { user: &self.user, groups: &self.groups }
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`,
    /// `impersonate`, `bind`, `escalate`.
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

impl<'a> Request<'a> {
    fn asked(&self) -> Asked<'a> {
        Asked::Resource {
            verb: self.verb,
            group: self.group,
            resource: self.resource,
            subresource: self.subresource.unwrap_or_default(),
            namespace: self.namespace,
            name: self.name,
        }
    }
}

/// The answer of the rules that need no roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    Allow,
    /// Nothing here allows it.
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
            // What every pod is given, and what the node has anyhow.
            ("", "configmaps") if request.verb == "get" && request.name == ROOT_CA => {
                return Decision::Allow;
            }
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

/// Paths that are no resources and that every node may read.
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

fn may_node_get(identity: &Identity, verb: &str, path: &str) -> bool {
    let open = OPEN_URLS.iter().any(|pattern| names_url(pattern, path));
    identity.node().is_some() && verb == "get" && open
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
        match self.access(identity, request).await? {
            Some(_) => Ok(()),
            None => Err(forbidden(identity, request)),
        }
    }

    /// Whether the request may pass, and why; `None` is no.
    pub async fn access(
        &self,
        identity: &Identity,
        request: &Request<'_>,
    ) -> Result<Option<String>, Status> {
        let allowed = match decide(identity, request) {
            Decision::Allow => true,
            Decision::Deny => false,
            Decision::IfPodRefers(node, what) => {
                self.a_pod_refers(node, request.namespace, what, request.name).await?
                    || (what == Referred::Secret
                        && self.an_ingress_names(request.namespace, request.name).await?)
            }
            Decision::IfReleasedOn(node) => self.is_released_on(node, request.name).await?,
            Decision::IfPodOn(node) => {
                let kind = by_path("", "v1", "pods").ok_or_else(Status::unknown_resource)?;
                let pod = Address::new(kind, Some(request.namespace), request.name);
                // A pod that is gone is not a secret: the write will say so.
                match self.look_at(&pod).await? {
                    Some(found) => str_at(&found, "/spec/nodeName") == node,
                    None => true,
                }
            }
        };
        if allowed {
            return Ok(Some(String::new()));
        }
        let rights = self.rights.current(&*self.kv).await?;
        Ok(rights.allows(&identity.who(), &request.asked()).map(|ground| ground.to_string()))
    }

    /// Whether somebody may use a path that is no resource, and why.
    pub async fn access_url(
        &self,
        identity: &Identity,
        verb: &str,
        path: &str,
    ) -> Result<Option<String>, Status> {
        if identity.is_master() || may_node_get(identity, verb, path) {
            return Ok(Some(String::new()));
        }
        let rights = self.rights.current(&*self.kv).await?;
        let ground = rights.allows(&identity.who(), &Asked::Url { verb, path });
        Ok(ground.map(|ground| ground.to_string()))
    }

    /// Lets a request to a path that is no resource pass or refuses it.
    pub async fn authorize_url(
        &self,
        identity: &Identity,
        verb: &str,
        path: &str,
    ) -> Result<(), Status> {
        if self.access_url(identity, verb, path).await?.is_some() {
            return Ok(());
        }
        let message = format!("forbidden: User {:?} cannot {verb} path {path:?}", identity.user);
        Err(Status::failure(403, "Forbidden", message))
    }

    /// What roles and bindings give somebody in a namespace.
    pub async fn rules_for(
        &self,
        identity: &Identity,
        namespace: &str,
    ) -> Result<Vec<Rule>, Status> {
        let rights = self.rights.current(&*self.kv).await?;
        Ok(rights.rules_for(&identity.who(), namespace))
    }
}

#[cfg(test)]
mod audit_tests;
#[cfg(test)]
mod tests;
