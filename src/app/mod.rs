//! Builds the whole from its configuration and owns every long-lived task.

mod adapters;
mod config;
mod image_import;
mod in_process;
mod leadership;
pub mod node;
mod pod_logs;
mod remote_images;
mod status;
pub mod supervise;
mod worker_node;
