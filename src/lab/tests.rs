//! The lab's own parts, on bare hosts.
