//! `holdfast audit`: who did what; and whether anybody changed the record of it.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::connection::Connection;
use super::exit::{Exit, VerbError};
use super::printer;
use crate::base::chain::chain;
use crate::client::{ApiError, HttpApi};
use crate::logic::audit_chain::Verifier;
use crate::model::audit::{AuditPage, Chained, Link};
use crate::sys::files;

const JSON: &str = "application/json";
const PATH: &str = "/holdfast/v1/audit";

/// The audit log: every write through the API, who, what, when, from where, and the answer.
#[derive(Args, Debug)]
pub struct AuditArgs {
    #[command(flatten)]
    connection: Connection,
    /// `json` prints one stable document.
    #[arg(short, long, global = true, value_parser = ["text", "json"], default_value = "text")]
    output: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show records, oldest first.
    List {
        /// Only records after this number.
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Only the newest so many.
        #[arg(long)]
        last: Option<usize>,
        /// Only of this user.
        #[arg(long)]
        user: Option<String>,
    },
    /// Check the whole chain: 0 if it is whole, 1 if a record was changed, removed or moved.
    Verify {
        /// A number and hash that were noted before, as `verify` and `export` print them:
        /// the chain must still hold that record.
        #[arg(long, value_name = "SEQ:HASH", value_parser = parse_link)]
        known: Option<Link>,
        /// Check a file that `export` wrote instead of the cluster.
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Write all records, one JSON document a line; the first line is the chain's anchor.
    Export {
        /// Instead of to stdout.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

fn parse_link(text: &str) -> Result<Link, String> {
    let wrong = || format!("{text:?} is not of the form NUMBER:HASH");
    let (seq, hash) = text.split_once(':').ok_or_else(wrong)?;
    let seq = seq.parse().map_err(|_| wrong())?;
    if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    Ok(Link { seq, hash: hash.to_lowercase() })
}

/// The whole log at one revision.
#[derive(Debug, Default)]
struct Whole {
    anchor: Link,
    head: Link,
    items: Vec<Chained>,
    pending: Vec<Value>,
}

async fn fetch(api: &HttpApi, after: u64) -> Result<Whole, VerbError> {
    let mut whole = Whole::default();
    let mut revision = 0;
    let mut next = after;
    loop {
        let query = [("after", next.to_string()), ("revision", revision.to_string())];
        let answer = api.get_raw(PATH, &query, JSON).await?;
        let page: AuditPage = serde_json::from_value(answer)
            .map_err(|error| ApiError::Garbled { reason: error.to_string() })?;
        revision = page.revision;
        (whole.anchor, whole.head) = (page.anchor, page.head);
        whole.pending.extend(page.pending);
        let Some(last) = page.items.last() else { break };
        next = last.seq;
        whole.items.extend(page.items);
        if next >= whole.head.seq {
            break;
        }
    }
    Ok(whole)
}

/// Runs the verb.
pub async fn run(args: AuditArgs) -> Exit {
    match audit(args).await {
        Ok(exit) => exit,
        Err(error) => {
            printer::error(&chain(&error));
            error.exit()
        }
    }
}

async fn audit(args: AuditArgs) -> Result<Exit, VerbError> {
    let json = args.output == "json";
    match args.action {
        Action::List { after, last, user } => {
            let whole = fetch(&args.connection.api()?, after).await?;
            list(whole, last, user.as_deref(), json);
            Ok(Exit::Done)
        }
        Action::Verify { known, file } => {
            let whole = match file {
                Some(file) => read(&file)?,
                None => fetch(&args.connection.api()?, 0).await?,
            };
            Ok(verify(&whole, known, json))
        }
        Action::Export { out } => {
            let whole = fetch(&args.connection.api()?, 0).await?;
            export(&whole, out)?;
            let Link { seq, hash } = &whole.head;
            printer::note(&format!("exported up to {seq}:{hash}; keep this elsewhere"));
            Ok(Exit::Done)
        }
    }
}

fn list(whole: Whole, last: Option<usize>, user: Option<&str>, json: bool) {
    let of_user = |record: &Value| user.is_none_or(|user| record["actor"]["user"] == user);
    let mut items: Vec<Value> =
        whole.items.iter().filter(|item| of_user(&item.record)).map(|item| json!(item)).collect();
    // Committed with their writes, and chained within a second.
    let pending = whole.pending.into_iter().filter(of_user);
    items.extend(pending.map(|record| json!({"record": record})));
    if let Some(last) = last {
        items.drain(..items.len().saturating_sub(last));
    }
    if json {
        let head = &whole.head;
        printer::document(&json!({"anchor": whole.anchor, "head": head, "items": items}));
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["SEQ", "TIME", "USER", "VERB", "WHAT", "CODE", "FROM"]);
    for item in &items {
        table.add_row(row(item));
    }
    printer::text(&table.to_string());
}

fn row(item: &Value) -> Vec<String> {
    let record = &item["record"];
    let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
    let mut user = record["actor"]["user"].as_str().unwrap_or_default().to_owned();
    if let Some(by) = record["impersonator"]["user"].as_str() {
        user = format!("{user} (by {by})");
    }
    let parts = [text("namespace"), text("resource"), text("name"), text("subresource")];
    let what: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let what = if text("resource").is_empty() { text("uri") } else { what.join("/") };
    let seq = item["seq"].as_u64().map_or_else(|| "-".to_owned(), |seq| seq.to_string());
    vec![seq, text("time"), user, text("verb"), what, record["code"].to_string(), text("source")]
}

fn verify(whole: &Whole, known: Option<Link>, json: bool) -> Exit {
    let mut verifier = Verifier::new(whole.anchor.clone(), known);
    let checked = whole
        .items
        .iter()
        .try_for_each(|item| verifier.check(item))
        .and_then(|()| verifier.finish(&whole.head));
    let (records, head, pending) = (verifier.checked(), &whole.head, whole.pending.len());
    if json {
        printer::document(&json!({
            "whole": checked.is_ok(), "records": records, "pending": pending,
            "anchor": whole.anchor, "head": head,
            "fault": checked.as_ref().err().map(ToString::to_string),
        }));
    }
    match checked {
        Ok(()) => {
            if !json {
                printer::text(&format!(
                    "{records} records are whole, from after {} to {}:{}; {pending} not chained yet",
                    whole.anchor.seq, head.seq, head.hash
                ));
            }
            Exit::Done
        }
        Err(fault) => {
            printer::error(&fault.to_string());
            Exit::Failed
        }
    }
}

fn export(whole: &Whole, out: Option<PathBuf>) -> Result<(), VerbError> {
    let mut text = format!("{}\n", json!({"anchor": whole.anchor, "head": whole.head}));
    for item in &whole.items {
        text.push_str(&json!(item).to_string());
        text.push('\n');
    }
    match out {
        Some(path) => files::write_atomic(&path, text.as_bytes(), 0o600)
            .map_err(|error| VerbError::Failed(chain(&error))),
        None => Ok(printer::stdout().write_all(text.as_bytes())?),
    }
}

fn read(path: &std::path::Path) -> Result<Whole, VerbError> {
    let text = files::read_text(path).map_err(|error| VerbError::Usage(chain(&error)))?;
    let bad = |line: usize, error: &dyn std::fmt::Display| {
        VerbError::Usage(format!("{}, line {line}: {error}", path.display()))
    };
    let mut lines = text.lines().enumerate();
    let (_, first) = lines.next().ok_or_else(|| bad(1, &"the file is empty"))?;
    let first: Value = serde_json::from_str(first).map_err(|error| bad(1, &error))?;
    let link = |name: &str| {
        serde_json::from_value::<Link>(first[name].clone()).map_err(|error| bad(1, &error))
    };
    let (anchor, head) = (link("anchor")?, link("head")?);
    let items = lines
        .map(|(index, line)| serde_json::from_str(line).map_err(|error| bad(index + 1, &error)))
        .collect::<Result<Vec<Chained>, VerbError>>()?;
    Ok(Whole { anchor, head, items, pending: Vec::new() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Whole, export, parse_link, read, row, verify};
    use crate::cli::exit::Exit;
    use crate::model::audit::{Chained, Link};

    fn whole() -> Whole {
        let mut head = Link::default();
        let items: Vec<Chained> = (0..4)
            .map(|index| {
                let next = Chained::after(&head, 5 + index, json!({"id": index, "verb": "create"}));
                head = next.link();
                next
            })
            .collect();
        Whole { head, items, ..Whole::default() }
    }

    #[test]
    fn an_export_verifies_until_somebody_edits_it() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("audit.jsonl");
        let known = Some(whole().items[1].link());
        export(&whole(), Some(file.clone())).unwrap();
        assert_eq!(verify(&read(&file).unwrap(), known.clone(), true), Exit::Done);
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let edited = [
            text.replacen("\"id\":2", "\"id\":7", 1),
            [lines[0], lines[1], lines[3], lines[4]].join("\n"),
            [lines[0], lines[2], lines[1], lines[3], lines[4]].join("\n"),
            lines[..4].join("\n"),
        ];
        for edited in edited {
            assert_ne!(edited, text);
            std::fs::write(&file, edited).unwrap();
            assert_eq!(verify(&read(&file).unwrap(), known.clone(), true), Exit::Failed);
        }
    }

    #[test]
    fn a_row_says_who_did_what_in_whose_place() {
        let record = json!({"time": "t", "actor": {"user": "jane"}, "impersonator": {"user": "admin"},
            "verb": "create", "resource": "pods", "subresource": "eviction", "namespace": "shop",
            "name": "web", "code": 201, "source": "10.0.0.9:1"});
        let shown = row(&json!({"seq": 3, "record": record}));
        let wanted =
            ["3", "t", "jane (by admin)", "create", "shop/pods/web/eviction", "201", "10.0.0.9:1"];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn a_noted_place_is_number_and_hash() {
        let hash = "ab".repeat(32);
        assert_eq!(parse_link(&format!("7:{hash}")), Ok(Link { seq: 7, hash }));
        for bad in ["7", "x:00", "7:00", ""] {
            assert!(parse_link(bad).is_err(), "{bad}");
        }
    }
}
