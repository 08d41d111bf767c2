//! A container's output, as the API's `log` subresource asks for it.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};

use super::AgentError;
use super::context::Context;
use super::labels::{ATTEMPT, CONTAINER_NAME, DOCKER_TYPE, MEMBER, NODE, POD_NAME, POD_NAMESPACE};
use crate::engine::port::{ContainerSummary, LogQuery, RunState};
use crate::sys::clock;

/// What to deliver; the query parameters of `…/log`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Needed when the pod has several.
    pub container: Option<String>,
    pub follow: bool,
    pub tail_lines: Option<u64>,
    pub timestamps: bool,
    /// The attempt before the newest.
    pub previous: bool,
    pub since_seconds: Option<i64>,
    /// Only what is newer.
    pub since: Option<Timestamp>,
    pub limit_bytes: Option<u64>,
}

/// Pieces of output, until it ends or the reader goes away.
pub type LogBytes = BoxStream<'static, Result<Bytes, AgentError>>;

pub(crate) async fn logs(
    context: &Context,
    namespace: &str,
    pod: &str,
    options: &LogOptions,
) -> Result<LogBytes, AgentError> {
    let labels = [
        (POD_NAMESPACE, namespace),
        (POD_NAME, pod),
        (NODE, context.node_name()),
        (DOCKER_TYPE, MEMBER),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let list = context.engine.list(&labels).await?;
    let id = choose(list, pod, options)?;
    let since = options.since_seconds.map(|seconds| {
        clock::now().saturating_sub(SignedDuration::from_secs(seconds)).unwrap_or_default()
    });
    let since = since.or(options.since);
    let query = LogQuery {
        follow: options.follow,
        tail_lines: options.tail_lines,
        timestamps: options.timestamps,
        since,
    };
    let stream = context.engine.logs(&id, &query).await?.map_err(AgentError::from);
    Ok(match options.limit_bytes {
        Some(limit) => limited(stream.boxed(), limit),
        None => stream.boxed(),
    })
}

fn text<'a>(line: &'a ContainerSummary, key: &str) -> &'a str {
    line.labels.get(key).map(String::as_str).unwrap_or_default()
}

fn choose(
    list: Vec<ContainerSummary>,
    pod: &str,
    options: &LogOptions,
) -> Result<String, AgentError> {
    let mut names: Vec<&str> = list.iter().map(|line| text(line, CONTAINER_NAME)).collect();
    names.sort_unstable();
    names.dedup();
    let name = match (&options.container, names.as_slice()) {
        (Some(name), _) => name.clone(),
        (None, [only]) => (*only).to_owned(),
        (None, []) => {
            return Err(AgentError::NotFound { what: format!("a container of pod {pod}") });
        }
        (None, several) => {
            let list = several.join(" ");
            let reason = format!(
                "a container name must be specified for pod {pod}, choose one of: [{list}]"
            );
            return Err(AgentError::BadRequest { reason });
        }
    };
    let mut attempts: Vec<&ContainerSummary> = list
        .iter()
        .filter(|line| text(line, CONTAINER_NAME) == name && line.state != RunState::Removing)
        .collect();
    attempts.sort_by_key(|line| {
        std::cmp::Reverse(text(line, ATTEMPT).parse::<u32>().unwrap_or_default())
    });
    let chosen = attempts.get(usize::from(options.previous));
    match (chosen, options.previous) {
        (Some(line), _) => Ok(line.id.clone()),
        (None, true) => Err(AgentError::BadRequest {
            reason: format!("previous terminated container \"{name}\" in pod \"{pod}\" not found"),
        }),
        (None, false) => Err(AgentError::BadRequest {
            reason: format!(
                "container \"{name}\" in pod \"{pod}\" is waiting to start: ContainerCreating"
            ),
        }),
    }
}

fn limited(stream: LogBytes, limit: u64) -> LogBytes {
    let cut = stream.scan(limit, |left, piece| {
        let out = match piece {
            _ if *left == 0 => None,
            Ok(mut bytes) => {
                bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= bytes.len() as u64;
                Some(Ok(bytes))
            }
            Err(error) => Some(Err(error)),
        };
        std::future::ready(out)
    });
    cut.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, attempt: u32) -> ContainerSummary {
        ContainerSummary {
            id: format!("{name}{attempt}"),
            name: String::new(),
            labels: [(CONTAINER_NAME.into(), name.into()), (ATTEMPT.into(), attempt.to_string())]
                .into(),
            state: RunState::Exited,
        }
    }

    #[test]
    fn the_newest_attempt_is_read_unless_the_previous_is_asked_for() {
        let all = || vec![line("a", 9), line("a", 10)];
        let mut options = LogOptions::default();
        assert_eq!(choose(all(), "p", &options).unwrap(), "a10");
        options.previous = true;
        assert_eq!(choose(all(), "p", &options).unwrap(), "a9");
        assert!(choose(vec![line("a", 0)], "p", &options).is_err());
    }

    #[test]
    fn several_containers_need_a_name() {
        let error = choose(vec![line("a", 0), line("b", 0)], "p", &LogOptions::default());
        assert!(error.unwrap_err().to_string().contains("[a b]"));
    }

    #[tokio::test]
    async fn the_limit_cuts_in_the_middle_of_a_piece() {
        let pieces = ["abc", "def", "ghi"].map(|text| Ok(Bytes::from_static(text.as_bytes())));
        let all: Vec<Bytes> =
            limited(futures::stream::iter(pieces).boxed(), 5).try_collect().await.unwrap();
        assert_eq!(all.concat(), b"abcde");
    }
}
