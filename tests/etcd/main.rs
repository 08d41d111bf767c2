//! etcd's protocol with clients and a server that we did not write.
//!
//! Why a program of its own: it starts other programs, and a child that is just being
//! started holds its parent's open locks for a moment, which tests of locks would notice.
//! Each test prints SKIPPED where its program is missing; `.ci/install-test` unpacks them.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says what it skips"
)]

mod beside;
#[path = "../certificates.rs"]
mod certificates;
mod channel;
mod clusters;
mod commands;
mod conformance;
mod etcdctl;
mod gateway;
mod group;
mod grpc_health;
mod kubernetes;
mod permissions;
mod python;
mod real;
mod rust_client;
mod served;
mod serving;
mod snapshots;
mod streams;
mod watches;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

fn b64(text: &str) -> String {
    STANDARD.encode(text)
}
