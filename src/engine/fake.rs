//! An engine in memory, for tests of what stands on the port.
//!
//! It can hang at its Nth change, before or after making it, as if its caller were
//! killed there; and it can be silent altogether. It checks what Docker checks: names
//! are unique, a container joins only what exists.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::broadcast;

use super::port::*;
use super::session::{Session, SessionControl, SessionOutput, SessionStreams};
use super::{Engine, EngineError};

#[derive(Debug, Default)]
struct Inner {
    containers: BTreeMap<String, Container>,
    serial: u64,
    /// Changes left until the engine hangs its caller.
    changes_left: Option<u32>,
    silent: bool,
    starts: Vec<String>,
    stops: Vec<String>,
    exec_fails: bool,
    /// Environments by container name.
    environments: BTreeMap<String, Vec<String>>,
}

#[derive(Debug)]
pub(crate) struct FakeEngine {
    inner: Mutex<Inner>,
    events: broadcast::Sender<EngineEvent>,
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self { inner: Mutex::default(), events: broadcast::channel(256).0 }
    }
}

fn not_found(action: &'static str, id: &str) -> EngineError {
    EngineError::NotFound { action, target: id.to_owned() }
}

impl FakeEngine {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while it holds the fake engine")
    }

    pub(crate) fn hang_after(&self, changes: Option<u32>) {
        self.lock().changes_left = changes;
    }

    /// Whether a caller was hung since [`FakeEngine::hang_after`].
    pub(crate) fn has_hung(&self) -> bool {
        self.lock().changes_left == Some(0)
    }

    pub(crate) fn be_silent(&self, silent: bool) {
        self.lock().silent = silent;
    }

    pub(crate) fn fail_execs(&self, fail: bool) {
        self.lock().exec_fails = fail;
    }

    pub(crate) fn containers(&self) -> Vec<Container> {
        self.lock().containers.values().cloned().collect()
    }

    pub(crate) fn running(&self) -> Vec<String> {
        let all = self.containers().into_iter();
        all.filter(|one| one.state == RunState::Running).map(|one| one.name).collect()
    }

    /// Names of containers in the order of their starts.
    pub(crate) fn starts(&self) -> Vec<String> {
        self.lock().starts.clone()
    }

    /// What a container that was made last under this name got.
    pub(crate) fn environment(&self, name: &str) -> Vec<String> {
        self.lock().environments.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn stops(&self) -> Vec<String> {
        self.lock().stops.clone()
    }

    /// The program ends by itself.
    pub(crate) fn exit(&self, name: &str, code: i32) {
        let event = {
            let mut inner = self.lock();
            let container = inner
                .containers
                .values_mut()
                .find(|one| one.name == name)
                .expect("the test names a container that exists");
            end(container, code);
            event_of(container, "die")
        };
        let _ = self.events.send(event);
    }

    fn check(&self) -> Result<(), EngineError> {
        if self.lock().silent {
            let (target, reason) = ("anything".to_owned(), "told to be silent".to_owned());
            return Err(EngineError::Silent { action: "do", target, reason });
        }
        Ok(())
    }

    /// Counts a change; hangs for ever once the budget is used up.
    async fn change(&self) {
        let hang = {
            let mut inner = self.lock();
            match &mut inner.changes_left {
                Some(0) => true,
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => false,
            }
        };
        if hang {
            std::future::pending::<()>().await;
        }
    }

    fn emit(&self, container: Option<EngineEvent>) {
        if let Some(event) = container {
            let _ = self.events.send(event);
        }
    }
}

fn end(container: &mut Container, code: i32) {
    container.state = RunState::Exited;
    container.exit_code = code;
    container.pid = 0;
    container.finished_at = Some(Timestamp::now());
}

fn event_of(container: &Container, action: &str) -> EngineEvent {
    EngineEvent {
        container: container.id.clone(),
        action: action.to_owned(),
        labels: container.labels.clone(),
    }
}

#[async_trait]
impl Engine for FakeEngine {
    async fn version(&self) -> Result<EngineVersion, EngineError> {
        self.check()?;
        Ok(EngineVersion { engine: "fake".into(), api: "1.41".into() })
    }

    async fn image(&self, reference: &str) -> Result<Option<EngineImage>, EngineError> {
        self.check()?;
        Ok(Some(EngineImage { id: format!("sha256:{reference}"), user: String::new() }))
    }

    async fn pull(&self, _reference: &str) -> Result<(), EngineError> {
        self.check()
    }

    async fn remove_unused_images(&self) -> Result<u64, EngineError> {
        self.check()?;
        Ok(0)
    }

    async fn list(
        &self,
        labels: &[(String, String)],
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        self.check()?;
        let all = self.containers().into_iter();
        Ok(all
            .filter(|one| labels.iter().all(|(key, value)| one.labels.get(key) == Some(value)))
            .map(|one| ContainerSummary {
                id: one.id,
                name: one.name,
                labels: one.labels,
                state: one.state,
            })
            .collect())
    }

    async fn inspect(&self, id: &str) -> Result<Option<Container>, EngineError> {
        self.check()?;
        Ok(self.containers().into_iter().find(|one| one.id == id || one.name == id))
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        self.check()?;
        self.change().await;
        let id = {
            let mut inner = self.lock();
            if inner.containers.values().any(|one| one.name == spec.name) {
                return Err(EngineError::NameTaken { name: spec.name.clone() });
            }
            if let Namespace::Container(pause) = &spec.network {
                assert!(inner.containers.contains_key(pause), "joins a missing container");
            }
            inner.serial += 1;
            let id = format!("id{}", inner.serial);
            let container = Container {
                id: id.clone(),
                name: spec.name.clone(),
                labels: spec.labels.clone(),
                image_id: spec.image.clone(),
                state: RunState::Created,
                pid: 0,
                exit_code: 0,
                oom_killed: false,
                tty: spec.tty,
                stdin: spec.stdin,
                stdin_once: spec.stdin_once,
                start_error: String::new(),
                created_at: Some(Timestamp::now()),
                started_at: None,
                finished_at: None,
            };
            inner.environments.insert(spec.name.clone(), spec.env.clone());
            inner.containers.insert(id.clone(), container);
            id
        };
        self.change().await;
        Ok(id)
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        self.check()?;
        self.change().await;
        let event = {
            let mut inner = self.lock();
            let serial = i32::try_from(inner.serial).expect("few containers");
            let container = inner.containers.get_mut(id).ok_or_else(|| not_found("start", id))?;
            if container.state == RunState::Running {
                return Ok(());
            }
            container.state = RunState::Running;
            container.started_at = Some(Timestamp::now());
            container.pid = 1_000 + serial;
            let (event, name) = (event_of(container, "start"), container.name.clone());
            inner.starts.push(name);
            event
        };
        self.emit(Some(event));
        self.change().await;
        Ok(())
    }

    async fn stop(&self, id: &str, _grace: Duration) -> Result<(), EngineError> {
        self.check()?;
        self.change().await;
        let event = {
            let mut inner = self.lock();
            match inner.containers.get_mut(id) {
                Some(container) if container.state == RunState::Running => {
                    end(container, 143);
                    let (event, name) = (event_of(container, "die"), container.name.clone());
                    inner.stops.push(name);
                    Some(event)
                }
                _ => None,
            }
        };
        self.emit(event);
        self.change().await;
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        self.check()?;
        self.change().await;
        let event = self.lock().containers.remove(id).map(|one| event_of(&one, "destroy"));
        self.emit(event);
        self.change().await;
        Ok(())
    }

    async fn logs(&self, id: &str, _query: &LogQuery) -> Result<LogStream, EngineError> {
        self.check()?;
        let text = Bytes::from(format!("output of {id}\n"));
        Ok(futures::stream::iter([Ok(text)]).boxed())
    }

    async fn exec(&self, id: &str, _spec: &ExecSpec) -> Result<ExecOutput, EngineError> {
        self.check()?;
        let inner = self.lock();
        if !inner.containers.contains_key(id) {
            return Err(not_found("exec", id));
        }
        Ok(ExecOutput { exit_code: i64::from(inner.exec_fails), output: Vec::new() })
    }

    async fn open_exec(
        &self,
        id: &str,
        command: &[String],
        streams: SessionStreams,
    ) -> Result<Session, EngineError> {
        self.check()?;
        if !self.lock().containers.contains_key(id) {
            return Err(not_found("exec", id));
        }
        Ok(echo(command, streams))
    }

    async fn open_attach(
        &self,
        id: &str,
        streams: SessionStreams,
        _ends_stdin: bool,
    ) -> Result<Session, EngineError> {
        self.open_exec(id, &["attached".to_owned()], streams).await
    }

    async fn events(
        &self,
        _label: (String, String),
    ) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError> {
        self.check()?;
        let stream = tokio_stream::wrappers::BroadcastStream::new(self.events.subscribe());
        Ok(stream.filter_map(|event| std::future::ready(event.ok().map(Ok))).boxed())
    }

    async fn usage(&self, _id: &str) -> Result<ContainerUsage, EngineError> {
        self.check()?;
        Ok(ContainerUsage::default())
    }
}

/// Says its command, then what it is told, and ends with its input.
fn echo(command: &[String], streams: SessionStreams) -> Session {
    let head = SessionOutput::Stdout(Bytes::from(command.join(" ")));
    let (input, told) = tokio::io::duplex(1_024);
    let said = tokio_util::io::ReaderStream::new(told).map(|piece| {
        piece.map(SessionOutput::Stdout).map_err(|error| EngineError::Silent {
            action: "read from",
            target: "a fake".to_owned(),
            reason: error.to_string(),
        })
    });
    let first = futures::stream::iter([Ok(head)]);
    let (output, input) = if streams.stdin {
        (first.chain(said).boxed(), Some(Box::new(input) as super::session::SessionInput))
    } else {
        (first.boxed(), None)
    };
    Session { output, input, control: Box::new(EchoControl) }
}

struct EchoControl;

#[async_trait]
impl SessionControl for EchoControl {
    async fn resize(&self, _rows: u16, _columns: u16) -> Result<(), EngineError> {
        Ok(())
    }

    async fn exit_code(&self) -> Result<Option<i64>, EngineError> {
        Ok(Some(0))
    }

    async fn hang_up(&self) {}
}
