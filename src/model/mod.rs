//! Pure data: what files, records and wire messages look like.

pub mod cluster_status;
pub mod join;
pub mod kinds;
pub mod kv;
pub mod node_config;
pub mod status;
