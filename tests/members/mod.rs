//! Members of a store as processes of their own, and a client of etcd's protocol, for the
//! tests and figures that kill real processes.
//!
//! Whoever uses it runs [`member::run`] when its own program is called with `member
//! DIRECTORY`.

#[path = "../certificates.rs"]
mod certificates;
pub(crate) mod client;
pub(crate) mod clusters;
pub(crate) mod member;
