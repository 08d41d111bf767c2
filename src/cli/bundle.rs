//! `holdfast bundle …`: make keys, build, renew the lock, verify, inspect.
//!
//! Exit codes: 0 done, 1 failed (a wrong bundle included), 64 bad usage.
//! Not here: any decision about a bundle (`bundle/`).

pub(super) mod progress;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};

use self::progress::TerminalProgress;
use crate::bundle::build::{self, BuildOptions};
use crate::bundle::{Bundle, KeyPair, TrustedKeys};
use crate::cli::exit::require_files;
use crate::model::bundle_manifest::{EntryBody, Manifest};

/// Build, sign, check and look into bundles.
#[derive(Debug, Args)]
pub struct BundleArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a signing key: PATH (private, mode 0600) and PATH.pub.
    Keygen {
        /// Where the private key goes; must not exist.
        path: PathBuf,
    },
    /// Collect, pack and sign everything into one file.
    Build(BuildArgs),
    /// Renew the package lock from what the mirrors offer now.
    Lock(LockArgs),
    /// Check the signature and every entry.
    Verify {
        bundle: PathBuf,
        /// Public keys that are trusted.
        #[arg(long, required = true)]
        trust: Vec<PathBuf>,
    },
    /// Show what is in a bundle whose signature holds.
    Inspect {
        bundle: PathBuf,
        /// Public keys that are trusted.
        #[arg(long, required = true)]
        trust: Vec<PathBuf>,
        #[arg(short, long, value_enum, default_value = "text")]
        output: OutputFormat,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OutputFormat {
    Text,
    Json,
}

#[derive(Debug, Args)]
struct BuildArgs {
    /// The list of what goes in.
    #[arg(long, default_value = "bundle/appliance.yaml")]
    appliance: PathBuf,
    /// The exact packages.
    #[arg(long, default_value = "bundle/packages.lock")]
    lock: PathBuf,
    /// The private key that signs.
    #[arg(long)]
    key: PathBuf,
    /// The file to write.
    #[arg(short, long)]
    output: PathBuf,
    /// Where package files are kept between builds.
    #[arg(long, default_value = ".build/cache")]
    cache: PathBuf,
    /// The holdfast binary that goes in; this program itself unless given.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Folder of the programs that image recipes name; the binary's folder unless given.
    #[arg(long)]
    programs: Option<PathBuf>,
    #[arg(long, default_value = "ansible-free-playbooks")]
    playbooks: PathBuf,
    #[arg(long, default_value = "images")]
    images: PathBuf,
    /// What machines without a system boot from, as a list like `bundle/system.yaml`; its
    /// lock lies beside it. Left out, the bundle serves hosts that have a system.
    #[arg(long)]
    system: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct LockArgs {
    /// Look the packages up again and write the lock.
    #[arg(long, required = true)]
    refresh: bool,
    #[arg(long, default_value = "bundle/appliance.yaml")]
    appliance: PathBuf,
    #[arg(long, default_value = "bundle/packages.lock")]
    lock: PathBuf,
    #[arg(long, default_value = ".build/cache")]
    cache: PathBuf,
    /// Renew the lock beside this list of a system's parts, instead of the appliance's.
    #[arg(long)]
    system: Option<PathBuf>,
}

/// Runs the verb; output for people and scripts goes to `out`, progress to stderr.
pub fn run(arguments: BundleArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    match arguments.action {
        Action::Keygen { path } => keygen(&path, out),
        Action::Build(arguments) => build(arguments, out),
        Action::Lock(arguments) => lock(&arguments, out),
        Action::Verify { bundle, trust } => {
            require_files(trust.iter().chain([&bundle]))?;
            let bundle = Bundle::open(&bundle, &TrustedKeys::load(&trust)?)?;
            bundle.verify_all(&TerminalProgress::new())?;
            let count = bundle.manifest().entries.len();
            writeln!(
                out,
                "{}: version {}, serial {}, {count} entries, signed by {}: all right",
                bundle.path().display(),
                bundle.version(),
                bundle.serial(),
                bundle.signer(),
            )?;
            Ok(())
        }
        Action::Inspect { bundle, trust, output } => {
            require_files(trust.iter().chain([&bundle]))?;
            let bundle = Bundle::open(&bundle, &TrustedKeys::load(&trust)?)?;
            match output {
                OutputFormat::Json => inspect_json(&bundle, out),
                OutputFormat::Text => inspect_text(&bundle, out),
            }
        }
    }
}

fn keygen(path: &std::path::Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let public = key.save(path)?;
    writeln!(out, "private key {}", path.display())?;
    writeln!(out, "public key  {}", public.display())?;
    writeln!(out, "key id      {}", key.id())?;
    Ok(())
}

fn build(arguments: BuildArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    require_files([&arguments.key, &arguments.appliance, &arguments.lock])?;
    let key = KeyPair::load(&arguments.key)?;
    let binary = match arguments.binary {
        Some(path) => path,
        None => std::env::current_exe().context("cannot find this program's own file")?,
    };
    let beside = binary.parent().map(PathBuf::from).unwrap_or_default();
    let options = BuildOptions {
        programs: arguments.programs.unwrap_or(beside),
        appliance: arguments.appliance,
        lock: arguments.lock,
        output: arguments.output,
        cache: arguments.cache,
        binary,
        playbooks: arguments.playbooks,
        images: arguments.images,
        system: arguments
            .system
            .map(|recipe| build::SystemOptions { lock: recipe.with_extension("lock"), recipe }),
    };
    let manifest = build::build(&options, &key, &TerminalProgress::new())?;
    writeln!(
        out,
        "{}: version {}, serial {}, {} entries, signed by {}",
        options.output.display(),
        manifest.version,
        manifest.serial,
        manifest.entries.len(),
        manifest.key_id,
    )?;
    write_sizes(&manifest, out)
}

fn lock(arguments: &LockArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let progress = TerminalProgress::new();
    let path = match &arguments.system {
        None => arguments.lock.clone(),
        Some(recipe) => recipe.with_extension("lock"),
    };
    let before = build::load_lock(&path).ok();
    let lock = match &arguments.system {
        None => {
            let appliance = build::load_appliance(&arguments.appliance)?;
            build::refresh(&appliance, &arguments.cache, &progress)?
        }
        Some(recipe) => {
            build::refresh_system(&build::load_system(recipe)?, &arguments.cache, &progress)?
        }
    };
    build::write_lock(&path, &lock)?;
    let mut changes = 0;
    for package in &lock.packages {
        let old = before.as_ref().and_then(|lock| lock.package(&package.name));
        if old.map(|old| &old.sha256) != Some(&package.sha256) {
            let from = old.map_or("(new)", |old| old.version.as_str());
            writeln!(out, "{} {from} -> {}", package.name, package.version)?;
            changes += 1;
        }
    }
    let count = lock.packages.len();
    writeln!(out, "{}: {count} packages, {changes} changed", path.display())?;
    Ok(())
}

fn inspect_json(bundle: &Bundle, out: &mut dyn Write) -> anyhow::Result<()> {
    let images: Vec<_> = bundle
        .images()?
        .list()
        .iter()
        .map(|image| serde_json::json!({"name": image.name, "tag": image.tag, "digest": image.digest}))
        .collect();
    let space = bundle.space_needed();
    let document = serde_json::json!({
        "path": bundle.path(),
        "fileBytes": bundle.file_size(),
        "signer": bundle.signer(),
        "images": images,
        "spaceBytes": {
            "engine": space.engine, "images": space.images,
            "playbooks": space.playbooks, "binary": space.binary,
        },
        "manifest": bundle.manifest(),
    });
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)?;
    Ok(())
}

fn inspect_text(bundle: &Bundle, out: &mut dyn Write) -> anyhow::Result<()> {
    let manifest = bundle.manifest();
    writeln!(out, "version       {}", manifest.version)?;
    writeln!(out, "serial        {}", manifest.serial)?;
    writeln!(out, "architecture  {}", manifest.architecture)?;
    writeln!(out, "signed by     {}", bundle.signer())?;
    writeln!(out, "file          {}", human(bundle.file_size()))?;
    writeln!(out, "on disk       {}", human(bundle.space_needed().total()))?;
    writeln!(out, "engine        {}", manifest.engine_prefix)?;
    write_sizes(manifest, out)?;
    writeln!(out, "images")?;
    for image in bundle.images()?.list() {
        writeln!(out, "  {}:{}  {}", image.name, image.tag, image.digest)?;
    }
    writeln!(out, "packages")?;
    for package in &manifest.packages {
        writeln!(out, "  {} {}", package.name, package.version)?;
    }
    Ok(())
}

/// One line a part of the bundle: entries, bytes unpacked, bytes packed.
fn write_sizes(manifest: &Manifest, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(out, "{:<13} {:>7} {:>12} {:>12}", "part", "entries", "unpacked", "packed")?;
    let mut parts: std::collections::BTreeMap<&str, (u64, u64, u64)> = Default::default();
    for entry in &manifest.entries {
        let part = entry.name.split('/').next().unwrap_or_default();
        let sum = parts.entry(part).or_default();
        sum.0 += 1;
        if let EntryBody::File { size, packed_size, .. } = &entry.body {
            sum.1 += size;
            sum.2 += packed_size;
        }
    }
    for (part, (count, plain, packed)) in parts {
        writeln!(out, "{part:<13} {count:>7} {:>12} {:>12}", human(plain), human(packed))?;
    }
    Ok(())
}

fn human(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
