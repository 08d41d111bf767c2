//! Names that a medium's maker and the system that starts from it agree on.

/// The bundle on a medium, from its root. The boot loader finds the medium by it too.
pub const BUNDLE_ON_MEDIUM: &str = "/holdfast/bundle.hfb";

/// What a medium's file system calls itself.
pub const MEDIUM_LABEL: &str = "HOLDFAST";

/// The public keys that the starting system trusts, in the kernel's first file system.
pub const TRUSTED_KEYS: &str = "/trusted.pub";
