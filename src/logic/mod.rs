//! Pure decisions: events in, commands out, no clock and no I/O.

pub mod balance;
pub mod dns_records;
pub mod ipam;
