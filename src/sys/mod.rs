//! The only code that touches the operating system.

pub mod services;
pub mod tls;
