//! A pod's log: checks which container is meant and streams what its node gives.

use async_trait::async_trait;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream::BoxStream;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::KubeState;
use super::options::Options;
use crate::model::status::Status;
use crate::objects::Address;

/// What part of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Always set when the API calls [`PodLogs::open`].
    pub container: String,
    /// Go on as the container writes.
    pub follow: bool,
    /// Of the container's previous run.
    pub previous: bool,
    /// Begin each line with its RFC 3339 time.
    pub timestamps: bool,
    /// Only so many last lines.
    pub tail_lines: Option<i64>,
    /// Only what is at most so many seconds old.
    pub since_seconds: Option<i64>,
    /// Only what is newer, RFC 3339.
    pub since_time: Option<String>,
    /// Stop after so many bytes.
    pub limit_bytes: Option<i64>,
}

/// Log bytes as they come; ends with the log, or when following with the container.
pub type LogStream = BoxStream<'static, Result<Bytes, std::io::Error>>;

/// Reads logs wherever the pod runs; wired to this node's agent or to the right node's.
#[async_trait]
pub trait PodLogs: Send + Sync + std::fmt::Debug + 'static {
    /// `pod` is the whole object; its `spec.nodeName` is set.
    async fn open(&self, pod: &Value, options: LogOptions) -> Result<LogStream, Status>;
}

fn names<'v>(pod: &'v Value, list: &str) -> Vec<&'v str> {
    let containers = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
    containers.into_iter().flatten().filter_map(|one| one["name"].as_str()).collect()
}

/// The container that is meant: the named one, or the only one.
pub(super) fn choose(pod: &Value, wanted: Option<&str>) -> Result<String, Status> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let (main, init) = (names(pod, "containers"), names(pod, "initContainers"));
    let later = names(pod, "ephemeralContainers");
    match (wanted, main.as_slice()) {
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) => {
            let mut text = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                main.join(" ")
            );
            if !init.is_empty() {
                text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Status::bad_request(text))
        }
        (Some(wanted), _) if [&main, &init, &later].iter().any(|all| all.contains(&wanted)) => {
            Ok(wanted.to_owned())
        }
        (Some(wanted), _) => {
            Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}")))
        }
    }
}

/// A container that never ran has no log; its reason is the better answer.
fn check_started(pod: &Value, container: &str) -> Result<(), Status> {
    let lists = [
        "/status/containerStatuses",
        "/status/initContainerStatuses",
        "/status/ephemeralContainerStatuses",
    ];
    let statuses = lists.iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten();
    let status = statuses.into_iter().find(|status| status["name"] == container);
    let Some(status) = status else { return Ok(()) };
    let waits = status.pointer("/state/waiting").filter(|waiting| !waiting.is_null());
    let ran = status.pointer("/lastState/terminated").is_some_and(|end| !end.is_null());
    match waits {
        Some(waiting) if !ran => {
            let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
            let reason = match waiting["reason"].as_str().unwrap_or_default() {
                "ErrImagePull" => "image can't be pulled",
                "ImagePullBackOff" => "trying and failing to pull image",
                other => other,
            };
            Err(Status::bad_request(format!(
                "container {container:?} in pod {pod:?} is waiting to start: {reason}"
            )))
        }
        _ => Ok(()),
    }
}

/// What the query asks for.
pub(super) fn wanted(options: &Options, container: String) -> Result<LogOptions, Status> {
    let wanted = LogOptions {
        follow: options.flag("follow")?,
        previous: options.flag("previous")?,
        timestamps: options.flag("timestamps")?,
        tail_lines: options.number("tailLines")?,
        since_seconds: options.number("sinceSeconds")?,
        since_time: options.get("sinceTime").map(str::to_owned),
        limit_bytes: options.number("limitBytes")?,
        container,
    };
    for (name, number) in [("tailLines", wanted.tail_lines), ("sinceSeconds", wanted.since_seconds)]
    {
        if number.is_some_and(|number| number < 0) {
            return Err(Status::bad_request(format!("{name} must not be negative")));
        }
    }
    Ok(wanted)
}

/// `GET pods/NAME/log`.
pub(super) async fn serve(
    state: &KubeState,
    pod: &Address,
    options: &Options,
) -> Result<Response, Status> {
    let object = state.objects.get(pod, None).await?;
    let container = choose(&object, options.get("container"))?;
    if object.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default().is_empty() {
        let text = format!("pod {} does not have a host assigned", pod.name);
        return Err(Status::bad_request(text));
    }
    let wanted = wanted(options, container)?;
    if !wanted.previous {
        check_started(&object, &wanted.container)?;
    }
    let stream = state.logs.open(&object, wanted).await?;
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}
