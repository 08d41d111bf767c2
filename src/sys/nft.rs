//! Hands a ruleset to the `nft` program; the kernel applies it whole or not at all.
//!
//! Why the program and not netlink: the bundle carries it, its JSON is a documented
//! interface, and what we set can be read back with the tool that operators know.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nftables::schema::Nftables;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// `nft` answers in milliseconds; one that does not answer within this is stuck.
const NFT_DEADLINE: Duration = Duration::from_secs(20);

/// A ruleset was not applied.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    #[error("cannot write the ruleset as JSON")]
    Encode(#[source] serde_json::Error),
    #[error("cannot run {program}")]
    Run {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{program} refused the ruleset: {message}")]
    Refused { program: String, message: String },
    #[error("{program} did not answer within {} s", NFT_DEADLINE.as_secs())]
    Stuck { program: String },
}

/// Applies all commands in one kernel transaction.
pub(crate) async fn apply(program: &Path, ruleset: &Nftables<'_>) -> Result<(), NftError> {
    let document = serde_json::to_vec(ruleset).map_err(NftError::Encode)?;
    let name = program.display().to_string();
    let run = |source| NftError::Run { program: name.clone(), source };
    let mut child = Command::new(program)
        .args(["-j", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(run)?;
    let mut input = child.stdin.take().expect("stdin was requested as a pipe");
    let exchange = async {
        // A refusal may close the pipe before all is read; the exit status tells why.
        let _ = input.write_all(&document).await;
        drop(input);
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(NFT_DEADLINE, exchange).await {
        Ok(output) => output.map_err(run)?,
        Err(_) => return Err(NftError::Stuck { program: name }),
    };
    if output.status.success() {
        return Ok(());
    }
    let mut message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if message.is_empty() {
        message = output.status.to_string();
    }
    Err(NftError::Refused { program: name, message })
}
