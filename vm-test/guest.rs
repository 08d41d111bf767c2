//! A root shell in a running guest, by QEMU's guest agent.
//!
//! Why the agent and not a shell on a serial line: it hands back the exit code and both
//! streams as data, so nothing has to be told apart in a stream of text.
//! Not here: starting and ending the machine (`machine`).

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use qapi::qga::{GuestExecCaptureOutput, guest_exec, guest_exec_status};
use qapi::{Qga, Stream};

use crate::failure::failed;

/// How long the agent may be silent; it answers at once when it runs.
const SILENCE: Duration = Duration::from_secs(30);
/// How often a running command is asked about, at first and at last: each question costs
/// the guest time that the command needs.
const POLL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

type Connection = Qga<Stream<BufReader<UnixStream>, UnixStream>>;

/// What a command left.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub(crate) code: i64,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}\n{}{}", self.code, self.stdout, self.stderr)
    }
}

/// The way into one guest.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    socket: PathBuf,
}

impl Guest {
    /// Through the agent's socket.
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Whether the agent answers now, for `patience` at most.
    pub(crate) fn answers(&self, patience: Duration) -> bool {
        self.connect(patience).is_ok()
    }

    /// The agent drops a half-read request of an earlier connection when it is asked to
    /// synchronize; answers to older requests do not carry the number.
    fn connect(&self, silence: Duration) -> Result<Connection, Failed> {
        let doing = || format!("guest agent at {}", self.socket.display());
        let stream = UnixStream::connect(&self.socket).map_err(|error| failed(doing(), error))?;
        stream.set_read_timeout(Some(silence)).map_err(|error| failed(doing(), error))?;
        let reader = stream.try_clone().map_err(|error| failed(doing(), error))?;
        let mut agent = Qga::new(Stream::new(BufReader::new(reader), stream));
        let number = i32::try_from(std::process::id()).unwrap_or(1);
        agent.guest_sync(number).map_err(|error| failed(doing(), error))?;
        Ok(agent)
    }

    /// Runs a script by bash and waits for its end.
    pub(crate) fn run(&self, script: &str, patience: Duration) -> Result<Finished, Failed> {
        let mut agent = self.connect(SILENCE)?;
        let doing =
            |error: &dyn std::fmt::Display| failed(format!("in the guest: {script}"), error);
        let started = Instant::now();
        let request = guest_exec {
            path: "/bin/bash".into(),
            arg: Some(vec!["-c".into(), script.into()]),
            env: Some(vec![
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin".into(),
                "HOME=/root".into(),
                "LANG=C.UTF-8".into(),
            ]),
            capture_output: Some(GuestExecCaptureOutput::flag(true)),
            input_data: None,
        };
        let pid = agent.execute(&request).map_err(|error| doing(&error))?.pid;
        loop {
            let status =
                agent.execute(&guest_exec_status { pid }).map_err(|error| doing(&error))?;
            if status.exited {
                let text = |bytes: Option<Vec<u8>>| {
                    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
                };
                let code = status.exitcode.unwrap_or_else(|| 128 + status.signal.unwrap_or(0));
                let (stdout, stderr) = (text(status.out_data), text(status.err_data));
                return Ok(Finished { code, stdout, stderr });
            }
            if started.elapsed() > patience {
                return Err(doing(&format!("still running after {patience:?}")));
            }
            let (first, last) = POLL;
            std::thread::park_timeout((started.elapsed() / 10).clamp(first, last));
        }
    }

    /// Same for one that must end with 0; answers its stdout.
    pub(crate) fn succeed(&self, script: &str, patience: Duration) -> Result<String, Failed> {
        let finished = self.run(script, patience)?;
        if finished.code == 0 {
            return Ok(finished.stdout);
        }
        Err(format!("in the guest: {script}\n{finished}").into())
    }
}
