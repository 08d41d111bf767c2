//! `holdfast run-engine --bridge NAME -- DOCKERD …` (hidden): becomes our container engine.
//!
//! Why: dockerd with `--bridge=none` deletes the link docker0 when it starts, which on a
//! host with a Docker of its own is that Docker's network. With a bridge of its own it
//! leaves docker0 alone, but such a bridge must be there before dockerd starts.
//! Invariant: the engine is this very process afterwards, so that whoever supervises it
//! sees no second one.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;
use clap::Args;
use ipnet::Ipv4Net;

use crate::cli::exit::Exit;
use crate::sys::netlink::Links;

/// Makes the bridge and becomes the engine.
#[derive(Debug, Args)]
pub struct RunEngineArgs {
    /// The engine's own bridge.
    #[arg(long)]
    bridge: String,
    /// The bridge's address with its prefix length, or dockerd would choose one.
    #[arg(long)]
    address: Ipv4Net,
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Returns only if the engine cannot be started. Must be called outside of any runtime.
pub fn run(args: &RunEngineArgs) -> anyhow::Result<Exit> {
    Links::open()?.ensure_bridge(&args.bridge, args.address)?;
    let error = Command::new(&args.command[0]).args(&args.command[1..]).exec();
    Err(error).with_context(|| format!("cannot run {}", args.command[0]))
}
