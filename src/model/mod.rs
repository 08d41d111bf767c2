//! Pure data: what files, records and wire messages look like.

pub mod cluster;
pub(crate) mod cluster_check;
pub(crate) mod cluster_rules;
pub mod cluster_record;
pub mod join;
pub mod kinds;
pub mod kv;
pub mod located;
pub mod node_config;
pub mod status;
