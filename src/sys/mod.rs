//! The only code that touches the operating system.

pub mod documents;
pub mod services;
pub mod tls;
pub mod wall_clock;
