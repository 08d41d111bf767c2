//! `holdfast config check`: everything that is wrong in a cluster file, with lines.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::base::chain::chain;
use crate::cli::exit::Exit;
use crate::cli::printer;
use crate::model::cluster::{Cluster, Problem};
use crate::sys::files;

/// Work with cluster files.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say everything that is wrong in a cluster file; 64 when something is.
    Check {
        file: PathBuf,
        /// `json` prints one stable document.
        #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
        output: String,
    },
}

/// Runs the verb.
pub fn run(args: ConfigArgs) -> Exit {
    let Action::Check { file, output } = args.action;
    let text = match files::read_text(&file) {
        Ok(text) => text,
        Err(error) => {
            printer::error(&chain(&error));
            return Exit::Usage;
        }
    };
    let (problems, warnings) = match Cluster::parse(&text) {
        Ok(parsed) => (Vec::new(), parsed.warnings),
        Err(found) => (found.0, Vec::new()),
    };
    if output == "json" {
        printer::document(&json!({ "problems": problems, "warnings": warnings }));
    } else {
        let place = |problem: &Problem| {
            let Problem { line, path, message } = problem;
            format!("{}:{line}: {path}: {message}", file.display())
        };
        for warning in &warnings {
            printer::text(&format!("warning: {}", place(warning)));
        }
        for problem in &problems {
            printer::text(&place(problem));
        }
        if problems.is_empty() {
            printer::text(&format!("{}: all right", file.display()));
        }
    }
    if problems.is_empty() { Exit::Done } else { Exit::Usage }
}
