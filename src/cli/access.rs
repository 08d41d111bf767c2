//! `holdfast access`: tokens of users, and the keys that sign service accounts' tokens.

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use http::Method;
use serde_json::{Value, json};

use super::connection::Connection;
use super::exit::{Exit, VerbError, finish};
use super::printer;
use crate::client::HttpApi;

const JSON: &str = "application/json";
const TOKENS: &str = "/holdfast/v1/access/user-tokens";
const KEYS: &str = "/holdfast/v1/access/signing-keys";

/// Tokens for users, and the keys that sign service accounts' tokens.
#[derive(Args, Debug)]
pub struct AccessArgs {
    #[command(flatten)]
    connection: Connection,
    /// `json` prints one stable document.
    #[arg(short, long, global = true, value_parser = ["text", "json"], default_value = "text")]
    output: String,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Bearer tokens for named users; what they may do, roles and bindings say.
    UserToken {
        #[command(subcommand)]
        action: TokenAction,
    },
    /// The keys that sign service accounts' tokens.
    SigningKey {
        #[command(subcommand)]
        action: KeyAction,
    },
}

#[derive(Debug, Subcommand)]
enum TokenAction {
    /// Make a token; it is shown this once.
    Create {
        #[arg(long)]
        user: String,
        /// A group of the user; may be given several times.
        #[arg(long = "group")]
        groups: Vec<String>,
        /// How long it is valid, such as 12h; it never ends unless given.
        #[arg(long, value_parser = humantime::parse_duration)]
        ttl: Option<std::time::Duration>,
    },
    /// Show all tokens, without their secrets.
    List,
    /// Make a token worthless.
    Revoke { id: String },
}

#[derive(Debug, Subcommand)]
enum KeyAction {
    /// Show all keys; the first signs.
    List,
    /// Sign with a new key from now on; tokens of the old ones stay good.
    Rotate {
        /// Go on although the control node cannot read the old keys: all of them are lost,
        /// and with them every token of a service account.
        #[arg(long)]
        forget_unreadable: bool,
    },
    /// Make every token that a key has signed worthless.
    Remove { id: String },
}

/// Runs the verb.
pub async fn run(args: AccessArgs) -> Exit {
    finish(access(args).await)
}

async fn access(args: AccessArgs) -> Result<(), VerbError> {
    let api = args.connection.api()?;
    let json = args.output == "json";
    match args.what {
        What::UserToken { action } => token(&api, action, json).await,
        What::SigningKey { action } => key(&api, action, json).await,
    }
}

fn rows(answer: &Value, header: &[&str], row: impl Fn(&Value) -> Vec<String>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    for item in answer["items"].as_array().into_iter().flatten() {
        table.add_row(row(item));
    }
    printer::text(&table.to_string());
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

async fn token(api: &HttpApi, action: TokenAction, json: bool) -> Result<(), VerbError> {
    match action {
        TokenAction::Create { user, groups, ttl } => {
            let seconds = ttl.map(|ttl| ttl.as_secs());
            let wish = json!({"user": user, "groups": groups, "ttlSeconds": seconds});
            let answer = api.write_raw(Method::POST, TOKENS, JSON, &wish).await?;
            if json { printer::document(&answer) } else { printer::text(&text(&answer["token"])) }
        }
        TokenAction::List => {
            let answer = api.get_raw(TOKENS, &[], JSON).await?;
            if json {
                printer::document(&answer);
                return Ok(());
            }
            rows(&answer, &["ID", "USER", "GROUPS", "CREATED", "EXPIRES", "ISSUER"], |item| {
                let groups = item["groups"].as_array().into_iter().flatten();
                let groups: Vec<String> = groups.map(text).collect();
                let groups = if groups.is_empty() { "-".to_owned() } else { groups.join(",") };
                let column = |name: &str| text(&item[name]);
                vec![
                    column("id"),
                    column("user"),
                    groups,
                    column("created"),
                    column("expires"),
                    column("issuer"),
                ]
            });
        }
        TokenAction::Revoke { id } => {
            let path = format!("{TOKENS}/{id}");
            let answer = api.write_raw(Method::DELETE, &path, JSON, &json!({})).await?;
            if json { printer::document(&answer) } else { printer::text(&format!("{id} revoked")) }
        }
    }
    Ok(())
}

async fn key(api: &HttpApi, action: KeyAction, json: bool) -> Result<(), VerbError> {
    let answer = match action {
        KeyAction::List => api.get_raw(KEYS, &[], JSON).await?,
        KeyAction::Rotate { forget_unreadable } => {
            let path = format!("{KEYS}?forgetUnreadable={forget_unreadable}");
            api.write_raw(Method::POST, &path, JSON, &json!({})).await?
        }
        KeyAction::Remove { id } => {
            api.write_raw(Method::DELETE, &format!("{KEYS}/{id}"), JSON, &json!({})).await?
        }
    };
    if json {
        printer::document(&answer);
        return Ok(());
    }
    rows(&answer, &["ID", "CREATED", "SIGNS"], |item| {
        let signs = if item["signs"] == true { "yes" } else { "no" };
        vec![text(&item["id"]), text(&item["created"]), signs.to_owned()]
    });
    Ok(())
}
