//! `holdfast probe …` (hidden): looks at a host from inside and makes adverse conditions.
//!
//! Why in the product: a lab host and an empty server hold no other program, neither a
//! shell nor curl; whoever must find out there what is wrong needs these few tools.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::base::chain::chain;
use crate::cli::exit::Exit;
use crate::cli::printer;
use crate::sys::services::ServiceRequest;
use crate::sys::services::init_client::InitClient;
use crate::sys::{adverse, files};

/// The user id of `nobody` on every distribution.
const NOBODY: u32 = 65_534;
/// Too little for anything.
const SMALL_DISK_MIB: u32 = 16;

/// Looks at a host from inside, or runs a command under an adverse condition.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// GET a URL (plain HTTP) and print the body.
    Fetch { url: String },
    /// What our PID 1 says about a service, as JSON.
    Service { name: String },
    /// SIGKILL a process.
    Kill { pid: i32 },
    /// Run a command as an ordinary user.
    AsNobody {
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Run a command while a TCP port is taken.
    Holding {
        port: u16,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Run a command while a directory is a file system of 16 MiB.
    SmallDisk {
        path: PathBuf,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Cover a directory by an empty file system until `uncover`.
    Cover { path: PathBuf, mib: u32 },
    /// Cover a directory by the ext4 file system on a device until `uncover`.
    CoverBy { device: PathBuf, path: PathBuf },
    /// Show again what `cover` has hidden.
    Uncover { path: PathBuf },
}

/// Runs one of them; the exit code of a command is passed on.
pub async fn run(args: ProbeArgs) -> Result<u8, String> {
    match args.action {
        Action::Fetch { url } => fetch(&url).await,
        Action::Service { name } => {
            let answer = InitClient::default().ask(&ServiceRequest::Status { name });
            printer::document(&answer.map_err(|error| chain(&error))?);
            Ok(Exit::Done.code())
        }
        Action::Kill { pid } => {
            adverse::kill_hard(pid).map_err(|error| chain(&error))?;
            Ok(Exit::Done.code())
        }
        Action::AsNobody { command } => execute(program(&command).uid(NOBODY).gid(NOBODY)),
        Action::Holding { port, command } => {
            let held = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
            let _held_until_the_end = held.map_err(|error| chain(&error))?;
            execute(&mut program(&command))
        }
        Action::SmallDisk { path, command } => {
            let existed = path.exists();
            files::create_dir(&path, 0o755).map_err(|error| chain(&error))?;
            adverse::mount_small_disk(&path, SMALL_DISK_MIB).map_err(|error| chain(&error))?;
            let code = execute(&mut program(&command));
            adverse::unmount(&path).map_err(|error| chain(&error))?;
            if !existed {
                files::remove_dir_if_empty(&path).map_err(|error| chain(&error))?;
            }
            code
        }
        Action::Cover { path, mib } => {
            files::create_dir(&path, 0o755).map_err(|error| chain(&error))?;
            adverse::mount_small_disk(&path, mib).map_err(|error| chain(&error))?;
            Ok(Exit::Done.code())
        }
        Action::CoverBy { device, path } => {
            files::create_dir(&path, 0o755).map_err(|error| chain(&error))?;
            adverse::mount_device(&device, &path).map_err(|error| chain(&error))?;
            Ok(Exit::Done.code())
        }
        Action::Uncover { path } => {
            adverse::unmount(&path).map_err(|error| chain(&error))?;
            Ok(Exit::Done.code())
        }
    }
}

fn program(command: &[String]) -> Command {
    let mut program = Command::new(&command[0]);
    program.args(&command[1..]);
    program
}

fn execute(command: &mut Command) -> Result<u8, String> {
    let status = command.status().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(Exit::Failed.code()))
}

async fn fetch(url: &str) -> Result<u8, String> {
    crate::sys::tls::install_crypto();
    let client = reqwest::Client::builder()
        // A host without any tool has no list of authorities either; HTTP needs none.
        .tls_certs_only([])
        .no_proxy()
        // Plain HTTP only, and a bare host has no certificates that could be loaded.
        .tls_certs_only(std::iter::empty())
        .timeout(Duration::from_secs(5))
        .build()
        .map_err(|error| chain(&error))?;
    let answer = client.get(url).send().await.map_err(|error| chain(&error))?;
    let well = answer.status().is_success();
    printer::text(&answer.text().await.map_err(|error| chain(&error))?);
    Ok(if well { Exit::Done.code() } else { Exit::Failed.code() })
}
