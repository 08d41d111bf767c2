//! `holdfast reset`: undoes an installation.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;

use clap::Args;

use crate::app::clean_up::{Containers, PodNetwork};
use crate::app::control_nodes::known;
use crate::base::chain::chain;
use crate::cli::exit::Exit;
use crate::cli::install_tools::{PathArgs, exit_of, services};
use crate::cli::printer;
use crate::install::apply::read_config;
use crate::install::remote::HttpsRemote;
use crate::install::reset::{ResetTools, reset};

/// Undo the installation on this host: its services, containers, network and files.
///
/// The node leaves the cluster first: another control node takes it out. If none can be
/// reached, or the store would lose its majority, or this is the last control node,
/// nothing is changed unless --force is given. All data of this node is lost; nothing that
/// is not Holdfast's is touched.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Wipe the host although it cannot leave the cluster first.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    paths: PathArgs,
    /// `json` prints one stable document.
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

/// Runs the verb.
pub async fn run(args: ResetArgs) -> anyhow::Result<Exit> {
    if !args.yes && !confirmed() {
        printer::error("not confirmed; nothing was done (give --yes to skip the question)");
        return Ok(Exit::Usage);
    }
    let paths = args.paths.paths();
    let services = services();
    let tools = ResetTools {
        services: services.clone(),
        containers: Arc::new(Containers::new(paths.clone(), services)),
        network: Arc::new(PodNetwork::new(paths.clone())),
        remote: Arc::new(HttpsRemote),
        others: read_config(&paths.node_config()).map(|own| known(&own)).unwrap_or_default(),
        force: args.force,
    };
    let report = match reset(&paths, &tools).await {
        Ok(report) => report,
        Err(error) => {
            printer::error(&chain(&error));
            return Ok(exit_of(&error));
        }
    };
    if args.output == "json" {
        printer::document(&report);
    } else if !report.was_installed {
        printer::text("nothing is installed here");
    } else {
        for step in &report.done {
            printer::note(&format!("{step} done"));
        }
        if report.failed.is_empty() {
            printer::text("the host is as it was");
        }
    }
    for advice in &report.advice {
        printer::note(advice);
    }
    for failure in &report.failed {
        printer::error(failure);
    }
    Ok(if report.failed.is_empty() { Exit::Done } else { Exit::Failed })
}

fn confirmed() -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    printer::note("This removes the node and all its data. Type \"reset\" to go on:");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).is_ok() && line.trim() == "reset"
}
