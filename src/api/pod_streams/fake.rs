//! A node for tests: its "containers" are processes of this machine, its pods' ports
//! are ports of the loopback. It counts what is open, so that a leak shows.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::Extension;
use futures::{StreamExt, stream};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::io::ReaderStream;

use super::{PodServices, PodTarget, router};
use crate::api::identity::PeerIdentity;
use crate::engine::EngineError;
use crate::engine::session::{
    Session, SessionControl, SessionInput, SessionOutput, SessionStreams,
};
use crate::model::status::Status;
use crate::pki::CONTROL_UNIT;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LocalPods {
    open: Arc<AtomicUsize>,
    hung_up: Arc<AtomicUsize>,
    sizes: Arc<std::sync::Mutex<Vec<(u16, u16)>>>,
    upgrades: std::sync::Mutex<Vec<String>>,
}

impl LocalPods {
    /// The protocol that a client asks for.
    pub(crate) fn note(&self, upgrade: &str) {
        self.upgrades.lock().unwrap().push(upgrade.to_owned());
    }

    pub(crate) fn upgrades(&self) -> Vec<String> {
        self.upgrades.lock().unwrap().clone()
    }

    /// Conversations that nobody has ended yet.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    pub(crate) fn hung_up(&self) -> usize {
        self.hung_up.load(Ordering::SeqCst)
    }

    pub(crate) fn sizes(&self) -> Vec<(u16, u16)> {
        self.sizes.lock().unwrap().clone()
    }
}

/// Counts itself as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(open.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Control {
    child: Mutex<Child>,
    hung_up: Arc<AtomicUsize>,
    sizes: Arc<std::sync::Mutex<Vec<(u16, u16)>>>,
    _counted: Counted,
}

fn broken(error: &std::io::Error) -> EngineError {
    EngineError::Silent { action: "run", target: "a test".into(), reason: error.to_string() }
}

#[async_trait]
impl SessionControl for Control {
    async fn resize(&self, rows: u16, columns: u16) -> Result<(), EngineError> {
        self.sizes.lock().unwrap().push((rows, columns));
        Ok(())
    }

    async fn exit_code(&self) -> Result<Option<i64>, EngineError> {
        let status = self.child.lock().await.wait().await.map_err(|error| broken(&error))?;
        Ok(Some(i64::from(status.code().unwrap_or(137))))
    }

    async fn hang_up(&self) {
        self.hung_up.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl PodServices for LocalPods {
    async fn exec(
        &self,
        target: &PodTarget,
        command: &[String],
        streams: SessionStreams,
    ) -> Result<Session, Status> {
        assert!(!target.uid.is_empty() && !target.container.is_empty(), "{target:?}");
        let (program, arguments) = command.split_first().expect("a command");
        let mut child = Command::new(program)
            .args(arguments)
            .env("CONTAINER", &target.container)
            .stdin(if streams.stdin { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Status::bad_request(format!("{program}: {error}")))?;
        let out = ReaderStream::new(child.stdout.take().unwrap())
            .map(|piece| piece.map(SessionOutput::Stdout).map_err(|error| broken(&error)));
        let err = ReaderStream::new(child.stderr.take().unwrap())
            .map(|piece| piece.map(SessionOutput::Stderr).map_err(|error| broken(&error)));
        let input = child.stdin.take().map(|input| Box::new(input) as SessionInput);
        let control = Control {
            child: Mutex::new(child),
            hung_up: self.hung_up.clone(),
            sizes: self.sizes.clone(),
            _counted: Counted::new(&self.open),
        };
        let output = stream::select(out.boxed(), err.boxed()).boxed();
        Ok(Session { output, input, control: Box::new(control) })
    }

    async fn attach(&self, target: &PodTarget, streams: SessionStreams) -> Result<Session, Status> {
        self.exec(target, &["cat".to_owned()], streams).await
    }

    async fn dial(&self, _target: &PodTarget, port: u16) -> Result<TcpStream, Status> {
        let opened = TcpStream::connect(("127.0.0.1", port)).await;
        opened.map_err(|error| Status::bad_request(format!("port {port}: {error}")))
    }
}

/// A node that serves [`LocalPods`] to control nodes, over plain HTTP.
pub(crate) struct TestNode {
    pub(crate) address: SocketAddr,
    pub(crate) pods: Arc<LocalPods>,
    _tasks: JoinSet<()>,
}

impl TestNode {
    pub(crate) async fn start() -> Self {
        Self::start_for(&["system:nodes", CONTROL_UNIT]).await
    }

    /// `groups` are those of everybody who calls.
    pub(crate) async fn start_for(groups: &[&str]) -> Self {
        let pods = Arc::new(LocalPods::default());
        let peer = PeerIdentity {
            user: "system:node:a1".to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            key_fingerprint: String::new(),
        };
        let app = router(pods.clone()).layer(Extension(peer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, pods, _tasks: tasks }
    }
}
