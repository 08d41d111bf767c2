//! Several hosts on one machine, each with namespaces and an engine of its own.
