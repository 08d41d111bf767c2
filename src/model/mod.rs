//! Pure data: what files, records and wire messages look like.

pub mod audit;
pub mod auth;
pub mod bundle_manifest;
pub mod bundle_recipe;
pub mod cluster;
mod cluster_check;
mod cluster_draft;
pub mod cluster_record;
mod cluster_rules;
pub mod cluster_status;
pub mod cron;
pub mod index_set;
pub mod join;
pub mod kinds;
pub mod kv;
pub mod label;
pub mod lease;
pub mod located;
pub mod node_config;
pub mod node_list;
pub mod rbac;
pub mod recovery;
pub mod refusal;
pub mod schema;
pub mod secret_keys;
pub mod status;
pub mod time_zone;
