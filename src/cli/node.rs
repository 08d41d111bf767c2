//! `holdfast node`: lists the cluster's nodes and takes one out.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cli::connection::Connection;
use crate::cli::exit::{Exit, VerbError, finish};
use crate::cli::printer;
use crate::client::{ApiError, HttpApi};
use crate::install::refused::UNFINISHED;
use crate::model::node_config::Role;
use crate::model::node_list::{NodeItem, NodeList, Removed, Stage};

const PATH: &str = "/holdfast/v1/nodes";
const JSON: &str = "application/json";
/// How long a removal that goes on is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_secs(1);

/// The cluster's nodes, and how one leaves for good.
#[derive(Debug, Args)]
pub struct NodeArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    connection: Connection,
    /// `json` prints one stable document.
    #[arg(short, long, global = true, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show all nodes, with their members of the store.
    List,
    /// Take a node out of the cluster for good; its name may join again afterwards.
    ///
    /// Its member leaves the store, its Node and pods are deleted, its certificate opens
    /// nothing any more. On a node that still works `holdfast reset` does all this and
    /// undoes the host, too. The same command finishes a removal that was interrupted.
    Remove {
        name: String,
        /// Go on although the node still answers. Never waives the store's majority.
        #[arg(long)]
        force: bool,
    },
}

/// Runs the verb.
pub async fn run(args: NodeArgs) -> Exit {
    let json = args.output == "json";
    let api = match args.connection.api() {
        Ok(api) => api,
        Err(error) => return finish(Err(error)),
    };
    finish(match args.action {
        Action::List => show(&api, json).await,
        Action::Remove { name, force } => remove(&api, &name, force, json).await,
    })
}

fn parse<T: DeserializeOwned>(document: Value) -> Result<T, VerbError> {
    let parsed = serde_json::from_value(document);
    parsed.map_err(|error| VerbError::Failed(format!("the node answered something else: {error}")))
}

async fn show(api: &HttpApi, json: bool) -> Result<(), VerbError> {
    let document = api.get_raw(PATH, &[], JSON).await?;
    if json {
        printer::document(&document);
        return Ok(());
    }
    printer::text(&render(&parse(document)?));
    Ok(())
}

fn roles(node: &NodeItem) -> String {
    let names = node.roles.iter().map(|role| match role {
        Role::Control => "control",
        Role::Worker => "worker",
    });
    names.collect::<Vec<_>>().join(",")
}

fn state(node: &NodeItem) -> String {
    let health = if node.ready { "Ready".to_owned() } else { format!("NotReady {}", node.reason) };
    match node.stage {
        Stage::Joined => health,
        Stage::Joining => format!("joining, {health}"),
        Stage::Leaving => "leaving: give `holdfast node remove` again".to_owned(),
        Stage::Stray => format!("stray, {health}"),
    }
}

fn store(node: &NodeItem) -> String {
    let Some(member) = &node.member else {
        let missing = node.roles.contains(&Role::Control);
        return if missing { "no member" } else { "-" }.to_owned();
    };
    let role = match (member.leader, member.voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "learner",
    };
    match (member.answers, member.lag_entries) {
        (false, _) => format!("{role}, silent"),
        (true, Some(lag)) if !member.leader => format!("{role}, {lag} behind"),
        (true, _) => role.to_owned(),
    }
}

fn render(list: &NodeList) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["NAME", "ROLES", "CENTER", "ADDRESS", "MEMBER", "STATE", "STORE"]);
    for node in &list.nodes {
        table.add_row([
            node.name.clone(),
            roles(node),
            node.center.clone(),
            node.address.map(|address| address.to_string()).unwrap_or_default(),
            node.member_id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            state(node),
            store(node),
        ]);
    }
    table.to_string()
}

async fn remove(api: &HttpApi, name: &str, force: bool, json: bool) -> Result<(), VerbError> {
    let path = format!("{PATH}/{name}?force={force}");
    let started = Instant::now();
    let document = loop {
        match api.write_raw(Method::DELETE, &path, JSON, &json!({})).await {
            Ok(document) => break document,
            Err(ApiError::Refused(status))
                if status.reason == UNFINISHED && started.elapsed() < PATIENCE =>
            {
                printer::note(&status.message);
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    if json {
        printer::document(&document);
        return Ok(());
    }
    printer::text(&told(&parse(document)?));
    Ok(())
}

fn told(removed: &Removed) -> String {
    let name = &removed.name;
    if removed.already_done {
        return format!("node {name} was removed before");
    }
    let mut text = format!("node {name} is removed");
    let ids: Vec<String> = removed.members.iter().map(ToString::to_string).collect();
    if !ids.is_empty() {
        text += &format!("; member {} left the store", ids.join(", "));
    }
    text += &format!("; {} pods were deleted with it", removed.pods);
    if let Some(left) = removed.left.filter(|_| !ids.is_empty()) {
        text += &format!(
            "\nThe store has {} voters now and survives the loss of {} of them.",
            left.voters, left.tolerates
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::node_list::MemberSeat;

    #[test]
    fn the_list_says_who_votes_and_who_is_silent() {
        let seat = MemberSeat {
            id: crate::base::ids::MemberId(2),
            name: "b1".into(),
            address: "10.77.0.21:2380".into(),
            voter: true,
            leader: false,
            answers: false,
            lag_entries: None,
        };
        let mut node = NodeItem {
            name: "b1".into(),
            stage: Stage::Joined,
            roles: vec![Role::Control, Role::Worker],
            site: "city".into(),
            center: "b".into(),
            address: "10.77.0.21".parse().ok(),
            pod_range: None,
            member_id: Some(seat.id),
            ready: false,
            reason: "NodeStatusUnknown".into(),
            member: Some(seat),
        };
        let list = |node: &NodeItem| {
            render(&NodeList { answered_by: "a1".into(), nodes: vec![node.clone()] })
        };
        let text = list(&node);
        for wanted in ["b1", "control,worker", "NotReady NodeStatusUnknown", "voter, silent"] {
            assert!(text.contains(wanted), "{text}");
        }
        node.member = None;
        node.stage = Stage::Leaving;
        let text = list(&node);
        assert!(text.contains("no member") && text.contains("node remove"), "{text}");
    }
}
