//! Makes a host a node, and undoes it: preflight, init, join, reset.
