//! Runs code inside another network namespace.
//!
//! Why a thread of its own: `setns` changes the calling thread only, and a thread of the
//! shared runtime that kept another namespace would serve other tasks from there. The
//! thread ends with the work and is never reused.

use std::fs::File;
use std::future::Future;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};

/// Why the work could not be done in the namespace.
#[derive(Debug, thiserror::Error)]
pub enum NetNsError {
    #[error("cannot open network namespace {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot enter network namespace {path}")]
    Enter {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot start a thread for network namespace {path}")]
    Thread {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the work in network namespace {path} ended without a result")]
    Lost { path: PathBuf },
}

/// An open network namespace; it stays alive and the same while this is held, even if
/// the process that it was taken from ends and its pid is used again.
#[derive(Clone, Debug)]
pub struct NetNs {
    path: PathBuf,
    file: Arc<File>,
}

impl NetNs {
    /// The network namespace of a running process.
    pub fn of_process(pid: i32) -> Result<Self, NetNsError> {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        match File::open(&path) {
            Ok(file) => Ok(Self { path, file: Arc::new(file) }),
            Err(source) => Err(NetNsError::Open { path, source }),
        }
    }

    /// For netlink's `IFLA_NET_NS_FD`; valid while `self` lives.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Runs `work` to its end on a new thread inside the namespace, with an async
    /// runtime of its own: sockets that it opens belong to the namespace.
    pub async fn run<T, F, Fut>(&self, work: F) -> Result<T, NetNsError>
    where
        T: Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T>,
    {
        let (done, result) = tokio::sync::oneshot::channel();
        let entered = self.clone();
        let path = self.path.clone();
        std::thread::Builder::new()
            .name("netns".into())
            .spawn(move || {
                // Nobody listens any more if the caller gave up; that is no error here.
                let _ = done.send(entered.enter_and_run(work));
            })
            .map_err(|source| NetNsError::Thread { path: path.clone(), source })?;
        result.await.map_err(|_| NetNsError::Lost { path })?
    }

    fn enter_and_run<T, F, Fut>(&self, work: F) -> Result<T, NetNsError>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = T>,
    {
        let enter = |source| NetNsError::Enter { path: self.path.clone(), source };
        setns(&*self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| enter(errno.into()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| NetNsError::Thread { path: self.path.clone(), source })?;
        Ok(runtime.block_on(work()))
    }
}
