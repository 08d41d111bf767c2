//! Cluster addresses of services, and with them their node ports (`service_ports`).
//!
//! Each address in use is a key of its own, written in the transaction that writes the
//! service; so two services never share one, whichever masters they are created through,
//! and a removed service gives its address back in the same step.
//! Not here: what answers at the address (`network/`).

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{Address, Objects, key, refusal, str_at};
use crate::model::kinds::Problems;
use crate::model::kv::{Compare, Op, RangeRequest};
use crate::model::status::Status;
use crate::sys::fresh;

/// Place in the range of the API's own service.
pub(super) const API_OFFSET: u32 = 1;
/// Place in the range of the cluster's DNS.
pub(super) const DNS_OFFSET: u32 = 10;

/// What a change of a service adds to its transaction.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) compare: Vec<Compare>,
    pub(super) ops: Vec<Op>,
}

fn is_service(address: &Address) -> bool {
    address.kind.kind == "Service" && address.kind.group.is_empty()
}

/// The address that a service holds, if it holds one.
fn held(service: &Value) -> Option<Ipv4Addr> {
    if str_at(service, "/spec/type") == "ExternalName" {
        return None;
    }
    str_at(service, "/spec/clusterIP").parse().ok()
}

impl Objects {
    /// The address `offset` places into the service range.
    pub(super) fn service_address(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.options.service_range.network()).wrapping_add(offset))
    }

    /// Chooses, keeps or gives back a service's address and ports; fills them into `new`.
    pub(super) async fn plan_service(
        &self,
        address: &Address,
        old: Option<&Value>,
        mut new: Option<&mut Value>,
    ) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        if !is_service(address) {
            return Ok(plan);
        }
        let before = old.and_then(held);
        self.plan_node_ports(address, old, new.as_deref_mut(), &mut plan).await?;
        self.plan_balancer(address, old, new.as_deref(), &mut plan).await?;
        let after = match new {
            None => None,
            Some(service) => self.settle(address, service, before).await?,
        };
        if let Some(ip) = before.filter(|ip| after != Some(*ip)) {
            plan.ops.push(Op::delete(key::service_ip(ip)));
        }
        if let Some(ip) = after.filter(|ip| before != Some(*ip)) {
            let owner = json!({"namespace": address.namespace, "name": address.name});
            plan.compare.push(Compare::mod_revision(key::service_ip(ip), 0));
            plan.ops.push(Op::put(key::service_ip(ip), owner.to_string()));
        }
        Ok(plan)
    }

    /// Makes the service's address fields agree; answers the address it will hold.
    async fn settle(
        &self,
        address: &Address,
        service: &mut Value,
        before: Option<Ipv4Addr>,
    ) -> Result<Option<Ipv4Addr>, Status> {
        let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else {
            return Ok(None);
        };
        if spec.get("type").and_then(Value::as_str) == Some("ExternalName") {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                spec.shift_remove(field);
            }
            return Ok(None);
        }
        let wanted = match spec.get("clusterIP").and_then(Value::as_str) {
            Some(text) if !text.is_empty() => text.to_owned(),
            _ => spec
                .get("clusterIPs")
                .and_then(|list| list.get(0))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
        };
        let (text, held) = match wanted.as_str() {
            "None" => (wanted, None),
            "" => {
                let ip = self.free_address().await?;
                (ip.to_string(), Some(ip))
            }
            text => {
                let ip = self.explicit_address(address, text, before).await?;
                (ip.to_string(), Some(ip))
            }
        };
        spec.insert("clusterIP".into(), text.clone().into());
        spec.insert("clusterIPs".into(), json!([text]));
        Ok(held)
    }

    async fn explicit_address(
        &self,
        address: &Address,
        text: &str,
        before: Option<Ipv4Addr>,
    ) -> Result<Ipv4Addr, Status> {
        let refuse = |why: String| {
            let mut problems = Problems::default();
            problems.invalid("spec.clusterIPs", &json!([text]), &why);
            Status::invalid("Service", "", &address.name, problems.into_causes())
        };
        let range = self.options.service_range;
        let ip: Ipv4Addr = text
            .parse()
            .map_err(|_| refuse(format!("failed to allocate IP {text}: not an IPv4 address")))?;
        if before == Some(ip) {
            return Ok(ip);
        }
        if !range.contains(&ip) || ip == range.network() || ip == range.broadcast() {
            return Err(refuse(format!(
                "failed to allocate IP {text}: the provided IP ({text}) is not in the valid range. The range of valid IPs is {range}"
            )));
        }
        let request = RangeRequest::key(key::service_ip(ip));
        if !self.kv.range(request).await.map_err(refusal::of)?.kvs.is_empty() {
            return Err(refuse(format!(
                "failed to allocate IP {text}: provided IP is already allocated"
            )));
        }
        Ok(ip)
    }

    async fn free_address(&self) -> Result<Ipv4Addr, Status> {
        let request = RangeRequest { keys_only: true, ..RangeRequest::prefix(key::SERVICE_IPS) };
        let answer = self.kv.range(request).await.map_err(refusal::of)?;
        let used: std::collections::HashSet<Ipv4Addr> = answer
            .kvs
            .iter()
            .filter_map(|kv| std::str::from_utf8(&kv.key).ok()?.rsplit('/').next()?.parse().ok())
            .collect();
        let range = self.options.service_range;
        let last = u32::from(range.broadcast()).saturating_sub(u32::from(range.network()));
        let usable = last.saturating_sub(1);
        let start = fresh::below(usable as usize) as u32;
        (0..usable)
            .map(|step| 1 + (start + step) % usable)
            .filter(|offset| *offset != API_OFFSET && *offset != DNS_OFFSET)
            .map(|offset| self.service_address(offset))
            .find(|ip| !used.contains(ip))
            .ok_or_else(|| {
                Status::internal(format!("failed to allocate a serviceIP: range {range} is full"))
            })
    }
}
