//! The only code that touches the operating system.

pub mod cgroup;
pub mod forward;
pub mod mounts;
pub mod namespaces;
pub mod netlink;
pub mod pid1;
pub mod services;
pub mod tree;
pub mod waiting;
