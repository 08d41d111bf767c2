//! Addresses of load balancers.
//!
//! Each address in use is a key of its own, as with cluster addresses (`service_ip`): the
//! controller that chooses them runs on one node, but for a moment two may think that they
//! are that node. It is written with the status that names the address and goes with it.
//! Services of another class have addresses that are none of our business.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::service_ip::Plan;
use super::{Address, Objects, key, refusal, str_at};
use crate::logic::address_pools::is_ours;
use crate::model::kv::{Compare, Op, RangeRequest};
use crate::model::status::Status;

fn held(service: &Value) -> BTreeSet<Ipv4Addr> {
    let class = str_at(service, "/spec/loadBalancerClass");
    if str_at(service, "/spec/type") != "LoadBalancer" || !is_ours(class) {
        return BTreeSet::new();
    }
    let ingress = service.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
    ingress.into_iter().flatten().filter_map(|one| one["ip"].as_str()?.parse().ok()).collect()
}

impl Objects {
    /// Keeps or gives back the addresses that a service's status names.
    pub(super) async fn plan_balancer(
        &self,
        address: &Address,
        old: Option<&Value>,
        new: Option<&Value>,
        plan: &mut Plan,
    ) -> Result<(), Status> {
        let (before, after) =
            (old.map(held).unwrap_or_default(), new.map(held).unwrap_or_default());
        for ip in before.difference(&after) {
            plan.ops.push(Op::delete(key::balancer_ip(*ip)));
        }
        for ip in after.difference(&before) {
            let request = RangeRequest::key(key::balancer_ip(*ip));
            if !self.kv.range(request).await.map_err(refusal::of)?.kvs.is_empty() {
                return Err(address.conflict(&format!("the address {ip} is already allocated")));
            }
            let owner = json!({"namespace": address.namespace, "name": address.name});
            plan.compare.push(Compare::mod_revision(key::balancer_ip(*ip), 0));
            plan.ops.push(Op::put(key::balancer_ip(*ip), owner.to_string()));
        }
        Ok(())
    }
}
