//! Pure data: what files, records and wire messages look like.

pub mod bundle_manifest;
pub mod bundle_recipe;
pub mod join;
pub mod kinds;
pub mod kv;
pub mod node_config;
pub mod status;
