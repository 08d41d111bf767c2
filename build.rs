//! Turns etcd's protocol definitions into Rust, and into a description for the JSON side.
//!
//! Why protox: a compiler in Rust, so that building needs no protoc on the host. The
//! results go to `OUT_DIR` and not into the repository: nothing generated is to be read,
//! and it cannot be out of date.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;

const DIRECTORY: &str = "src/api/etcd/proto";
const FILES: [&str; 5] = ["kv.proto", "auth.proto", "rpc.proto", "lock.proto", "election.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={DIRECTORY}");
    let mut described = protox::compile(FILES, [DIRECTORY])?;
    for file in &mut described.file {
        // Comments are for readers of the files; the binary does not carry them.
        file.source_code_info = None;
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("etcd.descriptors"), described.encode_to_vec())?;
    tonic_prost_build::configure().build_client(false).bytes(".").compile_fds(described)?;
    Ok(())
}
