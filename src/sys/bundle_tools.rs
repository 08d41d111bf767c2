//! Runs the programs that the bundle's build uses: apt-get, dpkg-deb, patchelf.
//!
//! Why its own file: only building needs them; hosts that install from a bundle have none.
//! Invariants: arguments are passed as they are, never through a shell; the environment
//! is reduced, so that a locale or an option of the caller cannot change the output.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

/// Why a build program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error("cannot start {program}")]
    Start {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{program} failed ({status}): {output}")]
    Failed { program: String, status: String, output: String },
    #[error("cannot read what {program} wrote")]
    Read {
        program: String,
        #[source]
        source: std::io::Error,
    },
}

fn command(program: &Path, arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null());
    for proxy in ["http_proxy", "https_proxy", "no_proxy"] {
        if let Some(value) = std::env::var_os(proxy) {
            command.env(proxy, value);
        }
    }
    command
}

/// Runs a program in `folder` and returns its standard output.
pub fn run(program: &Path, arguments: &[&str], folder: &Path) -> Result<String, ToolError> {
    let name = || program.display().to_string();
    let output = command(program, arguments, folder)
        .output()
        .map_err(|source| ToolError::Start { program: name(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(ToolError::Failed {
        program: name(),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
    })
}

/// Runs a program and hands its standard output to `take` while it runs. An error of
/// `take` wins over the program's own, which then only died of the closed pipe.
pub fn stream<T, E: From<ToolError>>(
    program: &Path,
    arguments: &[&str],
    folder: &Path,
    take: impl FnOnce(&mut dyn Read) -> Result<T, E>,
) -> Result<T, E> {
    let name = || program.display().to_string();
    let mut child = command(program, arguments, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| ToolError::Start { program: name(), source })?;
    let mut stdout = child.stdout.take().expect("stdout was asked to be piped");
    let taken = take(&mut stdout);
    // The rest is read so that the program can end by itself.
    let drained = std::io::copy(&mut stdout, &mut std::io::sink());
    drop(stdout);
    let status = child.wait().map_err(|source| ToolError::Read { program: name(), source })?;
    let taken = taken?;
    drained.map_err(|source| ToolError::Read { program: name(), source })?;
    if status.success() {
        return Ok(taken);
    }
    Err(ToolError::Failed { program: name(), status: status.to_string(), output: String::new() }
        .into())
}
