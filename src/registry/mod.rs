//! The OCI registry that every node carries.
