//! `holdfast token`: creates, lists and revokes join tokens. Runs on a master, with the
//! administrator's certificate there.

use std::net::SocketAddr;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};

use crate::base::chain::chain;
use crate::cli::exit::Exit;
use crate::cli::install_tools::{PathArgs, parse_server, remote_exit};
use crate::cli::join::parse_role;
use crate::cli::printer;
use crate::install::remote::HttpsRemote;
use crate::model::join::TokenRequest;
use crate::model::node_config::Role;
use crate::sys::clock;

/// Join tokens: each admits one node, once.
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    action: Action,
    /// The API of a master; this node's own unless given.
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
    /// Make a token; it is shown this once.
    Create {
        /// `control` for a master, `worker` for a node that only runs pods.
        #[arg(long, value_parser = parse_role)]
        role: Role,
        /// Lets a node join that the cluster file does not list, or lists with another
        /// address: in this center.
        #[arg(long)]
        center: Option<String>,
        /// How long it is valid, such as 30m; one hour unless given.
        #[arg(long, value_parser = humantime::parse_duration)]
        ttl: Option<std::time::Duration>,
    },
    /// Show all tokens, without their secrets.
    List,
    /// Make a token worthless.
    Revoke { id: String },
}

/// Runs the verb.
pub async fn run(args: TokenArgs) -> anyhow::Result<Exit> {
    let (own, server) = args.paths.administrator(args.server, "a master")?;
    let json = args.output == "json";
    let remote = HttpsRemote;
    let result = match args.action {
        Action::Create { role, center, ttl } => {
            let ttl_seconds = ttl.map(|ttl| ttl.as_secs());
            let request = TokenRequest { role, center, ttl_seconds };
            remote.create_token(server, &own, &request).await.map(|answer| {
                if json { printer::document(&answer) } else { printer::text(&answer.token) }
            })
        }
        Action::List => remote.list_tokens(server, &own).await.map(|tokens| {
            if json {
                return printer::document(&tokens);
            }
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            table.set_header(["ID", "ROLE", "CENTER", "EXPIRES", "STATE"]);
            for token in tokens {
                let role = format!("{:?}", token.role).to_lowercase();
                let expires = clock::to_seconds(token.expires_at);
                let center = token.center.unwrap_or_else(|| "-".to_owned());
                table.add_row([token.id, role, center, expires, token.state]);
            }
            printer::text(&table.to_string());
        }),
        Action::Revoke { id } => remote.revoke_token(server, &own, &id).await,
    };
    Ok(match result {
        Ok(()) => Exit::Done,
        Err(error) => {
            printer::error(&chain(&error));
            remote_exit(&error)
        }
    })
}
