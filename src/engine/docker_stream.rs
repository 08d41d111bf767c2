//! Docker's streaming calls: logs, commands in containers, events, usage.
//!
//! Invariant: a command in a container that outlives its deadline is an `ExecTimeout`,
//! and a daemon that breaks off in the middle is `Silent`; the two are never confused,
//! because the first is a failed probe and the second says nothing.

use std::collections::HashMap;

use bollard::Docker;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::query_parameters as query;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::EngineError;
use super::docker_translate::failure;
use super::port::{ContainerUsage, EngineEvent, ExecOutput, ExecSpec, LogQuery, LogStream};
use crate::base::limits::ENGINE_CALL_TIMEOUT;

/// Both streams' output, interleaved as Docker delivers it.
pub(super) async fn logs(
    docker: Docker,
    id: &str,
    wanted: &LogQuery,
) -> Result<LogStream, EngineError> {
    let mut options = query::LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .follow(wanted.follow)
        .timestamps(wanted.timestamps);
    if let Some(lines) = wanted.tail_lines {
        options = options.tail(&lines.to_string());
    }
    if let Some(since) = wanted.since {
        options = options.since(i32::try_from(since.as_second()).unwrap_or(i32::MAX));
    }
    let target = id.to_owned();
    let mut stream = docker.logs(id, Some(options.build())).boxed();
    // The first piece is awaited here so that "no such container" is an error of the call;
    // a container that has not written yet must not hold the caller up, though.
    let first = tokio::time::timeout(std::time::Duration::from_millis(200), stream.next()).await;
    let head = match first {
        Ok(Some(Err(error))) => return Err(failure("read the log of", id, error)),
        Ok(Some(Ok(piece))) => vec![Ok(piece)],
        Ok(None) => return Ok(futures::stream::empty().boxed()),
        Err(_) => Vec::new(),
    };
    let all = futures::stream::iter(head)
        .chain(stream)
        .map_ok(|piece| piece.into_bytes())
        .map_err(move |error| failure("read the log of", &target, error));
    Ok(all.boxed())
}

/// Runs a command and waits for it, up to its deadline.
pub(super) async fn exec(
    docker: Docker,
    id: &str,
    spec: &ExecSpec,
) -> Result<ExecOutput, EngineError> {
    let options = CreateExecOptions {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(spec.command.clone()),
        ..CreateExecOptions::default()
    };
    let fail = |error| failure("run a command in", id, error);
    let silent = |_| EngineError::Silent {
        action: "run a command in",
        target: id.to_owned(),
        reason: format!("no answer within {} s", ENGINE_CALL_TIMEOUT.as_secs()),
    };
    let created = tokio::time::timeout(ENGINE_CALL_TIMEOUT, docker.create_exec(id, options))
        .await
        .map_err(silent)?
        .map_err(fail)?;
    let started = tokio::time::timeout(ENGINE_CALL_TIMEOUT, docker.start_exec(&created.id, None))
        .await
        .map_err(silent)?
        .map_err(fail)?;
    let mut output = Vec::new();
    if let StartExecResults::Attached { output: mut pieces, .. } = started {
        let read = async {
            while let Some(piece) = pieces.next().await {
                let bytes = piece.map_err(fail)?.into_bytes();
                let room = spec.output_max_bytes.saturating_sub(output.len());
                output.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Ok(())
        };
        match tokio::time::timeout(spec.timeout, read).await {
            Ok(outcome) => outcome?,
            Err(_) => {
                let timeout_ms = spec.timeout.as_millis();
                return Err(EngineError::ExecTimeout { target: id.to_owned(), timeout_ms });
            }
        }
    }
    let ended = tokio::time::timeout(ENGINE_CALL_TIMEOUT, docker.inspect_exec(&created.id))
        .await
        .map_err(silent)?
        .map_err(fail)?;
    match ended.exit_code {
        Some(exit_code) => Ok(ExecOutput { exit_code, output }),
        None => Err(EngineError::Silent {
            action: "run a command in",
            target: id.to_owned(),
            reason: "the output ended before the command did".to_owned(),
        }),
    }
}

pub(super) fn events(
    docker: Docker,
    filters: HashMap<String, Vec<String>>,
) -> BoxStream<'static, Result<EngineEvent, EngineError>> {
    let options = query::EventsOptionsBuilder::default().filters(&filters).build();
    docker
        .events(Some(options))
        .map_err(|error| failure("follow", "events", error))
        .map_ok(|message| {
            let actor = message.actor.unwrap_or_default();
            EngineEvent {
                container: actor.id.unwrap_or_default(),
                action: message.action.unwrap_or_default(),
                labels: actor.attributes.unwrap_or_default().into_iter().collect(),
            }
        })
        .boxed()
}

pub(super) async fn usage(docker: Docker, id: &str) -> Result<ContainerUsage, EngineError> {
    let options = query::StatsOptionsBuilder::default().stream(false).one_shot(true).build();
    let mut stream = docker.stats(id, Some(options)).boxed();
    let stats = match stream.next().await {
        Some(Ok(stats)) => stats,
        Some(Err(error)) => return Err(failure("measure", id, error)),
        None => {
            return Err(EngineError::NotFound { action: "measure", target: id.to_owned() });
        }
    };
    let cpu = stats.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|usage| usage.total_usage);
    let memory = stats.memory_stats.unwrap_or_default();
    let detail = memory.stats.unwrap_or_default();
    // cgroup v1 names it total_inactive_file, v2 inactive_file.
    let cache = detail.get("total_inactive_file").or_else(|| detail.get("inactive_file"));
    Ok(ContainerUsage {
        cpu_total_ns: cpu.unwrap_or_default(),
        memory_working_set_bytes: memory
            .usage
            .unwrap_or_default()
            .saturating_sub(cache.copied().unwrap_or_default()),
    })
}
