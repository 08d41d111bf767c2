//! The protocol's messages and services as generated from `proto/` by `build.rs`.
//!
//! Why the lints are off here: what a generator writes is not ours to style.
//! Not here: what the messages mean (`wire`), what the services do (the files beside).

macro_rules! generated {
    ($name:ident, $package:literal) => {
        #[allow(
            clippy::all,
            clippy::unwrap_used,
            missing_debug_implementations,
            unreachable_pub,
            dead_code,
            reason = "generated code"
        )]
        pub(crate) mod $name {
            include!(concat!(env!("OUT_DIR"), "/", $package, ".rs"));
        }
    };
}

generated!(authpb, "authpb");
generated!(etcdserverpb, "etcdserverpb");
generated!(mvccpb, "mvccpb");
generated!(v3electionpb, "v3electionpb");
generated!(v3lockpb, "v3lockpb");
generated!(health, "grpc.health.v1");

/// The same definitions as data, for the JSON side.
pub(super) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/etcd.descriptors"));
