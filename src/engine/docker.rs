//! Docker Engine behind the port, over its Unix socket by bollard.
//!
//! Why the connection is made late and again: the daemon may start after us and may be
//! replaced by another version while we run, so the protocol version is negotiated on
//! the first call and after every silence.
//! Invariant: every call that is not a stream ends within a bounded time.
//! Not here: translation of types (docker_translate.rs), streams (docker_stream.rs).

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bollard::errors::Error as DockerError;
use bollard::query_parameters as query;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::docker_translate::{container_body, container_of, failure, summary_of};
use super::port::{
    Container, ContainerSpec, ContainerSummary, ContainerUsage, EngineEvent, EngineImage,
    EngineVersion, ExecOutput, ExecSpec, LogQuery, LogStream,
};
use super::session::{Session, SessionStreams};
use super::{Engine, EngineError, docker_session, docker_stream};
use crate::base::limits::{ENGINE_CALL_TIMEOUT, IMAGE_PULL_SILENCE};

/// Our Docker daemon, named by its socket.
#[derive(Debug)]
pub struct DockerEngine {
    socket: PathBuf,
    connection: ArcSwapOption<Docker>,
}

impl DockerEngine {
    /// Makes no contact yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), connection: ArcSwapOption::empty() }
    }

    /// The negotiated connection, made if there is none.
    async fn docker(&self) -> Result<Docker, EngineError> {
        if let Some(docker) = self.connection.load_full() {
            return Ok(docker.as_ref().clone());
        }
        let target = self.socket.display().to_string();
        let seconds = ENGINE_CALL_TIMEOUT.as_secs();
        let fresh = Docker::connect_with_unix(&target, seconds, API_DEFAULT_VERSION)
            .map_err(|error| failure("connect to", &target, error))?;
        let negotiated =
            bounded("negotiate with", &target, ENGINE_CALL_TIMEOUT, fresh.negotiate_version())
                .await?;
        self.connection.store(Some(Arc::new(negotiated.clone())));
        Ok(negotiated)
    }

    /// Forgets the connection after a silence, so that the next call negotiates afresh.
    fn noted<T>(&self, outcome: Result<T, EngineError>) -> Result<T, EngineError> {
        if matches!(&outcome, Err(error) if error.is_unknown()) {
            self.connection.store(None);
        }
        outcome
    }

    async fn call<T, F>(
        &self,
        action: &'static str,
        target: &str,
        request: impl FnOnce(Docker) -> F,
    ) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, DockerError>>,
    {
        self.call_within(action, target, ENGINE_CALL_TIMEOUT, request).await
    }

    async fn call_within<T, F>(
        &self,
        action: &'static str,
        target: &str,
        limit: Duration,
        request: impl FnOnce(Docker) -> F,
    ) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, DockerError>>,
    {
        let docker = self.docker().await?.with_timeout(limit);
        self.noted(bounded(action, target, limit, request(docker)).await)
    }
}

/// Bounds a request in time; bollard's own bound does not cover the body.
async fn bounded<T>(
    action: &'static str,
    target: &str,
    limit: Duration,
    request: impl Future<Output = Result<T, DockerError>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(limit, request).await {
        Ok(outcome) => outcome.map_err(|error| failure(action, target, error)),
        Err(_) => Err(EngineError::Silent {
            action,
            target: target.to_owned(),
            reason: format!("no answer within {} s", limit.as_secs()),
        }),
    }
}

/// Turns "it is so already" and "it is gone" into success.
fn settled(outcome: Result<(), EngineError>) -> Result<(), EngineError> {
    match outcome {
        Err(EngineError::Refused { status: 304, .. }) => Ok(()),
        other => other,
    }
}

fn label_filters(labels: &[(String, String)]) -> std::collections::HashMap<String, Vec<String>> {
    let values = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    [("label".to_owned(), values)].into()
}

#[async_trait]
impl Engine for DockerEngine {
    async fn version(&self) -> Result<EngineVersion, EngineError> {
        let version =
            self.call("ask", "the version", |docker| async move { docker.version().await }).await?;
        let api = self.docker().await?.client_version().to_string();
        Ok(EngineVersion { engine: version.version.unwrap_or_default(), api })
    }

    async fn image(&self, reference: &str) -> Result<Option<EngineImage>, EngineError> {
        let outcome = self
            .call("inspect image", reference, |docker| async move {
                docker.inspect_image(reference).await
            })
            .await;
        match outcome {
            Ok(image) => Ok(Some(EngineImage {
                id: image.id.unwrap_or_default(),
                user: image.config.and_then(|config| config.user).unwrap_or_default(),
            })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn pull(&self, reference: &str) -> Result<(), EngineError> {
        let options = query::CreateImageOptionsBuilder::default().from_image(reference).build();
        let docker = self.docker().await?.with_timeout(IMAGE_PULL_SILENCE);
        let mut progress = docker.create_image(Some(options), None, None).boxed();
        loop {
            let step = match tokio::time::timeout(IMAGE_PULL_SILENCE, progress.next()).await {
                Ok(Some(step)) => step,
                Ok(None) => return Ok(()),
                Err(_) => {
                    let reason = format!("no progress within {} s", IMAGE_PULL_SILENCE.as_secs());
                    let target = reference.to_owned();
                    return self.noted(Err(EngineError::Silent { action: "pull", target, reason }));
                }
            };
            if let Err(error) = step {
                let error = failure("pull", reference, error);
                return self.noted(Err(match error {
                    EngineError::Refused { message, .. } => {
                        EngineError::Pull { image: reference.to_owned(), message }
                    }
                    EngineError::NotFound { .. } => EngineError::Pull {
                        image: reference.to_owned(),
                        message: "the registry does not have it".to_owned(),
                    },
                    other => other,
                }));
            }
        }
    }

    async fn remove_unused_images(&self) -> Result<u64, EngineError> {
        // Those without a tag are only some of them, and the engine's default.
        let all = HashMap::from([("dangling", vec!["false"])]);
        let options = query::PruneImagesOptionsBuilder::default().filters(&all).build();
        let target = "unused images";
        let pruned = self.call_within("remove", target, IMAGE_PULL_SILENCE, |docker| async move {
            docker.prune_images(Some(options)).await
        });
        let bytes = pruned.await?.space_reclaimed.unwrap_or_default();
        Ok(u64::try_from(bytes).unwrap_or_default())
    }

    async fn list(
        &self,
        labels: &[(String, String)],
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        let filters = label_filters(labels);
        let options =
            query::ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let list = self
            .call("list", "containers", |docker| async move {
                docker.list_containers(Some(options)).await
            })
            .await?;
        Ok(list.into_iter().map(summary_of).collect())
    }

    async fn inspect(&self, id: &str) -> Result<Option<Container>, EngineError> {
        let outcome = self
            .call("inspect", id, |docker| async move {
                docker.inspect_container(id, None::<query::InspectContainerOptions>).await
            })
            .await;
        match outcome {
            Ok(detail) => Ok(Some(container_of(detail))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        let options = query::CreateContainerOptionsBuilder::default().name(&spec.name).build();
        let body = container_body(spec);
        let outcome = self
            .call("create", &spec.name, |docker| async move {
                docker.create_container(Some(options), body).await
            })
            .await;
        match outcome {
            Ok(created) => Ok(created.id),
            Err(EngineError::Refused { status: 409, .. }) => {
                Err(EngineError::NameTaken { name: spec.name.clone() })
            }
            Err(error) => Err(error),
        }
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        settled(
            self.call("start", id, |docker| async move {
                docker.start_container(id, None::<query::StartContainerOptions>).await
            })
            .await,
        )
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = query::StopContainerOptionsBuilder::default().t(seconds).build();
        let limit = grace.saturating_add(ENGINE_CALL_TIMEOUT);
        let outcome = self
            .call_within("stop", id, limit, |docker| async move {
                docker.stop_container(id, Some(options)).await
            })
            .await;
        match settled(outcome) {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let options = query::RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let outcome =
            self.call("remove", id, |docker| async move {
                docker.remove_container(id, Some(options)).await
            })
            .await;
        match outcome {
            // 409 says that somebody else's removal is under way.
            Err(EngineError::NotFound { .. } | EngineError::Refused { status: 409, .. }) => Ok(()),
            other => other,
        }
    }

    async fn logs(&self, id: &str, query: &LogQuery) -> Result<LogStream, EngineError> {
        docker_stream::logs(self.docker().await?, id, query).await
    }

    async fn exec(&self, id: &str, spec: &ExecSpec) -> Result<ExecOutput, EngineError> {
        let docker = self.docker().await?;
        self.noted(docker_stream::exec(docker, id, spec).await)
    }

    async fn open_exec(
        &self,
        id: &str,
        command: &[String],
        streams: SessionStreams,
    ) -> Result<Session, EngineError> {
        let docker = self.docker().await?;
        self.noted(docker_session::exec(docker, &self.socket, id, command, streams).await)
    }

    async fn open_attach(
        &self,
        id: &str,
        streams: SessionStreams,
        ends_stdin: bool,
    ) -> Result<Session, EngineError> {
        let docker = self.docker().await?;
        let attached = docker_session::attach(docker, &self.socket, id, streams, ends_stdin);
        self.noted(attached.await)
    }

    async fn events(
        &self,
        label: (String, String),
    ) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError> {
        let mut filters = label_filters(&[label]);
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        Ok(docker_stream::events(self.docker().await?, filters))
    }

    async fn usage(&self, id: &str) -> Result<ContainerUsage, EngineError> {
        let docker = self.docker().await?;
        let read = docker_stream::usage(docker, id);
        let outcome = match tokio::time::timeout(ENGINE_CALL_TIMEOUT, read).await {
            Ok(outcome) => outcome,
            Err(_) => Err(EngineError::Silent {
                action: "measure",
                target: id.to_owned(),
                reason: format!("no answer within {} s", ENGINE_CALL_TIMEOUT.as_secs()),
            }),
        };
        self.noted(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_socket_is_silence_and_not_a_missing_container() {
        let dir = tempfile::tempdir().unwrap();
        let engine = DockerEngine::new(dir.path().join("none.sock"));
        let error = engine.inspect("x").await.unwrap_err();
        assert!(error.is_unknown(), "{error}");
        assert!(engine.list(&[]).await.unwrap_err().is_unknown());
    }
}
