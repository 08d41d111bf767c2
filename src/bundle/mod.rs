//! The offline bundle: one signed file with all that an empty host needs.
