//! The only code that touches the operating system.

pub mod blob_files;
pub mod durable_file;
pub mod in_netns;
pub mod nft;
pub mod pod_link;
pub mod routes;
pub mod rtnl;
pub mod services;
pub mod sysctl;
