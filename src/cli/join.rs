//! `holdfast join`: makes this host another node of a cluster.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use clap::Args;

use crate::cli::exit::Exit;
use crate::cli::install_tools::{
    BundleFileArgs, PathArgs, interruptible, parse_server, settle, tools,
};
use crate::cli::printer;
use crate::install::join::{JoinCommand, join};
use crate::model::node_config::{Ports, Role};
use crate::pki::JoinToken;
use crate::sys::host;

/// Make this host another node of a cluster, with a token from `holdfast token create`.
///
/// Given again after it was interrupted, it goes on, with the same token.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// The API of any master, https://10.0.0.1:6443.
    #[arg(long, value_parser = parse_server)]
    server: SocketAddr,
    #[arg(long)]
    token: String,
    /// This host's name in the cluster file; its host name unless given.
    #[arg(long)]
    node: Option<String>,
    /// This host's address; the one it reaches the server from unless given.
    #[arg(long)]
    address: Option<IpAddr>,
    /// `control` or `worker`, more than once; the cluster file's unless given.
    #[arg(long, value_parser = parse_role)]
    role: Vec<Role>,
    #[command(flatten)]
    bundle: BundleFileArgs,
    #[command(flatten)]
    paths: PathArgs,
    /// `json` prints one stable document.
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

pub(crate) fn parse_role(text: &str) -> Result<Role, String> {
    match text {
        "control" => Ok(Role::Control),
        "worker" => Ok(Role::Worker),
        other => Err(format!("{other:?} is no role; there are control and worker")),
    }
}

/// Runs the verb.
pub async fn run(args: JoinArgs) -> anyhow::Result<Exit> {
    let token: JoinToken = match args.token.parse() {
        Ok(token) => token,
        Err(error) => {
            printer::error(&format!("{error}"));
            return Ok(Exit::Usage);
        }
    };
    let address = match args.address {
        Some(address) => address,
        None => host::source_address(args.server)
            .with_context(|| format!("no route leads to {}; give --address", args.server))?,
    };
    let command = JoinCommand {
        token,
        server: args.server,
        node_name: args.node.unwrap_or_else(|| host::system_name().hostname),
        address,
        roles: args.role,
        paths: args.paths.paths(),
        ports: Ports::default(),
    };
    let bundle = match args.bundle.open() {
        Ok(bundle) => bundle,
        Err(exit) => return Ok(exit),
    };
    let tools = tools(bundle);
    let result = interruptible(tools.cancel.clone(), join(&command, &tools)).await;
    Ok(settle(result, args.output == "json"))
}
