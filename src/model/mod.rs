//! Pure data: what files, records and wire messages look like.

pub mod bundle_manifest;
pub mod bundle_recipe;
pub mod cluster;
pub mod cluster_record;
pub mod cluster_status;
pub mod join;
pub mod kinds;
pub mod kv;
pub mod located;
pub mod node_config;
pub mod status;

pub(crate) mod cluster_check;
pub(crate) mod cluster_rules;
pub(crate) mod cluster_check;
pub(crate) mod cluster_rules;
