//! `holdfast reset`: undoes an installation.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;

use clap::Args;

use crate::app::clean_up::{Containers, PodNetwork};
use crate::base::chain::chain;
use crate::cli::exit::Exit;
use crate::cli::install_tools::{PathArgs, services};
use crate::cli::printer;
use crate::install::apply::InstallError;
use crate::install::reset::{ResetTools, reset};

/// Undo the installation on this host: its services, containers, network and files.
///
/// All data of this node is lost; nothing that is not Holdfast's is touched.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
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
    };
    let report = match reset(&paths, &tools).await {
        Ok(report) => report,
        Err(error) => {
            printer::error(&chain(&error));
            let busy = matches!(error, InstallError::Busy);
            return Ok(if busy { Exit::TryAgain } else { Exit::Failed });
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
