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
