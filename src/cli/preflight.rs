//! `holdfast preflight`: whether this host can become a node; changes nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use ipnet::IpNet;

use crate::cli::exit::Exit;
use crate::cli::install_tools::PathArgs;
use crate::cli::printer;
use crate::install::apply::Places;
use crate::install::preflight::{PreflightInput, preflight_whole};
use crate::logic::preflight::{Finding, Severity, passes};
use crate::model::cluster::NetworkSpec;
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
    /// Networks that the cluster will take for pods and Services.
    #[arg(long, value_delimiter = ',', default_values_t = default_ranges())]
    ranges: Vec<IpNet>,
    /// List what is in order, too.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    paths: PathArgs,
    /// `json` prints one stable document.
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

fn default_ranges() -> Vec<IpNet> {
    let network = NetworkSpec::default();
    vec![network.pod_range, network.service_range]
}

/// Runs the verb.
pub fn run(args: PreflightArgs) -> Exit {
    let whole = preflight_whole(&PreflightInput {
        node_name: args.node.unwrap_or_else(|| host::system_name().hostname),
        address: args.address,
        paths: args.paths.paths(),
        ports: Ports::default(),
        engine: Places::default().engine,
        space_bytes: args.space_mib * 1_048_576,
        eviction: EvictionThresholds::default(),
        resuming: false,
        ranges: args.ranges,
        cluster_time: None,
    });
    let shown: Vec<&Finding> =
        whole.iter().filter(|one| args.all || one.severity != Severity::Ok).collect();
    if args.output == "json" {
        printer::document(&shown);
    } else {
        if !shown.is_empty() {
            printer::text(&table(&shown));
        }
        printer::text(&summary(&whole));
    }
    if passes(&whole) { Exit::Done } else { Exit::Failed }
}

fn table(findings: &[&Finding]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(["SEVERITY", "CODE", "WHERE", "WHAT", "FIX"]);
    for finding in findings {
        let severity = format!("{:?}", finding.severity).to_lowercase();
        table.add_row([&severity, finding.code, &finding.place, &finding.what, &finding.fix]);
    }
    table.to_string()
}

/// How many were looked at, and what the host is good for.
fn summary(whole: &[Finding]) -> String {
    let count = |severity| whole.iter().filter(|one| one.severity == severity).count();
    let codes: BTreeSet<&str> = whole.iter().map(|finding| finding.code).collect();
    let verdict = if passes(whole) { "the host is ready" } else { "the host is not ready" };
    format!(
        "{verdict}: {} checks, {} errors, {} warnings, {} notes",
        codes.len(),
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Info)
    )
}
