//! The status page: one HTML document, rendered on the server, without any script.

use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, context};

use crate::model::cluster_status::ClusterStatus;

pub(super) const STYLE: &str = include_str!("style.css");
pub(super) const ICON: &str = include_str!("icon.svg");
const TEMPLATE: &str = include_str!("page.html");

/// How often the browser asks again, seconds.
const REFRESH_SECONDS: u32 = 5;

fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

pub(super) fn render(status: &ClusterStatus) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_filter("size", size);
    environment.render_str(
        TEMPLATE,
        context! {
            status => Value::from(Serde(status)),
            headline => status.headline(),
            pods => status.pods.text(),
            refresh => REFRESH_SECONDS,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::model::cluster_status::{ClusterStatus, MemberView, NodeView, QuorumLossView};
    use crate::model::node_config::Role;

    fn sample() -> ClusterStatus {
        let mut status: ClusterStatus = serde_json::from_value(serde_json::json!({
            "cluster": "lab", "clusterId": "6f3c1f0e-6b8e-4a4e-9c37-0e6d0f1f7c11", "generation": 1,
            "answeredBy": "a1", "quorum": true,
            "store": {"member": 1, "boot": 3, "term": 4, "revision": 1520, "committedIndex": 1600,
                      "appliedIndex": 1600, "logBytes": 1_400_000, "stateBytes": 9_000_000},
            "members": [], "nodes": [], "pods": {"total": 3, "ready": 3, "pending": 0, "failed": 0},
            "certificates": [{"name": "node.crt", "expires": "2027-11-21T10:00:00Z", "daysLeft": 365}],
            "disks": [{"path": "/var/lib/holdfast", "totalBytes": 250_000_000_000_u64, "freeBytes": 80_000_000_000_u64}],
            "problems": [],
        }))
        .unwrap();
        for (index, name) in ["a1", "b1", "c1"].into_iter().enumerate() {
            status.members.push(MemberView {
                id: crate::base::ids::MemberId(index as u64 + 1),
                name: name.into(),
                address: format!("10.77.0.1{}:2380", index + 1),
                voter: true,
                leader: index == 0,
                answers: true,
                lag_entries: (index > 0).then_some(0),
            });
            status.nodes.push(NodeView {
                name: name.into(),
                center: name[..1].into(),
                roles: vec![Role::Control, Role::Worker],
                address: format!("10.77.0.1{}", index + 1),
                ready: index != 2,
                reason: if index == 2 { "NodeStatusUnknown".into() } else { String::new() },
                pods: 1,
            });
        }
        status
    }

    #[test]
    fn the_page_shows_members_nodes_and_problems() {
        let mut status = sample();
        let calm = render(&status).unwrap();
        assert!(calm.contains("Leader a1; 3 of 3 members answer"));
        assert!(calm.contains("All is well") && calm.contains("10.77.0.12:2380"));
        status.problems.push("Node c1 is <silent>.".into());
        status.quorum = false;
        status.as_of = "2026-01-01T09:08:07Z".into();
        for member in &mut status.members {
            member.leader = false;
            member.answers = member.name == "a1";
        }
        status.quorum_loss = Some(QuorumLossView {
            answering: vec!["a1".into()],
            silent: vec!["b1".into(), "c1".into()],
            missing: 1,
            remedy: "start b1 or c1".into(),
        });
        let alarmed = render(&status).unwrap();
        let told = "As of 09:08:07 UTC, from the local replica of a1, no leader: 1 of 3 members \
                    answers, start b1 or c1";
        assert!(alarmed.contains(told), "{alarmed}");
        assert!(alarmed.contains("Node c1 is &lt;silent&gt;."), "text is escaped");
        if let Ok(path) = std::env::var("HOLDFAST_PAGE_OUT") {
            std::fs::write(path, alarmed).unwrap();
        }
    }
}
