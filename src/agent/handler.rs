//! Asks a container something: by HTTP or gRPC, by opening a port, or by a command inside it.
//!
//! Used by probes and by lifecycle hooks. HTTP and TCP go from the host to the pod's
//! address. Invariant: a silent engine or a client that cannot even be built gives
//! `Unknown`, never `Failure`.

use std::error::Error;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::grpc_probe;
use crate::engine::port::ExecSpec;
use crate::engine::{Engine, EngineError};
use crate::logic::probe::ProbeOutcome;

const OUTPUT_MAX_BYTES: usize = 10 * 1024;

/// One question.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    Http(HTTPGetAction),
    Tcp(TCPSocketAction),
    Exec(ExecAction),
    Grpc(GRPCAction),
    Sleep(Duration),
}

impl Question {
    /// `None` for a probe that asks nothing.
    pub(crate) fn of_probe(probe: &Probe) -> Option<Self> {
        if let Some(action) = &probe.http_get {
            Some(Question::Http(action.clone()))
        } else if let Some(action) = &probe.tcp_socket {
            Some(Question::Tcp(action.clone()))
        } else if let Some(action) = &probe.grpc {
            Some(Question::Grpc(action.clone()))
        } else {
            probe.exec.clone().map(Question::Exec)
        }
    }

    pub(crate) fn of_hook(hook: &LifecycleHandler) -> Option<Self> {
        if let Some(action) = &hook.http_get {
            Some(Question::Http(action.clone()))
        } else if let Some(sleep) = &hook.sleep {
            let seconds = u64::try_from(sleep.seconds).unwrap_or_default();
            Some(Question::Sleep(Duration::from_secs(seconds)))
        } else if let Some(action) = &hook.tcp_socket {
            Some(Question::Tcp(action.clone()))
        } else {
            hook.exec.clone().map(Question::Exec)
        }
    }
}

/// Whom to ask.
#[derive(Clone, Debug)]
pub(crate) struct Respondent {
    pub container: Container,
    pub container_id: String,
    pub pod_ip: String,
}

/// The client for all HTTP questions: no proxy, no kept connections, certificates of
/// pods are not verified (as the kubelet), redirects count as success and are not
/// followed out of the pod.
pub(crate) fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    // A second installation fails and changes nothing; the first one stands.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .tls_danger_accept_invalid_certs(true)
        .tls_danger_accept_invalid_hostnames(true)
        .user_agent("kube-probe/1.32")
        .build()
}

fn port_of(port: &IntOrString, container: &Container) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_deref() == Some(name))
            .and_then(|port| u16::try_from(port.container_port).ok())
            .or_else(|| name.parse().ok()),
    }
}

/// Asks once, within `timeout`.
pub(crate) async fn ask(
    engine: &dyn Engine,
    client: &reqwest::Client,
    respondent: &Respondent,
    question: &Question,
    timeout: Duration,
) -> ProbeOutcome {
    match question {
        Question::Http(action) => http(client, respondent, action, timeout).await,
        Question::Tcp(action) => tcp(respondent, action, timeout).await,
        Question::Exec(action) => exec(engine, respondent, action, timeout).await,
        Question::Grpc(action) => {
            let address = format!("{}:{}", bracketed(&respondent.pod_ip), action.port);
            let service = action.service.as_deref().unwrap_or_default();
            grpc_probe::check(&address, service, timeout).await
        }
        Question::Sleep(duration) => {
            tokio::time::sleep((*duration).min(timeout)).await;
            ProbeOutcome::Success
        }
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

async fn http(
    client: &reqwest::Client,
    respondent: &Respondent,
    action: &HTTPGetAction,
    timeout: Duration,
) -> ProbeOutcome {
    let Some(port) = port_of(&action.port, &respondent.container) else {
        return ProbeOutcome::Failure(format!("unknown port {:?}", action.port));
    };
    let host = action.host.as_deref().filter(|host| !host.is_empty());
    let host = bracketed(host.unwrap_or(&respondent.pod_ip));
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let path = action.path.as_deref().unwrap_or("/").trim_start_matches('/');
    let mut request = client.get(format!("{scheme}://{host}:{port}/{path}")).timeout(timeout);
    for header in action.http_headers.iter().flatten() {
        request = request.header(&header.name, &header.value);
    }
    match request.send().await {
        Ok(answer) if (200..400).contains(&answer.status().as_u16()) => ProbeOutcome::Success,
        Ok(answer) => {
            let code = answer.status().as_u16();
            ProbeOutcome::Failure(format!("HTTP probe failed with statuscode: {code}"))
        }
        Err(error) => {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            ProbeOutcome::Failure(format!("Get request failed: {error}: {cause}"))
        }
    }
}

async fn tcp(respondent: &Respondent, action: &TCPSocketAction, timeout: Duration) -> ProbeOutcome {
    let Some(port) = port_of(&action.port, &respondent.container) else {
        return ProbeOutcome::Failure(format!("unknown port {:?}", action.port));
    };
    let host = action.host.as_deref().filter(|host| !host.is_empty());
    let address = format!("{}:{port}", bracketed(host.unwrap_or(&respondent.pod_ip)));
    let connect = tokio::net::TcpStream::connect(&address);
    match tokio::time::timeout(timeout, connect).await {
        Ok(Ok(_)) => ProbeOutcome::Success,
        Ok(Err(error)) => ProbeOutcome::Failure(format!("dial tcp {address}: {error}")),
        Err(_) => ProbeOutcome::Failure(format!("dial tcp {address}: i/o timeout")),
    }
}

async fn exec(
    engine: &dyn Engine,
    respondent: &Respondent,
    action: &ExecAction,
    timeout: Duration,
) -> ProbeOutcome {
    let command = action.command.clone().unwrap_or_default();
    let spec = ExecSpec { command, timeout, output_max_bytes: OUTPUT_MAX_BYTES };
    match engine.exec(&respondent.container_id, &spec).await {
        Ok(output) if output.exit_code == 0 => ProbeOutcome::Success,
        Ok(output) => ProbeOutcome::Failure(String::from_utf8_lossy(&output.output).into_owned()),
        Err(error @ EngineError::ExecTimeout { .. }) => ProbeOutcome::Failure(error.to_string()),
        // Everything else is trouble of the engine or a container that is just ending;
        // its exit is seen by itself.
        Err(error) => ProbeOutcome::Unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_found_by_name() {
        let container: Container = serde_json::from_value(
            json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}),
        )
        .unwrap();
        assert_eq!(port_of(&IntOrString::String("web".into()), &container), Some(8080));
        assert_eq!(port_of(&IntOrString::Int(90), &container), Some(90));
        assert_eq!(port_of(&IntOrString::String("none".into()), &container), None);
    }

    #[tokio::test]
    async fn a_closed_port_is_a_failure_and_an_open_one_a_success() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let respondent = Respondent {
            container: Container::default(),
            container_id: "x".into(),
            pod_ip: "127.0.0.1".into(),
        };
        let action = TCPSocketAction { host: None, port: IntOrString::Int(port.into()) };
        let timeout = Duration::from_secs(5);
        assert_eq!(tcp(&respondent, &action, timeout).await, ProbeOutcome::Success);
        drop(listener);
        assert!(matches!(tcp(&respondent, &action, timeout).await, ProbeOutcome::Failure(_)));
    }
}
