//! `holdfast dr`: what the loss of a center would cost, and what answers wait for. Runs on a
//! control node, with the administrator's certificate there; also where no other answers.

use std::net::SocketAddr;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};

use crate::base::chain::chain;
use crate::cli::exit::Exit;
use crate::cli::install_tools::{PathArgs, parse_server, remote_exit};
use crate::cli::printer;
use crate::install::remote::HttpsRemote;
use crate::model::commit_mode::CommitMode;
use crate::model::dr_status::{DrStatus, LagView, ModeRequest, SiteRole};
use crate::sys::clock;

/// What the loss of a center or a city would cost, and the commit mode.
#[derive(Debug, Args)]
pub struct DrArgs {
    #[command(subcommand)]
    action: Action,
    /// The API of a control node; this node's own unless given.
    #[arg(long, global = true, value_parser = parse_server)]
    server: Option<SocketAddr>,
    #[command(flatten)]
    paths: PathArgs,
    /// `json` prints one stable document.
    #[arg(short, long, global = true, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show role, mode, lag of each center, and what the next loss would cost.
    ///
    /// Needs no majority: at a center that is cut off it says what this one has, how old
    /// that is, and what is proven. Exit code 0 when all is well, 2 when something is not.
    Status,
    /// Show or set what an answer waits for.
    Mode(ModeArgs),
}

#[derive(Debug, Args)]
struct ModeArgs {
    #[command(subcommand)]
    action: ModeAction,
}

#[derive(Debug, Subcommand)]
enum ModeAction {
    /// Show the mode, the footing and the newest changes.
    Show,
    /// Set the mode: `majority`, `remote-sync` or `max-protection`.
    ///
    /// Leaving a mode that waits for the remote center takes about 5 s: so long it relies on
    /// a promise. Each change is kept in the journal that `show` prints.
    Set {
        mode: CommitMode,
        /// Why, for the journal.
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// Runs the verb.
pub async fn run(args: DrArgs) -> anyhow::Result<Exit> {
    let (own, server) = args.paths.administrator(args.server, "a control node")?;
    let json = args.output == "json";
    let remote = HttpsRemote;
    let (result, whole) = match args.action {
        Action::Status => (remote.dr_status(server, &own).await, true),
        Action::Mode(ModeArgs { action: ModeAction::Show }) => {
            (remote.dr_status(server, &own).await, false)
        }
        Action::Mode(ModeArgs { action: ModeAction::Set { mode, reason } }) => {
            let request = ModeRequest { mode, reason };
            (remote.set_commit_mode(server, &own, &request).await, false)
        }
    };
    let status = match result {
        Ok(status) => status,
        Err(error) => {
            printer::error(&chain(&error));
            return Ok(remote_exit(&error));
        }
    };
    if json {
        printer::document(&status);
    } else if whole {
        printer::text(&render(&status));
    } else {
        printer::text(&mode(&status));
    }
    Ok(if whole && !status.problems.is_empty() { Exit::Attention } else { Exit::Done })
}

fn mode(status: &DrStatus) -> String {
    let mut text = format!("Commit mode {}, {}", status.mode.name(), status.footing.name());
    if !status.is_current {
        text.push_str(" (as of the newest that this node has; no leader answers)");
    }
    text.push('\n');
    for note in &status.journal {
        let at = note.at.map(clock::to_seconds).unwrap_or_else(|| "at some time".into());
        let reason = if note.reason.is_empty() { "no reason given" } else { &note.reason };
        text.push_str(&format!(
            "  {at}  {}, {}, by {}: {reason}\n",
            note.mode.name(),
            note.footing.name(),
            note.by
        ));
    }
    text.trim_end().to_owned()
}

fn lag(lag: Option<LagView>) -> [String; 3] {
    let Some(lag) = lag else { return ["unknown", "unknown", "unknown"].map(str::to_owned) };
    let bytes = lag.bytes.map_or_else(|| "many".to_owned(), |bytes| bytes.to_string());
    [lag.entries.to_string(), bytes, format!("{:.1}", lag.oldest_ms as f64 / 1_000.0)]
}

fn render(status: &DrStatus) -> String {
    let role = match status.role {
        SiteRole::Primary => "primary",
        SiteRole::Remote => "remote",
    };
    let mut text = format!(
        "Cluster {} ({}), generation {}, seen from {} in center {}, the {role} site\n",
        status.cluster, status.cluster_id, status.generation, status.answered_by, status.center
    );
    text.push_str(&match (&status.leader, status.is_current) {
        (Some(leader), _) => format!("Leader {leader}\n"),
        (None, true) => "Leader a node without a record\n".to_owned(),
        (None, false) => {
            format!("Leader none heard for {:.1} s\n", status.silent_ms as f64 / 1_000.0)
        }
    });
    text.push_str(&mode(status));
    text.push_str("\n\n");
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["CENTER", "SITE", "MEMBER", "ANSWERS", "ENTRIES", "BYTES", "OLDEST s"]);
    for center in &status.centers {
        for member in &center.members {
            let [entries, bytes, oldest] = lag(member.lag);
            let name = format!("{}{}", member.name, if member.voter { "" } else { " (learner)" });
            let answers = match (status.is_current, member.answers) {
                (false, _) => "unknown",
                (true, true) => "yes",
                (true, false) => "NO",
            };
            let row = [&center.name, &center.site, &name, answers, &entries, &bytes, &oldest];
            table.add_row(row);
        }
    }
    text.push_str(&table.to_string());
    text.push('\n');
    if let Some(canary) = &status.canary {
        text.push_str(&format!(
            "Canary {} of {}, {:.1} s old\n",
            canary.number,
            canary.by,
            canary.age_ms as f64 / 1_000.0
        ));
    }
    text.push_str(&format!("A forced failover would lose {}\n", status.rpo.in_words()));
    for loss in &status.next_loss {
        text.push_str(&format!("Loss of {}: {}\n", loss.of, loss.costs));
    }
    for problem in &status.problems {
        text.push_str(&format!("! {problem}\n"));
    }
    text.trim_end().to_owned()
}
