//! Nobody gives away rights that he does not have.
//!
//! A role may hold only what its author holds, unless he has the verb `escalate` on it; a
//! binding may name only a role that its author covers, unless he has the verb `bind` on
//! that role. Source: `pkg/registry/rbac/*/policybased/storage.go`.
//! Not here: what covers what (`logic/rbac/cover`).

use serde_json::Value;

use super::{Author, Identity, Request, Rule};
use crate::logic::rbac::not_covered;
use crate::model::rbac::{GROUP, RoleRef};
use crate::model::status::Status;
use crate::objects::{Address, Objects};

fn read<T: serde::de::DeserializeOwned + Default>(
    object: &Value,
    field: &str,
) -> Result<T, Status> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => serde_json::from_value(value.clone()).map_err(Status::internal),
    }
}

impl Objects {
    /// Refuses a role or a binding that would give more than its author has. The cluster's
    /// own writes have no author, or one that no request speaks for.
    pub(in crate::objects) async fn admit_rights(
        &self,
        address: &Address,
        old: Option<&Value>,
        new: &Value,
        author: Option<&Author>,
    ) -> Result<(), Status> {
        let Some(author) = author.filter(|_| address.kind.group == GROUP) else { return Ok(()) };
        let giver = &author.identity;
        if giver.is_master() || author.is_the_cluster() {
            return Ok(());
        }
        let same = |field: &str| old.is_some_and(|old| old.get(field) == new.get(field));
        if address.kind.plural.ends_with("bindings") {
            if same("subjects") && same("roleRef") {
                return Ok(());
            }
            return self.admit_binding(address, new, giver).await;
        }
        if same("rules") && same("aggregationRule") {
            return Ok(());
        }
        if self
            .may(giver, "escalate", address.kind.plural, &address.namespace, &address.name)
            .await?
        {
            return Ok(());
        }
        let aggregated =
            |object: &Value| object.get("aggregationRule").is_some_and(|rule| !rule.is_null());
        if aggregated(new) || old.is_some_and(aggregated) {
            // What it will gather, nobody knows yet.
            self.confirm(address, giver, &Rule::all()).await?;
        }
        self.confirm(address, giver, &read::<Vec<Rule>>(new, "rules")?).await
    }

    async fn admit_binding(
        &self,
        address: &Address,
        new: &Value,
        giver: &Identity,
    ) -> Result<(), Status> {
        let role: RoleRef = read(new, "roleRef")?;
        let (plural, place) = match role.kind.as_str() {
            "Role" => ("roles", address.namespace.as_str()),
            _ => ("clusterroles", ""),
        };
        if self.may(giver, "bind", plural, &address.namespace, &role.name).await? {
            return Ok(());
        }
        let rights = self.rights.current(&*self.kv).await?;
        let Some(rules) = rights.role(place, &role) else {
            return Err(Status::not_found(plural, GROUP, &role.name));
        };
        self.confirm(address, giver, rules).await
    }

    async fn may(
        &self,
        giver: &Identity,
        verb: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<bool, Status> {
        let request = Request { verb, group: GROUP, resource, subresource: None, namespace, name };
        Ok(self.access(giver, &request).await?.is_some())
    }

    async fn confirm(
        &self,
        address: &Address,
        giver: &Identity,
        wanted: &[Rule],
    ) -> Result<(), Status> {
        let own = self.rules_for(giver, &address.namespace).await?;
        let missing = not_covered(&own, wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let groups: Vec<String> = giver.groups.iter().map(|group| format!("{group:?}")).collect();
        let list: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let why = format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            giver.user,
            groups.join(" "),
            list.join("\n")
        );
        Err(Status::forbidden(address.kind.plural, GROUP, &address.name, &why))
    }
}
