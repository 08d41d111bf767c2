//! The only code that touches the operating system.

pub mod adverse;
pub mod bundle_file;
pub mod bundle_tools;
pub mod bundle_tree;
pub mod cgroup;
pub mod documents;
pub mod files;
pub mod forward;
pub mod fresh;
pub mod host;
pub mod host_facts;
pub mod mounts;
pub mod namespaces;
pub mod netlink;
pub mod pid1;
pub mod pod_files;
pub mod process;
pub mod services;
pub mod systemd;
pub mod tls;
pub mod tls_keys;
pub mod tree;
pub mod waiting;
pub mod wall_clock;
