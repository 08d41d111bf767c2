//! Builds the whole from its configuration and owns every long-lived task.

mod adapters;
pub mod clean_up;
mod config;
pub mod control_nodes;
mod dr;
mod dr_view;
mod footing_events;
mod image_gc;
mod image_import;
mod in_process;
mod leadership;
pub mod node;
mod node_address;
mod placement;
mod pod_logs;
mod pod_streams;
mod remote_images;
mod remote_site;
mod removed_node;
mod secret_keys;
pub mod serve;
mod status;
mod status_view;
mod store_adapters;
pub mod supervise;
mod usage;
mod worker_node;
