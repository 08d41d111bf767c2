//! Hands a ruleset to the `nft` program; the kernel applies it whole or not at all.
//!
//! Why the program and not netlink: the bundle carries it, its language is documented,
//! and what we set can be read back with the tool that operators know.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// `nft` answers in milliseconds; one that does not answer within this is stuck.
const NFT_DEADLINE: Duration = Duration::from_secs(20);

/// A ruleset was not applied.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    #[error("cannot run {program}")]
    Run {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{program} refused the ruleset: {message}")]
    Refused { program: String, message: String },
    #[error("cannot understand what {program} lists")]
    Listing {
        program: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("{program} did not answer within {} s", NFT_DEADLINE.as_secs())]
    Stuck { program: String },
}

/// What stands in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) chains: BTreeSet<String>,
    pub(crate) sets: BTreeSet<String>,
}

/// Applies all commands in one kernel transaction.
pub(crate) async fn apply(program: &Path, commands: &str) -> Result<(), NftError> {
    let output = run(program, &["-f", "-"], commands).await?;
    if output.status.success() { Ok(()) } else { Err(refused(program, &output)) }
}

/// The chains and sets of a table of IPv4; nothing where there is no table.
pub(crate) async fn names(program: &Path, table: &str) -> Result<Names, NftError> {
    let output = run(program, &["-j", "-t", "list", "table", "ip", table], "").await?;
    if !output.status.success() {
        let missing = String::from_utf8_lossy(&output.stderr).contains("No such file");
        return if missing { Ok(Names::default()) } else { Err(refused(program, &output)) };
    }
    let listed: Value = serde_json::from_slice(&output.stdout)
        .map_err(|source| NftError::Listing { program: program.display().to_string(), source })?;
    let mut names = Names::default();
    for entry in listed["nftables"].as_array().into_iter().flatten() {
        let name = |kind: &str| entry[kind]["name"].as_str().map(str::to_owned);
        names.chains.extend(name("chain"));
        names.sets.extend(name("set"));
    }
    Ok(names)
}

fn refused(program: &Path, output: &Output) -> NftError {
    let mut message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if message.is_empty() {
        message = output.status.to_string();
    }
    NftError::Refused { program: program.display().to_string(), message }
}

async fn run(program: &Path, arguments: &[&str], input: &str) -> Result<Output, NftError> {
    let name = program.display().to_string();
    let failed = |source| NftError::Run { program: name.clone(), source };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut pipe = child.stdin.take().expect("stdin was requested as a pipe");
    let exchange = async {
        // A refusal may close the pipe before all is read; the exit status tells why.
        let _ = pipe.write_all(input.as_bytes()).await;
        drop(pipe);
        child.wait_with_output().await
    };
    match tokio::time::timeout(NFT_DEADLINE, exchange).await {
        Ok(output) => output.map_err(failed),
        Err(_) => Err(NftError::Stuck { program: name }),
    }
}
