//! `holdfast media iso|disk`: writes a bootable medium from a bundle.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};

use super::bundle::progress::TerminalProgress;
use super::exit::{Exit, require_files};
use crate::bundle::{Bundle, Shape, TrustedKeys, write_medium};

/// Write a medium that starts an empty machine, by BIOS and by UEFI.
///
/// The bundle must have been built with a system. Its signature and every part of it are
/// checked before anything is written.
#[derive(Debug, Args)]
pub struct MediaArgs {
    /// `iso`: a CD image, also for a stick and for a BMC's virtual media; `disk`: a stick with a
    /// file system that one can open and put files onto.
    #[arg(value_enum)]
    kind: Kind,
    /// The file to write.
    #[arg(short, long)]
    output: PathBuf,
    /// The bundle that the medium carries.
    #[arg(long)]
    bundle: PathBuf,
    /// Public keys that are trusted, here and by the machine that starts from the medium.
    #[arg(long, required = true)]
    trust: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Iso,
    Disk,
}

/// Runs the verb.
pub fn run(arguments: MediaArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    require_files(arguments.trust.iter().chain([&arguments.bundle]))?;
    let began = Instant::now();
    let trusted = TrustedKeys::load(&arguments.trust)?;
    let bundle = Bundle::open(&arguments.bundle, &trusted)?;
    let shape = match arguments.kind {
        Kind::Iso => Shape::Iso,
        Kind::Disk => Shape::Disk,
    };
    let size = write_medium(
        shape,
        &bundle,
        &trusted,
        &arguments.trust,
        &arguments.output,
        &TerminalProgress::new(),
    )?;
    writeln!(
        out,
        "{}: {}, version {}, serial {}, in {:.1} s",
        arguments.output.display(),
        indicatif::BinaryBytes(size),
        bundle.version(),
        bundle.serial(),
        began.elapsed().as_secs_f64(),
    )?;
    Ok(Exit::Done)
}
