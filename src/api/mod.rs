//! Listeners: one folder per protocol.
