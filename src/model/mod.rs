//! Pure data: what files, records and wire messages look like.

pub mod bundle_manifest;
pub mod bundle_recipe;
pub mod cluster;
pub(crate) mod cluster_check;
pub mod cluster_record;
pub(crate) mod cluster_rules;
pub mod cluster_status;
pub mod join;
pub mod kinds;
pub mod kv;
pub mod located;
pub mod node_config;
pub mod status;
