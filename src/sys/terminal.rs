//! Hangs up what runs on a terminal that its user has left.
//!
//! Why: a terminal that is closed sends its session SIGHUP, and shells end by it. An
//! engine keeps the terminal of a command open although nobody is there any more.
//! Invariant: only the session's leader and the group in the terminal's foreground are
//! told; a program that was made to outlive its terminal does.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Sends SIGHUP (and SIGCONT, so that stopped ones can act on it) to the session whose
/// leader is `leader`. That it has ended already is no error.
pub fn hang_up(leader: i32) -> Result<(), std::io::Error> {
    if leader <= 1 {
        return Ok(());
    }
    let foreground = procfs::process::Process::new(leader)
        .and_then(|process| process.stat())
        .ok()
        .map(|stat| stat.tpgid)
        .filter(|group| *group > 1 && *group != leader);
    for signal in [Signal::SIGHUP, Signal::SIGCONT] {
        if let Some(group) = foreground {
            settled(killpg(Pid::from_raw(group), signal))?;
        }
        settled(kill(Pid::from_raw(leader), signal))?;
    }
    Ok(())
}

fn settled(outcome: Result<(), Errno>) -> Result<(), std::io::Error> {
    match outcome {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[tokio::test]
    async fn a_process_is_told_and_one_that_is_gone_is_no_error() {
        // Whoever runs the tests may ignore the signal, and children inherit that.
        let mut child = tokio::process::Command::new("env")
            .args(["--default-signal=HUP", "sleep", "600"])
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id().unwrap()).unwrap();
        hang_up(pid).unwrap();
        let status = child.wait().await.unwrap();
        assert_eq!(status.signal(), Some(libc_sighup()));
        hang_up(pid).unwrap();
        hang_up(0).unwrap();
    }

    fn libc_sighup() -> i32 {
        Signal::SIGHUP as i32
    }
}
