//! The only code that touches the operating system.

pub mod bundle_file;
pub mod bundle_tools;
pub mod bundle_tree;
pub mod services;
