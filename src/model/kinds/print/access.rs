//! The columns of service accounts, roles and bindings.

use jiff::Timestamp;
use serde_json::Value;

use super::super::Column;
use super::{AGE, NAME, list_at, number, str_at, text};

pub(in super::super) const SERVICE_ACCOUNT: &[Column] =
    &[NAME, number("Secrets", false, |account, _| list_at(account, "/secrets").len().into()), AGE];

pub(in super::super) const ROLE: &[Column] = &[
    NAME,
    text("Created At", false, |role, _| str_at(role, "/metadata/creationTimestamp").into()),
];

pub(in super::super) const BINDING: &[Column] = &[
    NAME,
    text("Role", false, |binding, _| {
        let (kind, name) = (str_at(binding, "/roleRef/kind"), str_at(binding, "/roleRef/name"));
        format!("{kind}/{name}").into()
    }),
    AGE,
    text("Users", true, |binding, now| subjects(binding, "User", now)),
    text("Groups", true, |binding, now| subjects(binding, "Group", now)),
    text("ServiceAccounts", true, |binding, now| subjects(binding, "ServiceAccount", now)),
];

fn subjects(binding: &Value, kind: &str, _: Timestamp) -> Value {
    let own = list_at(binding, "/subjects").iter().filter(|subject| subject["kind"] == kind);
    let names: Vec<String> = own
        .map(|subject| match str_at(subject, "/namespace") {
            "" => str_at(subject, "/name").to_owned(),
            namespace => format!("{namespace}/{}", str_at(subject, "/name")),
        })
        .collect();
    names.join(", ").into()
}
