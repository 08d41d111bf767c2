//! `holdfast store`: snapshots, the check of a member's files, recovery after the loss of
//! the majority.

mod recover;
mod snapshot;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::base::chain::chain;
use crate::cli::exit::{Exit, VerbError};
use crate::cli::printer;
use crate::install::recover::RecoverError;
use crate::store::{CheckReport, OfflineError, StoppedMember};

/// Snapshots of the state, the check of its files, and recovery when the majority is lost.
#[derive(Debug, Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Save, look at and restore snapshots.
    Snapshot(snapshot::SnapshotArgs),
    /// Look through the files of a stopped member for damage; nothing is changed.
    ///
    /// Exit code 0 when all is well, 1 when something is damaged, 64 when there is no
    /// store, 75 when the member is running.
    Check(CheckArgs),
    /// Print what this host's member has, as one JSON document, for `recover --survivor`.
    Summary(recover::SummaryArgs),
    /// Go on with this host's data when the majority of the members is lost for good.
    ///
    /// `--plan` changes nothing: it shows which survivor has most and what may be lost.
    /// `--apply` asks for the number of the new generation to be typed, stops this node's
    /// service, makes the new generation with this host's member as its only voter and
    /// starts the service. If it is interrupted, give it again: it goes on.
    Recover(recover::RecoverArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The member's directory
    #[arg(long, default_value = "/var/lib/holdfast/store")]
    data_dir: PathBuf,
    /// `json` prints one stable document
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

/// Runs the verb.
pub async fn run(args: StoreArgs) -> Exit {
    let done = match args.action {
        Action::Snapshot(args) => snapshot::run(args).await,
        Action::Check(args) => check(&args),
        Action::Summary(args) => recover::summary(args).await,
        Action::Recover(args) => recover::run(args).await,
    };
    done.unwrap_or_else(|error| {
        printer::error(&chain(&error));
        error.exit()
    })
}

/// Why a verb of the store failed.
#[derive(Debug, thiserror::Error)]
enum StoreVerbError {
    #[error(transparent)]
    Verb(#[from] VerbError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error(transparent)]
    Offline(#[from] OfflineError),
    #[error("cannot use {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}")]
    Service(String),
    #[error("{0}")]
    Usage(String),
}

impl StoreVerbError {
    fn exit(&self) -> Exit {
        match self {
            StoreVerbError::Verb(error) => error.exit(),
            StoreVerbError::Offline(error)
            | StoreVerbError::Recover(RecoverError::Store(error)) => match error {
                OfflineError::Running { .. } => Exit::TryAgain,
                OfflineError::Empty { .. } | OfflineError::Occupied { .. } => Exit::Usage,
                _ => Exit::Failed,
            },
            StoreVerbError::Usage(_) => Exit::Usage,
            StoreVerbError::Recover(_)
            | StoreVerbError::File { .. }
            | StoreVerbError::Service(_) => Exit::Failed,
        }
    }
}

fn check(args: &CheckArgs) -> Result<Exit, StoreVerbError> {
    let report = StoppedMember::check(&args.data_dir)?;
    if args.output == "json" {
        printer::document(&report);
    } else {
        printer::text(&render(&report));
    }
    Ok(if report.findings.is_empty() { Exit::Done } else { Exit::Failed })
}

fn render(report: &CheckReport) -> String {
    let mut text = String::new();
    if let (Some(member), Some(generation)) = (report.member, report.generation) {
        text += &format!(
            "Member {member}, generation {generation}: {} log entries, {} keys, {} history \
             records, revision {}\n",
            report.log_entries, report.keys, report.history_records, report.revision
        );
    }
    if report.findings.is_empty() {
        return text + "No damage was found.";
    }
    text += "Damage was found:\n";
    for finding in &report.findings {
        text += &format!("  - {}: {}\n", finding.part, finding.what);
    }
    text + "This member must not serve any more. While the others have a majority: `holdfast node \
            remove` with this node's name on one of them, then `holdfast reset` and `holdfast \
            join` here; its state is copied from them."
}
