//! `holdfast status`: the whole cluster on one screen, or as one JSON document.

use clap::Args;
use comfy_table::{Cell, CellAlignment, Table, presets};
use indicatif::HumanBytes;

use crate::cli::connection::Connection;
use crate::cli::exit::{Exit, finish};
use crate::cli::printer;
use crate::model::cluster_status::ClusterStatus;

/// Shows members, leader, lag, nodes, pods, certificates and disk.
///
/// Exit code 0 when all is well, 2 when something wants attention, 69 when no node
/// answers.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// `json` prints one stable document.
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
    #[command(flatten)]
    connection: Connection,
}

/// Asks the first node that answers.
pub async fn run(args: StatusArgs) -> Exit {
    let api = match args.connection.api() {
        Ok(api) => api,
        Err(error) => return finish(Err(error)),
    };
    let answer = api.get_raw("/holdfast/v1/status", &[], "application/json").await;
    let document = match answer {
        Ok(document) => document,
        Err(error) => return finish(Err(error.into())),
    };
    let status: ClusterStatus = match serde_json::from_value(document.clone()) {
        Ok(status) => status,
        Err(error) => {
            printer::error(&format!("the node answered something else than a status: {error}"));
            return Exit::Failed;
        }
    };
    if args.output == "json" {
        printer::document(&document);
    } else {
        printer::text(&render(&status));
    }
    if status.problems.is_empty() { Exit::Done } else { Exit::Attention }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    table
}

fn number(value: impl ToString) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}

fn members(status: &ClusterStatus) -> Table {
    let mut members = table(&["MEMBER", "ID", "ROLE", "ADDRESS", "ANSWERS", "BEHIND"]);
    for member in &status.members {
        let role = match (member.leader, member.voter) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        let lag = match member.lag_entries {
            _ if member.leader => "-".to_owned(),
            Some(entries) => format!("{entries} entries"),
            None => "unknown".to_owned(),
        };
        members.add_row([
            Cell::new(&member.name),
            Cell::new(member.id),
            Cell::new(role),
            Cell::new(&member.address),
            Cell::new(if member.answers { "yes" } else { "NO" }),
            number(lag),
        ]);
    }
    members
}

fn nodes(status: &ClusterStatus) -> Table {
    let mut nodes = table(&["NODE", "CENTER", "ROLES", "ADDRESS", "STATE", "PODS"]);
    for node in &status.nodes {
        let roles: Vec<String> =
            node.roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
        let state =
            if node.ready { "Ready".to_owned() } else { format!("NotReady {}", node.reason) };
        nodes.add_row([
            Cell::new(&node.name),
            Cell::new(&node.center),
            Cell::new(roles.join(",")),
            Cell::new(&node.address),
            Cell::new(state),
            number(node.pods),
        ]);
    }
    nodes
}

fn render(status: &ClusterStatus) -> String {
    let store = &status.store;
    let mut text = format!(
        "{}\nCluster {} ({}), generation {}, seen from {}\n",
        status.headline(),
        status.cluster,
        status.cluster_id,
        status.generation,
        status.answered_by
    );
    text += &format!(
        "Store: term {}, revision {}, committed {}, applied {}, log {}, state {}\n",
        store.term,
        store.revision,
        store.committed_index,
        store.applied_index,
        HumanBytes(store.log_bytes),
        HumanBytes(store.state_bytes)
    );
    text += &format!("\n{}\n\n{}\n\n", members(status), nodes(status));
    let pods = &status.pods;
    text += &format!("Pods: {} in all: {}\n", pods.total, pods.text());
    for item in &status.certificates {
        text += &format!("Certificate {}: {} days left\n", item.name, item.days_left);
    }
    for disk in &status.disks {
        let (free, total) = (HumanBytes(disk.free_bytes), HumanBytes(disk.total_bytes));
        text += &format!("Disk {}: {free} free of {total}\n", disk.path);
    }
    if status.problems.is_empty() {
        text += "\nAll is well.\n";
    } else {
        text += "\nNeeds attention:\n";
        for problem in &status.problems {
            text += &format!("  - {problem}\n");
        }
    }
    text
}
