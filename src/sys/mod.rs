//! The only code that touches the operating system.

pub mod documents;
pub mod services;
pub mod tls;
pub mod wall_clock;
pub mod cgroup;
pub mod forward;
pub mod mounts;
pub mod namespaces;
pub mod netlink;
pub mod pid1;
pub mod services;
pub mod waiting;
pub mod files;
pub mod host;
pub mod process;
pub mod services;
pub mod systemd;
pub mod tls_keys;
