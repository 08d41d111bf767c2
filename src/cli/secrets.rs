//! `holdfast secrets`: the keys that secrets are encrypted with. Runs on a control node, with
//! the administrator's certificate there.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};

use crate::base::chain::chain;
use crate::cli::exit::Exit;
use crate::cli::install_tools::{PathArgs, parse_server, remote_exit};
use crate::cli::printer;
use crate::install::remote::HttpsRemote;
use crate::model::secret_keys::{KeyId, SecretKeysStatus};
use crate::pki::SECRET_KEYS_FILE;
use crate::sys::files;

/// The keys that secrets are encrypted with in the store.
#[derive(Debug, Args)]
pub struct SecretsArgs {
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
    /// Show which key encrypts how many secrets, and which node holds which key.
    Status,
    /// Make a new key, and encrypt everything with it in the background.
    RotateKey,
    /// Take the keys of another cluster, or of a backup, from a copy of its
    /// pki/secret-keys.json.
    ImportKey { file: PathBuf },
}

/// Runs the verb.
pub async fn run(args: SecretsArgs) -> anyhow::Result<Exit> {
    let (own, server) = args.paths.administrator(args.server, "a control node")?;
    let json = args.output == "json";
    let remote = HttpsRemote;
    let result = match args.action {
        Action::Status => remote.secret_keys(server, &own).await.map(|status| {
            if json {
                printer::document(&status)
            } else {
                show(&status)
            }
            if status.is_settled() { Exit::Done } else { Exit::Attention }
        }),
        Action::RotateKey => remote.rotate_secret_key(server, &own).await.map(|answer| {
            if json {
                printer::document(&answer);
            } else {
                let key = answer["key"].as_str().unwrap_or_default();
                printer::text(&format!(
                    "key {key} is made; `holdfast secrets status` shows when everything is \
                     encrypted with it. Back up {SECRET_KEYS_FILE} of this node anew."
                ));
            }
            Exit::Done
        }),
        Action::ImportKey { file } => {
            let content = files::read(&file)?;
            remote.import_secret_keys(server, &own, content).await.map(|answer| {
                if json {
                    printer::document(&answer);
                } else {
                    printer::text(&format!("{} keys were new", answer["added"]));
                }
                Exit::Done
            })
        }
    };
    Ok(result.unwrap_or_else(|error| {
        printer::error(&chain(&error));
        remote_exit(&error)
    }))
}

fn show(status: &SecretKeysStatus) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["KEY", "STATE", "SECRETS", "HELD BY"]);
    let rotation = &status.rotation;
    let held = status.control_nodes.values().flat_map(|holder| holder.keys.iter().copied());
    let mut ids: Vec<KeyId> = held.chain(status.values.keys().copied()).collect();
    ids.extend(rotation.pending);
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let state = match id {
            id if rotation.active == Some(id) => "active",
            id if rotation.pending == Some(id) => "pending",
            id if status.missing.contains(&id) => "missing",
            _ => "old",
        };
        let count = status.values.get(&id).copied().unwrap_or_default();
        let holders: Vec<&str> = status
            .control_nodes
            .iter()
            .filter(|(_, holder)| holder.keys.contains(&id))
            .map(|(name, _)| name.as_str())
            .collect();
        table.add_row([id.to_string(), state.into(), count.to_string(), holders.join(",")]);
    }
    printer::text(&table.to_string());
    if status.plain > 0 {
        printer::text(&format!("{} secrets are not encrypted yet", status.plain));
    }
    if !status.missing.is_empty() {
        printer::text(
            "secrets under a missing key cannot be read; see `holdfast secrets import-key --help`",
        );
    }
    if !status.waiting_for.is_empty() {
        printer::text(&format!("waiting for {}", status.waiting_for.join(", ")));
    }
}
