//! The ground floor: knows nothing of Holdfast and does no I/O.

pub mod chain;
pub mod ids;
pub mod limits;
