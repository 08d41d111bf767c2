//! Turns etcd's protocol definitions into Rust and into a description for the JSON side,
//! packs the words about Kubernetes' types and the admin page, and chooses the linker.
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
    admin_page(&out)?;
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

/// The page's source, and where `make page` leaves what it has built of it.
const PAGE_SOURCE: &str = "src/web";
const PAGE: &str = ".build/page";
/// Says of which source the built page is.
const STAMP: &str = ".source";

/// Puts the built page beside the program. One that is missing, or of another source than
/// the one that is here, stops the build: there is no page that is empty or old in silence.
fn admin_page(out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PAGE}");
    let mut sources = Vec::new();
    gather(Path::new(PAGE_SOURCE), &mut sources)?;
    sources.sort();
    // FNV-1a; `scripts/stamp.mjs` of the page does the same.
    let mut hash = 0x811c_9dc5_u32;
    for source in &sources {
        println!("cargo:rerun-if-changed={}", source.display());
        let name = source.strip_prefix(PAGE_SOURCE)?.to_string_lossy().into_owned();
        let content = std::fs::read(source)?;
        for byte in name.bytes().chain([0]).chain(content).chain([0]) {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
    let stamp = std::fs::read_to_string(Path::new(PAGE).join(STAMP)).unwrap_or_default();
    if stamp.trim() != format!("{hash:08x}") {
        let found = if stamp.is_empty() { "is not built" } else { "is built of another source" };
        return Err(format!(
            "the admin page {found}: run `make page` first (needs nodejs and npm, which \
             .ci/install-build installs)"
        )
        .into());
    }
    let mut table = String::from("const FILES: &[File] = &[\n");
    let mut files = Vec::new();
    gather(Path::new(PAGE), &mut files)?;
    files.sort();
    for (number, file) in files.iter().filter(|file| !file.ends_with(STAMP)).enumerate() {
        let path = file.strip_prefix(PAGE)?.to_string_lossy().into_owned();
        let packed = out.join(format!("page-{number}.gz"));
        compress(&file.to_string_lossy(), &packed)?;
        let media = match file.extension().and_then(|extension| extension.to_str()) {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            other => return Err(format!("{path}: no media type for {other:?}").into()),
        };
        table.push_str(&format!(
            "    File {{ path: {path:?}, media: {media:?}, packed: include_bytes!({packed:?}) }},\n"
        ));
    }
    table.push_str("];\n");
    std::fs::write(out.join("page.rs"), table)?;
    Ok(())
}

/// All files below a folder, but for what npm has installed.
fn gather(folder: &Path, into: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return Err(format!("{}: {error}", folder.display()).into()),
    };
    for entry in entries {
        let path = entry?.path();
        if !path.is_dir() {
            into.push(path);
        } else if !path.ends_with("node_modules") {
            gather(&path, into)?;
        }
    }
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
