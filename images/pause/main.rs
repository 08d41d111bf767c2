//! Holds a pod's namespaces: waits, reaps orphans, ends on SIGTERM or SIGINT.
//!
//! Why so little: it lives as long as the pod and must never be a reason for its end. As
//! process 1 of a shared PID namespace it inherits every orphan and has to reap it.
//! Invariants: allocates nothing after the start; no thread, no file, no socket.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

fn main() -> std::process::ExitCode {
    let mut awaited = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        awaited.add(signal);
    }
    // Blocked, a signal stays pending until `wait`, so none is lost between two waits.
    if awaited.thread_block().is_err() {
        return std::process::ExitCode::FAILURE;
    }
    // What ended before the block sent a signal that nobody kept.
    reap();
    loop {
        match awaited.wait() {
            Ok(Signal::SIGTERM | Signal::SIGINT) => return std::process::ExitCode::SUCCESS,
            Ok(_) => reap(),
            Err(Errno::EINTR) => {}
            Err(_) => return std::process::ExitCode::FAILURE,
        }
    }
}

/// Takes the status of every ended child; one SIGCHLD may stand for several.
fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    #[test]
    #[expect(clippy::zombie_processes, reason = "that the zombie goes is what is tested")]
    fn ended_children_are_reaped() {
        let child = std::process::Command::new("true").spawn().unwrap();
        let entry = format!("/proc/{}", child.id());
        let deadline = Instant::now() + Duration::from_secs(30);
        // An unreaped child keeps its entry for ever.
        while std::path::Path::new(&entry).exists() {
            assert!(Instant::now() < deadline, "the child was not reaped");
            super::reap();
            std::thread::yield_now();
        }
    }
}
