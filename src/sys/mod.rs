//! The only code that touches the operating system.

pub mod fresh;
pub mod services;
