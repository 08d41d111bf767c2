//! Linux namespaces: leaving the machine's, entering another process's, one thread each.
//!
//! Why threads: a namespace belongs to a thread, and a thread that changed it can never
//! be trusted with the machine's work again. So each entry happens on a thread of its
//! own that ends with the work.
//!
//! Invariant: the calling thread's namespaces never change, except in the functions named
//! `unshare_…` and [`NetworkNamespace::enter`], which are for threads that end with it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};

use crate::sys::cgroup;
use crate::sys::waiting::wait_until;

#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error("cannot open namespace {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot enter the {kind} namespace")]
    Enter {
        kind: &'static str,
        #[source]
        source: nix::Error,
    },
    #[error("cannot leave the machine's namespaces")]
    Unshare(#[source] nix::Error),
    #[error("cannot name the host {name}")]
    Hostname {
        name: String,
        #[source]
        source: nix::Error,
    },
    #[error("cannot start {program}")]
    Spawn {
        program: String,
        #[source]
        source: io::Error,
    },
}

/// All but the network namespace, which is left first, alone.
const HOST_FLAGS: [(&str, CloneFlags); 5] = [
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("pid", CloneFlags::CLONE_NEWPID),
    // The mount namespace comes last: entering it changes what paths mean.
    ("mnt", CloneFlags::CLONE_NEWNS),
];

/// A network namespace held open; it lives at least as long as this.
#[derive(Debug)]
pub struct NetworkNamespace(File);

impl NetworkNamespace {
    /// The one that process `pid` is in.
    pub fn of_process(pid: i32) -> Result<Self, NamespaceError> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The calling thread's own.
    pub fn own() -> Result<Self, NamespaceError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    fn open(path: &Path) -> Result<Self, NamespaceError> {
        let file = File::open(path);
        Ok(Self(file.map_err(|source| NamespaceError::Open { path: path.to_owned(), source })?))
    }

    /// Runs `work` on a thread inside this namespace and waits for it.
    pub fn run<T, F>(&self, work: F) -> Result<T, NamespaceError>
    where
        T: Send,
        F: FnOnce() -> T + Send,
    {
        let inside = || {
            self.enter()?;
            Ok(work())
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Moves the calling thread in, for good.
    pub fn enter(&self) -> Result<(), NamespaceError> {
        setns(&self.0, CloneFlags::CLONE_NEWNET)
            .map_err(|source| NamespaceError::Enter { kind: "net", source })
    }
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether this process may do what this module does.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Kills a child that took too long; one that is gone already is what was wanted.
pub fn kill_process(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
    }
}

/// Leaves the machine's network namespace; the calling thread gets an empty one.
pub fn unshare_network() -> Result<NetworkNamespace, NamespaceError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(NamespaceError::Unshare)?;
    NetworkNamespace::own()
}

/// Leaves every other namespace that makes a host a host and gives it its name. The next
/// child of this thread is the new host's PID 1. The control group namespace is not among
/// them: its root is the group of whoever leaves it, so PID 1 does ([`spawn_first`]).
pub fn unshare_host(name: &str) -> Result<(), NamespaceError> {
    let flags = CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS;
    unshare(flags).map_err(NamespaceError::Unshare)?;
    nix::unistd::sethostname(name)
        .map_err(|source| NamespaceError::Hostname { name: name.to_owned(), source })
}

/// Starts PID 1 of the host that the calling thread made by [`unshare_host`]: in the
/// control groups behind `entrances`, which become the roots of what it sees.
#[expect(
    unsafe_code,
    reason = "pre_exec runs in the forked child; the closures only make system calls"
)]
pub fn spawn_first(mut command: Command, entrances: Vec<File>) -> Result<Child, NamespaceError> {
    join_before_exec(&mut command, entrances);
    // SAFETY: unshare(2) is a bare system call; nothing is allocated and no lock is taken.
    unsafe {
        command.pre_exec(|| Ok(unshare(CloneFlags::CLONE_NEWCGROUP)?));
    }
    let program = command.get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|source| NamespaceError::Spawn { program, source })
}

/// Starts `command` as a process of the host whose PID 1 is `pid`, in the control groups
/// behind `entrances`. The program's path is looked up in that host.
pub fn spawn_in_host(
    pid: i32,
    mut entrances: Vec<File>,
    mut command: Command,
) -> Result<Child, NamespaceError> {
    let mut open = Vec::new();
    let all = HOST_FLAGS.iter().copied();
    for (kind, flag) in std::iter::once(("net", CloneFlags::CLONE_NEWNET)).chain(all) {
        let path = PathBuf::from(format!("/proc/{pid}/ns/{kind}"));
        let file = File::open(&path).map_err(|source| NamespaceError::Open { path, source })?;
        open.push((kind, flag, file));
    }
    let inside = move || {
        // The working directory is shared by all threads until this thread leaves it.
        unshare(CloneFlags::CLONE_FS).map_err(NamespaceError::Unshare)?;
        join_before_exec(&mut command, std::mem::take(&mut entrances));
        for (kind, flag, file) in &open {
            setns(file, *flag).map_err(|source| NamespaceError::Enter { kind, source })?;
        }
        let program = command.get_program().to_string_lossy().into_owned();
        command.spawn().map_err(|source| NamespaceError::Spawn { program, source })
    };
    match std::thread::spawn(inside).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Starts a program that was written a moment ago. The kernel refuses as long as it is open
/// for writing, and a child that another thread just forked may hold it open until it
/// becomes its own program.
pub fn spawn_fresh(command: &mut Command) -> io::Result<Child> {
    const LIMIT: Duration = Duration::from_secs(10);
    let busy = |result: &io::Result<Child>| matches!(result, Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy);
    let mut result = command.spawn();
    wait_until(LIMIT, Duration::from_millis(5), || {
        if busy(&result) {
            result = command.spawn();
        }
        !busy(&result)
    });
    result
}

/// Makes the child join control groups before it becomes the program, so that no moment
/// exists in which it could escape a clean-up.
#[expect(
    unsafe_code,
    reason = "pre_exec runs in the forked child; the closure only writes to open files"
)]
pub fn join_before_exec(command: &mut Command, mut entrances: Vec<File>) {
    // SAFETY: between fork and exec the closure calls nothing but write(2) on files that
    // were opened before; it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || cgroup::enter(&mut entrances));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode() -> PathBuf {
        std::fs::read_link("/proc/thread-self/ns/net").unwrap()
    }

    #[test]
    fn work_in_a_namespace_leaves_the_caller_where_it_was() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let before = inode();
        let other = std::thread::spawn(|| unshare_network().unwrap()).join().unwrap();
        let inside = other.run(inode).unwrap();
        assert_ne!(inside, before);
        assert_eq!(inode(), before);
    }
}
