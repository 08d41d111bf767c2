//! The cluster's authority, its certificates and its join tokens.
