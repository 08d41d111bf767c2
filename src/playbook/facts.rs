//! What playbooks may ask about the host, under Ansible's names where it has one.

use serde_json::{Map, Value, json};

use crate::sys::host::{self, Cgroups};
use crate::sys::services::ServiceManager;

/// Fact names and values; each is also there with the prefix `ansible_`.
pub type Facts = Map<String, Value>;

/// Looks at this host.
pub fn gather(services: &dyn ServiceManager) -> Facts {
    let system = host::system_name();
    let (distribution, version) = host::distribution();
    let cgroups = host::cgroups();
    let memory_mb = host::memory_bytes().map_or(0, |(total, _)| total / 1_048_576);
    let plain = json!({
        "service_mgr": services.name(),
        "distribution": distribution,
        "distribution_version": version,
        "hostname": system.hostname,
        "kernel": system.kernel,
        "architecture": system.machine,
        "memtotal_mb": memory_mb,
        "lab_host": host::is_lab_host(),
        "has_cgroup_v2": cgroups == Cgroups::V2,
        "has_cgroups": cgroups != Cgroups::None,
    });
    let mut facts = Facts::new();
    if let Value::Object(plain) = plain {
        for (name, value) in plain {
            facts.insert(format!("ansible_{name}"), value.clone());
            facts.insert(name, value);
        }
    }
    facts
}
