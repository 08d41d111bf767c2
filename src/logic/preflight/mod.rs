//! Judges whether a host can become a node, from facts that were gathered before.
//!
//! Why pure: every check is shown by facts that break it, and all findings come at once.
//! Codes are stable: scripts match on them. A fact that could not be learned is `None` and
//! no finding: preflight must not refuse a host because of what it could not see.
//! What would surely end the installation or lose data is an error; what will hurt later is
//! a warning; what an engineer should know is a note.
//! Not here: gathering the facts (`install/preflight`).

mod clock;
mod kernel;
mod neighbours;
mod network;
mod room;
mod settings;
mod system;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::Serialize;

pub use self::clock::ClockFacts;
pub use self::kernel::{CgroupVersion, KernelFacts};
pub use self::neighbours::{NeighbourFacts, neighbour_paths};
pub use self::network::{Interface, NetworkFacts};
pub use self::room::{FileSystemFacts, RoomFacts};
pub use self::settings::SettingFacts;
pub use self::system::SystemFacts;
use crate::model::threshold::Threshold;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The installation is refused.
    Error,
    Warning,
    Info,
    /// Looked at and nothing to say.
    Ok,
}

/// One thing about the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Stable, `port-in-use`.
    pub code: &'static str,
    pub severity: Severity,
    pub what: String,
    #[serde(rename = "where")]
    pub place: String,
    pub fix: String,
}

/// What was found on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// The host is a lab's: kernel, clock and disks are the machine's and judged there.
    pub lab: bool,
    pub system: SystemFacts,
    pub clock: ClockFacts,
    pub kernel: KernelFacts,
    pub settings: SettingFacts,
    pub room: RoomFacts,
    pub network: NetworkFacts,
    pub neighbours: NeighbourFacts,
}

/// What the node will need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNeeds {
    pub node_name: String,
    pub address: String,
    pub space_bytes: u64,
    /// What must stay free on the data directory's file system for the node to take pods.
    pub pods_need_free: Threshold,
    /// Networks that the cluster takes for pods and Services.
    pub ranges: Vec<IpNet>,
    /// A continued installation holds ports and files itself.
    pub resuming: bool,
}

/// What is looked at.
struct Seen<'a> {
    host: &'a HostFacts,
    needs: &'a HostNeeds,
}

/// What is wrong, and where.
type Faults = Vec<(String, String)>;

/// One question about a host.
struct Check {
    code: &'static str,
    severity: Severity,
    /// About the machine, not about a lab's host on it.
    machine: bool,
    fix: &'static str,
    look: fn(&Seen<'_>) -> Faults,
}

const fn check(
    code: &'static str,
    severity: Severity,
    fix: &'static str,
    look: fn(&Seen<'_>) -> Faults,
) -> Check {
    Check { code, severity, machine: false, fix, look }
}

/// A check that says nothing about the hosts of a lab.
const fn of_machine(
    code: &'static str,
    severity: Severity,
    fix: &'static str,
    look: fn(&Seen<'_>) -> Faults,
) -> Check {
    Check { code, severity, machine: true, fix, look }
}

/// One fault or none.
fn when(wrong: bool, place: &str, what: impl FnOnce() -> String) -> Faults {
    if wrong { vec![(what(), place.to_owned())] } else { Vec::new() }
}

/// A fault if the value is known and wrong.
fn known<T: Copy>(
    value: Option<T>,
    place: &str,
    wrong: impl FnOnce(T) -> bool,
    what: impl FnOnce(T) -> String,
) -> Faults {
    value
        .filter(|value| wrong(*value))
        .map(|value| (what(value), place.to_owned()))
        .into_iter()
        .collect()
}

fn mib(bytes: u64) -> u64 {
    bytes / 1_048_576
}

fn checks() -> impl Iterator<Item = &'static Check> {
    [
        system::CHECKS,
        clock::CHECKS,
        kernel::CHECKS,
        settings::CHECKS,
        room::CHECKS,
        network::CHECKS,
        neighbours::CHECKS,
    ]
    .into_iter()
    .flatten()
}

/// How many questions are asked.
pub fn count() -> usize {
    checks().map(|check| check.code).collect::<BTreeSet<_>>().len()
}

/// Those that a host is asked.
fn asked(host: &HostFacts) -> impl Iterator<Item = &'static Check> {
    checks().filter(|check| !(check.machine && host.lab))
}

/// Everything worth saying, errors first.
pub fn judge(host: &HostFacts, needs: &HostNeeds) -> Vec<Finding> {
    let seen = Seen { host, needs };
    let mut found: Vec<Finding> = asked(host)
        .flat_map(|check| {
            (check.look)(&seen).into_iter().map(|(what, place)| Finding {
                code: check.code,
                severity: check.severity,
                what,
                place,
                fix: check.fix.to_owned(),
            })
        })
        .collect();
    found.sort_by_key(|finding| finding.severity);
    found
}

/// The same and behind it what is in order.
pub fn judge_all(host: &HostFacts, needs: &HostNeeds) -> Vec<Finding> {
    let mut found = judge(host, needs);
    let mut fine: BTreeSet<&'static str> = asked(host).map(|check| check.code).collect();
    for finding in &found {
        fine.remove(finding.code);
    }
    found.extend(fine.into_iter().map(|code| Finding {
        code,
        severity: Severity::Ok,
        what: String::new(),
        place: String::new(),
        fix: String::new(),
    }));
    found
}

/// Whether the installation may go on.
pub fn passes(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.severity != Severity::Error)
}
