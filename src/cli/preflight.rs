//! `holdfast preflight`: whether this host can become a node; changes nothing.

use std::net::IpAddr;

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};

use crate::cli::exit::Exit;
use crate::cli::install_tools::PathArgs;
use crate::cli::printer;
use crate::install::apply::Places;
use crate::install::preflight::{PreflightInput, preflight};
use crate::logic::preflight::passes;
use crate::model::node_config::Ports;
use crate::model::threshold::EvictionThresholds;
use crate::sys::host;

/// Columns of a terminal that the table fits, whatever it is printed to.
const WIDTH: u16 = 100;

/// Check this host and say everything that is wrong at once.
#[derive(Debug, Args)]
pub struct PreflightArgs {
    /// The node's name; the host name unless given.
    #[arg(long)]
    node: Option<String>,
    /// The address other nodes will reach this host at.
    #[arg(long)]
    address: IpAddr,
    /// MiB that the bundle will take.
    #[arg(long, default_value_t = 0)]
    space_mib: u64,
    #[command(flatten)]
    paths: PathArgs,
    /// `json` prints one stable document.
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

/// Runs the verb.
pub fn run(args: PreflightArgs) -> Exit {
    let findings = preflight(&PreflightInput {
        node_name: args.node.unwrap_or_else(|| host::system_name().hostname),
        address: args.address,
        paths: args.paths.paths(),
        ports: Ports::default(),
        engine: Places::default().engine,
        space_bytes: args.space_mib * 1_048_576,
        eviction: EvictionThresholds::default(),
        resuming: false,
        cluster_time: None,
    });
    if args.output == "json" {
        printer::document(&findings);
    } else if findings.is_empty() {
        printer::text("the host is ready");
    } else {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
        table.set_header(["SEVERITY", "CODE", "WHERE", "WHAT", "FIX"]);
        for finding in &findings {
            let severity = format!("{:?}", finding.severity).to_lowercase();
            table.add_row([&severity, finding.code, &finding.place, &finding.what, &finding.fix]);
        }
        printer::text(&table.to_string());
    }
    if passes(&findings) { Exit::Done } else { Exit::Failed }
}
