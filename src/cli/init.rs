//! `holdfast init`: makes the first master from a cluster file and a bundle.

use std::path::PathBuf;

use clap::Args;

use crate::cli::exit::Exit;
use crate::cli::install_tools::{BundleFileArgs, PathArgs, interruptible, settle, tools};
use crate::cli::printer;
use crate::install::init::{InitRequest, init};
use crate::model::node_config::Ports;
use crate::sys::{files, host};

/// Make this host the first master of a new cluster.
///
/// Given again after it was interrupted, it goes on; given again after it is done, it
/// does nothing.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The cluster file.
    #[arg(long)]
    config: PathBuf,
    /// This host's name in the cluster file; its host name unless given.
    #[arg(long)]
    node: Option<String>,
    #[command(flatten)]
    bundle: BundleFileArgs,
    #[command(flatten)]
    paths: PathArgs,
    /// `json` prints one stable document.
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

/// Runs the verb.
pub async fn run(args: InitArgs) -> anyhow::Result<Exit> {
    let cluster_text = match files::read_text(&args.config) {
        Ok(text) => text,
        Err(error) => {
            printer::error(&crate::base::chain::chain(&error));
            return Ok(Exit::Usage);
        }
    };
    let request = InitRequest {
        cluster_text,
        node_name: args.node.unwrap_or_else(|| host::system_name().hostname),
        paths: args.paths.paths(),
        ports: Ports::default(),
    };
    let bundle = match args.bundle.open() {
        Ok(bundle) => bundle,
        Err(exit) => return Ok(exit),
    };
    let tools = tools(bundle);
    let result = interruptible(tools.cancel.clone(), init(&request, &tools)).await;
    Ok(settle(result, args.output == "json"))
}
