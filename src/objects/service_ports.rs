//! Node ports of services.
//!
//! Each port in use is a key of its own, as with cluster addresses (`service_ip`): no two
//! services share one, whichever masters they are created through, and a service that is
//! removed or needs no ports any more gives them back in the same step. A service may use
//! one number for several protocols; the number is its own all the same.
//! Not here: what answers at the port (`network/`).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use super::service_ip::Plan;
use super::{Address, Objects, key, refusal, str_at};
use crate::model::kinds::Problems;
use crate::model::kv::{Compare, Op, RangeRequest};
use crate::model::status::Status;
use crate::sys::fresh;

/// Kubernetes' default range.
const RANGE: RangeInclusive<u16> = 30_000..=32_767;

const OUT_OF_RANGE: &str =
    "provided port is not in the valid range. The range of valid ports is 30000-32767";
const TAKEN: &str = "provided port is already allocated";

/// Whether the service's ports get ports of the nodes without asking for them.
pub(super) fn wants_ports(spec: &Value) -> bool {
    match spec["type"].as_str() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

/// Whether the nodes tell a load balancer's health checks about local endpoints.
pub(super) fn wants_health_check(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

fn number(value: Option<&Value>) -> Option<i64> {
    value.and_then(Value::as_i64).filter(|number| *number != 0)
}

/// The numbers that a service holds.
fn held(service: &Value) -> BTreeSet<i64> {
    if !["NodePort", "LoadBalancer"].contains(&str_at(service, "/spec/type")) {
        return BTreeSet::new();
    }
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let mut numbers: BTreeSet<i64> =
        ports.into_iter().flatten().filter_map(|port| number(port.get("nodePort"))).collect();
    numbers.extend(number(service.pointer("/spec/healthCheckNodePort")));
    numbers
}

/// Chooses numbers for one service.
struct Chooser {
    /// Of all services.
    used: BTreeSet<i64>,
    /// What the service held and may go on holding.
    before: BTreeSet<i64>,
    problems: Problems,
}

impl Chooser {
    fn explicit(&mut self, field: &str, wanted: i64) {
        let value = wanted.into();
        if self.before.contains(&wanted) {
            return;
        }
        if !u16::try_from(wanted).is_ok_and(|port| RANGE.contains(&port)) {
            self.problems.invalid(field, &value, OUT_OF_RANGE);
        } else if self.used.contains(&wanted) {
            self.problems.invalid(field, &value, TAKEN);
        }
    }

    fn free(&mut self, own: &BTreeSet<i64>) -> Result<i64, Status> {
        let count = RANGE.len();
        let start = fresh::below(count);
        let found = (0..count)
            .map(|step| i64::from(*RANGE.start()) + ((start + step) % count) as i64)
            .find(|port| !self.used.contains(port) && !own.contains(port));
        let found = found.ok_or_else(|| {
            Status::internal("failed to allocate a nodePort: range is full".to_owned())
        })?;
        Ok(found)
    }

    fn settle_ports(&mut self, ports: &mut [Value], wants: bool) -> Result<(), Status> {
        let mut own: BTreeSet<i64> = BTreeSet::new();
        for (index, port) in ports.iter().enumerate() {
            if let Some(wanted) = number(port.get("nodePort")) {
                self.explicit(&format!("spec.ports[{index}].nodePort"), wanted);
                own.insert(wanted);
            }
        }
        for index in 0..ports.len() {
            if number(ports[index].get("nodePort")).is_some() || !wants {
                continue;
            }
            // One number for both protocols of a port, such as DNS.
            let twin = ports.iter().find_map(|other| {
                let same = other["port"] == ports[index]["port"]
                    && other["protocol"] != ports[index]["protocol"];
                number(other.get("nodePort")).filter(|_| same)
            });
            let twin = twin.filter(|twin| {
                !ports.iter().any(|other| {
                    number(other.get("nodePort")) == Some(*twin)
                        && other["protocol"] == ports[index]["protocol"]
                })
            });
            let chosen = match twin {
                Some(twin) => twin,
                None => self.free(&own)?,
            };
            own.insert(chosen);
            ports[index]["nodePort"] = chosen.into();
        }
        Ok(())
    }

    fn settle(&mut self, spec: &mut Value) -> Result<(), Status> {
        let wants = wants_ports(spec);
        if let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut) {
            self.settle_ports(ports, wants)?;
        }
        if wants_health_check(spec) {
            match number(spec.get("healthCheckNodePort")) {
                Some(wanted) => self.explicit("spec.healthCheckNodePort", wanted),
                None => {
                    let own = held(&json!({"spec": spec}));
                    spec["healthCheckNodePort"] = self.free(&own)?.into();
                }
            }
        }
        Ok(())
    }
}

impl Objects {
    /// Chooses, keeps or gives back a service's node ports; fills them into `new`.
    pub(super) async fn plan_node_ports(
        &self,
        address: &Address,
        old: Option<&Value>,
        new: Option<&mut Value>,
        plan: &mut Plan,
    ) -> Result<(), Status> {
        let before = old.map(held).unwrap_or_default();
        let mut after = BTreeSet::new();
        if let Some(service) = new
            && ["NodePort", "LoadBalancer"].contains(&str_at(service, "/spec/type"))
        {
            after = self.settled_ports(address, service, &before).await?;
        }
        for port in before.difference(&after) {
            plan.ops.push(Op::delete(key::node_port(*port)));
        }
        for port in after.difference(&before) {
            let owner = json!({"namespace": address.namespace, "name": address.name});
            plan.compare.push(Compare::mod_revision(key::node_port(*port), 0));
            plan.ops.push(Op::put(key::node_port(*port), owner.to_string()));
        }
        Ok(())
    }

    async fn settled_ports(
        &self,
        address: &Address,
        service: &mut Value,
        before: &BTreeSet<i64>,
    ) -> Result<BTreeSet<i64>, Status> {
        let asked = held(service);
        let ports = service.pointer("/spec/ports").and_then(Value::as_array);
        let open = ports.into_iter().flatten().any(|port| number(port.get("nodePort")).is_none());
        let spec = &service["spec"];
        let lacks = (open && wants_ports(spec))
            || (wants_health_check(spec) && number(spec.get("healthCheckNodePort")).is_none());
        if !lacks && asked.is_subset(before) {
            return Ok(asked);
        }
        let used = self.used_ports().await?;
        let mut chooser = Chooser { used, before: before.clone(), problems: Problems::default() };
        chooser.settle(&mut service["spec"])?;
        if !chooser.problems.is_empty() {
            let causes = chooser.problems.into_causes();
            return Err(Status::invalid("Service", "", &address.name, causes));
        }
        Ok(held(service))
    }

    async fn used_ports(&self) -> Result<BTreeSet<i64>, Status> {
        let request = RangeRequest { keys_only: true, ..RangeRequest::prefix(key::NODE_PORTS) };
        let answer = self.kv.range(request).await.map_err(refusal::of)?;
        let port = |key: &[u8]| std::str::from_utf8(key).ok()?.rsplit('/').next()?.parse().ok();
        Ok(answer.kvs.iter().filter_map(|kv| port(&kv.key)).collect())
    }
}

fn unset(fields: &Map<String, Value>, field: &str) -> bool {
    fields.get(field).is_none_or(|value| value.is_null() || value == "" || *value == 0)
}

/// What an update of a service does not mention and keeps, and what the old type needed
/// and the new one cannot have; as Kubernetes does for clients that send back what they
/// read with another type.
pub(super) fn carry_over(old: &Value, next: &mut Value) {
    let (before, empty) = (&old["spec"], Map::new());
    let old_spec = before.as_object().unwrap_or(&empty);
    let after = next["spec"].clone();
    let is_open = |spec: &Value| {
        ["NodePort", "LoadBalancer"].contains(&spec["type"].as_str().unwrap_or_default())
            || spec["externalIPs"].as_array().is_some_and(|list| !list.is_empty())
    };
    let is_balanced = |spec: &Value| spec["type"] == "LoadBalancer";
    let lost = |had: bool, has: bool, field: &str| had && !has && before[field] == after[field];
    let mut dropped = Vec::new();
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if lost(is_balanced(before), is_balanced(&after), field) {
            dropped.push(field);
        }
    }
    if lost(is_open(before), is_open(&after), "externalTrafficPolicy") {
        dropped.push("externalTrafficPolicy");
    }
    let checks = wants_health_check(&after);
    if lost(wants_health_check(before), checks, "healthCheckNodePort") {
        dropped.push("healthCheckNodePort");
    }
    let ports_lost = wants_ports(before) && !wants_ports(&after) && same_ports(before, &after);
    let Some(spec) = next.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for field in dropped {
        spec.shift_remove(field);
    }
    if spec.get("type").and_then(Value::as_str) != Some("ExternalName") {
        for field in ["clusterIP", "clusterIPs"] {
            if unset(spec, field)
                && let Some(value) = old_spec.get(field)
            {
                spec.insert(field.into(), value.clone());
            }
        }
    }
    if checks
        && unset(spec, "healthCheckNodePort")
        && let Some(value) = old_spec.get("healthCheckNodePort")
    {
        spec.insert("healthCheckNodePort".into(), value.clone());
    }
    let keeps = wants_ports(before) && wants_ports(&after);
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten();
    carry_ports(before, ports, keeps, ports_lost);
}

fn node_ports(spec: &Value) -> Vec<Option<i64>> {
    let ports = spec["ports"].as_array();
    ports.into_iter().flatten().map(|port| number(port.get("nodePort"))).collect()
}

fn same_ports(before: &Value, after: &Value) -> bool {
    node_ports(before) == node_ports(after)
}

fn carry_ports<'v>(
    before: &Value,
    ports: impl Iterator<Item = &'v mut Value>,
    keeps: bool,
    lost: bool,
) {
    let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_owned();
    for port in ports.filter(|port| port.is_object()) {
        if lost {
            port.as_object_mut().map(|fields| fields.shift_remove("nodePort"));
        }
        if !keeps || number(port.get("nodePort")).is_some() {
            continue;
        }
        let mut held = before["ports"].as_array().into_iter().flatten();
        let same = held.find(|old| old["port"] == port["port"] && protocol(old) == protocol(port));
        if let Some(value) = same.and_then(|old| number(old.get("nodePort"))) {
            port["nodePort"] = value.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_old_type_needed_goes_and_what_is_not_mentioned_stays() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.7",
            "externalTrafficPolicy": "Local", "ports": [{"port": 80, "protocol": "TCP",
            "nodePort": 30080}]}});
        let mut back = old.clone();
        back["spec"]["type"] = "ClusterIP".into();
        carry_over(&old, &mut back);
        assert_eq!(back["spec"]["ports"][0].get("nodePort"), None);
        assert_eq!(back["spec"].get("externalTrafficPolicy"), None);
        assert_eq!(back["spec"]["clusterIP"], "10.96.0.7");
        let mut again =
            json!({"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81}]}});
        carry_over(&old, &mut again);
        assert_eq!(again["spec"]["ports"][0]["nodePort"], 30080);
        assert_eq!(again["spec"]["ports"][1].get("nodePort"), None);
    }
}
