//! Python clients, unmodified, each driven by a script of `python/`: `etcd3` over gRPC,
//! `etcd3gw` over JSON, `aetcd` on asyncio, and Patroni's class for etcd v3.
//!
//! `.ci/install-test` makes the environment that they run in.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::served::{Served, output, program_in};

fn python() -> Option<PathBuf> {
    program_in("etcd/python/bin", "python")
}

/// Runs a script against one member; it must end well and say so.
async fn works(script: &str, says: &str) {
    let Some(python) = python() else { return };
    let served = Served::start().await;
    let mut command = Command::new(python);
    // These would replace the authority that the script names.
    command.env_remove("REQUESTS_CA_BUNDLE").env_remove("CURL_CA_BUNDLE");
    // What `etcd3` brings was generated for an older protobuf than the one in use.
    command.env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/etcd/python").join(script));
    command.arg(served.dir.path()).arg(served.port.to_string());
    let output = output(command).await;
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains(says), "{told}{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd3_works_over_grpc() {
    works("over_grpc.py", "etcd3 works").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd3gw_works_over_json() {
    works("over_json.py", "etcd3gw works").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aetcd_works_on_asyncio() {
    works("over_asyncio.py", "aetcd works").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_patroni_nodes_elect_fail_over_and_clean_up() {
    works("patroni_store.py", "patroni works").await;
}
