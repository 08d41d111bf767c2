//! The rows of who may do what: service accounts, roles and bindings.

use serde_json::Value;

use super::{Kind, PLAIN, Subresource};
use crate::model::kinds::{NameRule, defaults, print, validate};
use crate::model::rbac::GROUP;
use crate::model::schema;

/// Through the table of types, where a kind needs no code of its own.
pub(super) fn shaped(
    api_version: &str,
    kind: &str,
    value: Value,
) -> Result<Value, serde_json::Error> {
    let shape = schema::by_kind(api_version, kind).expect("a test finds every kind's type");
    schema::decode(shape, value)
}

const RBAC_VERSION: &str = "rbac.authorization.k8s.io/v1";
const RBAC: Kind = Kind { group: GROUP, name_rule: NameRule::PathSegment, ..PLAIN };

pub(super) const SERVICE_ACCOUNT: Kind = Kind {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    subresources: &[Subresource::Token],
    columns: print::access::SERVICE_ACCOUNT,
    decode: |value| shaped("v1", "ServiceAccount", value),
    ..PLAIN
};

pub(super) const CLUSTER_ROLE: Kind = Kind {
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    namespaced: false,
    columns: print::access::ROLE,
    decode: |value| shaped(RBAC_VERSION, "ClusterRole", value),
    validate: validate::access::cluster_role,
    ..RBAC
};

pub(super) const CLUSTER_ROLE_BINDING: Kind = Kind {
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    namespaced: false,
    columns: print::access::BINDING,
    decode: |value| shaped(RBAC_VERSION, "ClusterRoleBinding", value),
    default: defaults::access::binding,
    validate: validate::access::cluster_binding,
    validate_update: validate::access::binding_update,
    ..RBAC
};

pub(super) const ROLE: Kind = Kind {
    kind: "Role",
    plural: "roles",
    singular: "role",
    columns: print::access::ROLE,
    decode: |value| shaped(RBAC_VERSION, "Role", value),
    validate: validate::access::role,
    ..RBAC
};

pub(super) const ROLE_BINDING: Kind = Kind {
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    columns: print::access::BINDING,
    decode: |value| shaped(RBAC_VERSION, "RoleBinding", value),
    default: defaults::access::binding,
    validate: validate::access::role_binding,
    validate_update: validate::access::binding_update,
    ..RBAC
};
