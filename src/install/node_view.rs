//! Puts together what is known of each node: its record, its member and its Node object.
//!
//! Why three sources: a node whose removal was interrupted, or that came by an older
//! version, is in some of them only, and a list that hides it cannot help to remove it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, NodeCondition};

use crate::client::Kind;
use crate::model::cluster_record::NodeRecord;
use crate::model::node_config::Role;
use crate::model::node_list::{MemberSeat, NodeItem, Stage};

fn ready_condition(node: &Node) -> Option<&NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "Ready")
}

/// Whether the Node says, or is said, to be ready.
pub(super) fn is_ready(node: &Node) -> bool {
    ready_condition(node).is_some_and(|ready| ready.status == "True")
}

fn stage(record: Option<&NodeRecord>) -> Stage {
    match record {
        None => Stage::Stray,
        Some(record) if record.leaving => Stage::Leaving,
        Some(record) if record.joined => Stage::Joined,
        Some(_) => Stage::Joining,
    }
}

fn label<'n>(node: Option<&'n Node>, name: &str) -> &'n str {
    let labels = node.and_then(|node| node.metadata.labels.as_ref());
    labels.and_then(|labels| labels.get(name)).map(String::as_str).unwrap_or_default()
}

fn address(node: &Node) -> Option<IpAddr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let own = addresses.iter().find(|address| address.type_ == "InternalIP")?;
    own.address.parse().ok()
}

fn item(
    name: &str,
    record: Option<&NodeRecord>,
    member: Option<&MemberSeat>,
    node: Option<&Node>,
) -> NodeItem {
    let ready = node.and_then(ready_condition);
    let reason = match (node, ready) {
        (_, Some(ready)) if ready.status == "True" => String::new(),
        (_, Some(ready)) => ready.reason.clone().unwrap_or_default(),
        (Some(_), None) => "it has not reported yet".to_owned(),
        (None, _) if record.is_some_and(|record| !record.roles.contains(&Role::Worker)) => {
            "it runs no pods".to_owned()
        }
        (None, _) => "it has no Node object".to_owned(),
    };
    NodeItem {
        name: name.to_owned(),
        stage: stage(record),
        roles: record.map(|record| record.roles.clone()).unwrap_or_default(),
        site: record.map_or_else(
            || label(node, "topology.kubernetes.io/region").to_owned(),
            |record| record.site.clone(),
        ),
        center: record.map_or_else(
            || label(node, "topology.kubernetes.io/zone").to_owned(),
            |record| record.center.clone(),
        ),
        address: record.map(|record| record.address).or_else(|| node.and_then(address)),
        pod_range: record.map(|record| record.pod_range),
        member_id: record
            .and_then(|record| record.member_id)
            .or_else(|| member.map(|member| member.id)),
        ready: node.is_some_and(is_ready),
        reason,
        member: member.cloned(),
    }
}

/// All nodes in order of their names.
pub(super) fn items(
    records: &[NodeRecord],
    seats: &[MemberSeat],
    objects: &[Node],
) -> Vec<NodeItem> {
    let mut names: BTreeSet<String> = records.iter().map(|record| record.name.clone()).collect();
    names.extend(seats.iter().map(|seat| seat.name.clone()));
    names.extend(objects.iter().map(|node| node.key().name));
    let mut items = Vec::new();
    for name in &names {
        let record = records.iter().find(|record| record.name == *name);
        let id = record.and_then(|record| record.member_id);
        let member = seats
            .iter()
            .find(|seat| id == Some(seat.id))
            .or_else(|| seats.iter().find(|seat| seat.name == *name));
        let node = objects.iter().find(|node| node.key().name == *name);
        items.push(item(name, record, member, node));
    }
    items
}
