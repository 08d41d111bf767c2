//! The values of priorities that everybody knows.

/// Names that begin so belong to the cluster.
pub const SYSTEM_PREFIX: &str = "system-";
/// Highest value that a class of a user may have.
pub const HIGHEST_USER_VALUE: i64 = 1_000_000_000;

/// A class that every cluster has.
#[derive(Clone, Copy, Debug)]
pub struct SystemClass {
    pub name: &'static str,
    pub value: i64,
    pub description: &'static str,
}

/// The two that Kubernetes brings along.
pub const SYSTEM_CLASSES: &[SystemClass] = &[
    SystemClass {
        name: "system-cluster-critical",
        value: 2_000_000_000,
        description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    },
    SystemClass {
        name: "system-node-critical",
        value: 2_000_001_000,
        description: "Used for system critical pods that must not be moved from their current node.",
    },
];
