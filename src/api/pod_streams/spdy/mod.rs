//! SPDY/3.1 as Kubernetes' clients speak it for port-forward and, before 1.31, for exec.
//!
//! Why our own: no maintained library speaks it any more, and of the protocol only its
//! framing is needed here: no pushes, priorities, credentials or flow control, which
//! those clients do not have either.
//! Not here: what streams mean (`port_forward`, `spdy_exec`).

mod connection;
mod dictionary;
mod frame;
mod headers;

#[cfg(test)]
mod tests;

pub(super) use connection::{Outgoing, Stream, serve};
pub use frame::{Codec, Frame, SpdyError};
pub use headers::HeaderList;
