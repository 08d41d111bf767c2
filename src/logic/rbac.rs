//! Who may do what by roles and bindings: Kubernetes' RBAC, as a pure function.
//!
//! Why pure: a wrong answer opens the cluster, so the decision is tested against a table
//! and against properties over random rights. [`Rights`] is what the watch of roles and
//! bindings has made of them; nothing here reads a store.
//!
//! Invariants: rights only add up, there is no rule that forbids; a binding to a role
//! that does not exist gives nothing; a `RoleBinding` gives nothing outside its namespace
//! and nothing about paths that are no resources.
//! Not here: nodes and `system:masters`, who are judged before (`objects/access`).
//! Source: `pkg/apis/rbac/v1/evaluation_helpers.go`, `pkg/registry/rbac/validation`.

mod cover;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use cover::not_covered;

use crate::model::rbac::{RoleRef, Rule, Subject};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    Resource {
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        subresource: &'a str,
        /// Empty at the cluster's scope.
        namespace: &'a str,
        name: &'a str,
    },
    /// A path that is no resource.
    Url { verb: &'a str, path: &'a str },
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    pub user: &'a str,
    pub groups: &'a [String],
}

/// A role given to subjects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    pub subjects: Vec<Subject>,
    pub role: RoleRef,
}

/// Every role and binding of a cluster. The empty namespace is the cluster's scope.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    roles: BTreeMap<String, BTreeMap<String, Arc<[Rule]>>>,
    bindings: BTreeMap<String, BTreeMap<String, Arc<Binding>>>,
}

/// Why something is allowed: the binding that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    /// Of the binding; empty for a `ClusterRoleBinding`.
    pub namespace: String,
    pub binding: String,
    pub role: RoleRef,
}

impl std::fmt::Display for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RoleRef { kind, name, .. } = &self.role;
        if self.namespace.is_empty() {
            write!(f, "RBAC: allowed by ClusterRoleBinding {:?} of {kind} {name:?}", self.binding)
        } else {
            let place = format!("{}/{}", self.binding, self.namespace);
            write!(f, "RBAC: allowed by RoleBinding {place:?} of {kind} {name:?}")
        }
    }
}

fn change<T>(
    map: &mut BTreeMap<String, BTreeMap<String, T>>,
    namespace: &str,
    name: &str,
    value: Option<T>,
) {
    match value {
        Some(value) => {
            map.entry(namespace.to_owned()).or_default().insert(name.to_owned(), value);
        }
        None => {
            if let Some(own) = map.get_mut(namespace) {
                own.remove(name);
                if own.is_empty() {
                    map.remove(namespace);
                }
            }
        }
    }
}

impl Rights {
    /// Sets or removes a role; a cluster role has the empty namespace.
    pub fn set_role(&mut self, namespace: &str, name: &str, rules: Option<Vec<Rule>>) {
        change(&mut self.roles, namespace, name, rules.map(Arc::from));
    }

    /// Sets or removes a binding; a cluster role binding has the empty namespace.
    pub fn set_binding(&mut self, namespace: &str, name: &str, binding: Option<Binding>) {
        change(&mut self.bindings, namespace, name, binding.map(Arc::new));
    }

    /// The rules of the role that a binding in a namespace names.
    pub fn role(&self, namespace: &str, role: &RoleRef) -> Option<&[Rule]> {
        let place = match role.kind.as_str() {
            "ClusterRole" => "",
            "Role" if !namespace.is_empty() => namespace,
            _ => return None,
        };
        self.roles.get(place)?.get(&role.name).map(AsRef::as_ref)
    }

    /// Every rule that holds for somebody in a namespace, with the ground it stands on.
    fn rules_of<'r>(
        &'r self,
        who: &'r Who<'_>,
        namespace: &'r str,
    ) -> impl Iterator<Item = (&'r Rule, &'r str, &'r str, &'r Binding)> {
        let places = [Some(""), Some(namespace).filter(|namespace| !namespace.is_empty())];
        places.into_iter().flatten().flat_map(move |place| {
            let own = self.bindings.get(place).into_iter().flatten();
            own.filter(move |(_, binding)| {
                binding.subjects.iter().any(|subject| is_meant(subject, who, place))
            })
            .flat_map(move |(name, binding)| {
                let rules = self.role(place, &binding.role).unwrap_or_default();
                rules.iter().map(move |rule| (rule, place, name.as_str(), binding.as_ref()))
            })
        })
    }

    /// Whether it is allowed, and by what.
    pub fn allows(&self, who: &Who<'_>, asked: &Asked<'_>) -> Option<Ground> {
        let namespace = match asked {
            Asked::Resource { namespace, .. } => namespace,
            Asked::Url { .. } => "",
        };
        let found = self.rules_of(who, namespace).find(|(rule, ..)| rule_allows(rule, asked));
        found.map(|(_, place, name, binding)| Ground {
            namespace: place.to_owned(),
            binding: name.to_owned(),
            role: binding.role.clone(),
        })
    }

    /// Everything that somebody may do in a namespace (empty: at the cluster's scope).
    pub fn rules_for(&self, who: &Who<'_>, namespace: &str) -> Vec<Rule> {
        self.rules_of(who, namespace)
            .map(|(rule, place, ..)| {
                let mut rule = rule.clone();
                if !place.is_empty() {
                    rule.non_resource_urls.clear();
                }
                rule
            })
            .filter(|rule| !rule.resources.is_empty() || !rule.non_resource_urls.is_empty())
            .collect()
    }
}

/// Whether a subject of a binding in `place` is the one who asks.
fn is_meant(subject: &Subject, who: &Who<'_>, place: &str) -> bool {
    match subject.kind.as_str() {
        "User" => who.user == subject.name,
        "Group" => who.groups.contains(&subject.name),
        "ServiceAccount" => {
            let namespace =
                if subject.namespace.is_empty() { place } else { subject.namespace.as_str() };
            let account = who.user.strip_prefix("system:serviceaccount:");
            !namespace.is_empty()
                && account.and_then(|account| account.split_once(':'))
                    == Some((namespace, subject.name.as_str()))
        }
        _ => false,
    }
}

fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|item| item == "*" || item == text)
}

/// Whether one rule allows what is asked.
pub fn rule_allows(rule: &Rule, asked: &Asked<'_>) -> bool {
    match asked {
        Asked::Resource { verb, group, resource, subresource, name, .. } => {
            has(&rule.verbs, verb)
                && has(&rule.api_groups, group)
                && rule.resources.iter().any(|own| names_resource(own, resource, subresource))
                && (rule.resource_names.is_empty()
                    || rule.resource_names.iter().any(|own| own == name))
        }
        Asked::Url { verb, path } => {
            has(&rule.verbs, verb) && rule.non_resource_urls.iter().any(|own| names_url(own, path))
        }
    }
}

fn names_resource(own: &str, resource: &str, subresource: &str) -> bool {
    if own == "*" {
        return true;
    }
    match own.split_once('/') {
        None => subresource.is_empty() && own == resource,
        Some((whole, part)) => {
            !subresource.is_empty() && part == subresource && (whole == "*" || whole == resource)
        }
    }
}

/// Whether a rule's path, which may end in `*`, means this one.
pub fn names_url(own: &str, path: &str) -> bool {
    match own.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => own == path,
    }
}

#[cfg(test)]
mod tests;
