//! Turns etcd's protocol definitions into Rust and into a description for the JSON side,
//! packs the words about Kubernetes' types, and chooses the linker.
//!
//! Why protox: a compiler in Rust, so that building needs no protoc on the host. The
//! results go to `OUT_DIR` and not into the repository: nothing generated is to be read,
//! and it cannot be out of date.
//! Why another linker: `src/docs/decisions/0006-linker.md`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

const DIRECTORY: &str = "src/api/etcd/proto";
const FILES: [&str; 6] =
    ["kv.proto", "auth.proto", "rpc.proto", "lock.proto", "election.proto", "health.proto"];
/// What `kubectl explain` says; half a megabyte that is read seldom.
const WORDS: &str = "src/model/schema/docs.txt";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    choose_linker()?;
    println!("cargo:rerun-if-changed={DIRECTORY}");
    let mut described = protox::compile(FILES, [DIRECTORY])?;
    for file in &mut described.file {
        // Comments are for readers of the files; the binary does not carry them.
        file.source_code_info = None;
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("etcd.descriptors"), described.encode_to_vec())?;
    compress(WORDS, &out.join("kubernetes-docs.gz"))?;
    tonic_prost_build::configure().build_client(false).bytes(".").compile_fds(described)?;
    Ok(())
}

fn compress(from: &str, to: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={from}");
    let mut packed = GzEncoder::new(std::fs::File::create(to)?, Compression::best());
    std::io::copy(&mut std::fs::File::open(from)?, &mut packed)?;
    packed.finish()?;
    Ok(())
}

/// The toolchain's own LLD: it folds functions of the same code and packs relocations.
fn choose_linker() -> Result<(), Box<dyn Error>> {
    let variable = |name| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    if variable("CARGO_CFG_TARGET_ENV")? != "musl" {
        return Ok(());
    }
    let asked = Command::new(variable("RUSTC")?).args(["--print", "sysroot"]).output()?;
    let sysroot = String::from_utf8(asked.stdout)?;
    let folder =
        Path::new(sysroot.trim()).join("lib/rustlib").join(variable("HOST")?).join("bin/gcc-ld");
    if !folder.join("ld.lld").is_file() {
        println!("cargo:warning=no LLD in {}: the binary gets larger", folder.display());
        return Ok(());
    }
    println!("cargo:rustc-link-arg=-B{}", folder.display());
    println!("cargo:rustc-link-arg=-fuse-ld=lld");
    for argument in ["--icf=all", "--pack-dyn-relocs=relr"] {
        println!("cargo:rustc-link-arg-bins=-Wl,{argument}");
    }
    Ok(())
}
