//! Asks a container by gRPC's health protocol, as `grpc` probes do.
//!
//! ```text
//! POST /grpc.health.v1.Health/Check    HTTP/2 without TLS
//! [0][length u32 BE][HealthCheckRequest { 1: service }]
//!     ──► the same frame around HealthCheckResponse { 1: status, 1 is SERVING }
//! ```
//! Why by hand: it is one request with one field each way; a client of a whole gRPC
//! library would be the larger part of the agent.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;

use crate::logic::probe::ProbeOutcome;

const SERVING: i32 = 1;
/// Longest answer that is read, bytes.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Asks once.
pub(super) async fn check(address: &str, service: &str, timeout: Duration) -> ProbeOutcome {
    match tokio::time::timeout(timeout, ask(address, service)).await {
        Ok(Ok(SERVING)) => ProbeOutcome::Success,
        Ok(Ok(status)) => {
            let name = match status {
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "UNKNOWN",
            };
            ProbeOutcome::Failure(format!("service unhealthy (responded with {name:?})"))
        }
        Ok(Err(why)) => ProbeOutcome::Failure(why),
        Err(_) => ProbeOutcome::Failure(format!(
            "timeout: failed to connect service {address:?} within {timeout:?}: context deadline exceeded"
        )),
    }
}

async fn ask(address: &str, service: &str) -> Result<i32, String> {
    let failed = |error: &dyn std::fmt::Display| format!("health rpc failed: {error}");
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .map_err(|error| format!("dial tcp {address}: {error}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
    let message = Request { service: service.to_owned() }.encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).map_err(|error| failed(&error))?);
    frame.put_slice(&message);
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, "kube-probe/1.32")
        .body(Full::new(frame.freeze()))
        .map_err(|error| failed(&error))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let head = answer.headers().clone();
        let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect().await;
        let body = body.map_err(|error| failed(&error))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let said = |name: &str| trailers.get(name).or_else(|| head.get(name)).cloned();
        match said("grpc-status").as_ref().and_then(|status| status.to_str().ok()) {
            Some("0") => status_of(&body.to_bytes()),
            Some(code) => {
                let why = said("grpc-message");
                let why = why.as_ref().and_then(|why| why.to_str().ok()).unwrap_or_default();
                Err(failed(&format!("code {code}: {why}")))
            }
            None => Err(failed(&"the answer has no status")),
        }
    };
    // The connection lives as long as the question.
    tokio::select! {
        answer = answer => answer,
        ended = connection => match ended {
            Ok(()) => Err(failed(&"the connection was closed")),
            Err(error) => Err(failed(&error)),
        },
    }
}

fn status_of(frame: &Bytes) -> Result<i32, String> {
    let message = frame.get(5..).unwrap_or_default();
    let answer = Answer::decode(message).map_err(|error| format!("health rpc failed: {error}"))?;
    Ok(answer.status)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::extract::Request as HttpRequest;
    use axum::response::Response;
    use axum::routing::post;

    use super::*;

    /// Serves `up`, does not serve `down`, knows nothing else.
    async fn health(request: HttpRequest) -> Response {
        let body = axum::body::to_bytes(request.into_body(), 1_024).await.unwrap();
        let service = Request::decode(&body[5..]).unwrap().service;
        let status = match service.as_str() {
            "" | "up" => 1,
            "down" => 2,
            _ => {
                let unknown = Response::builder()
                    .header("grpc-status", "5")
                    .header("grpc-message", "unknown service");
                return unknown.body(Body::empty()).unwrap();
            }
        };
        let message = Answer { status }.encode_to_vec();
        let mut frame = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
        frame.extend(message);
        Response::builder().header("grpc-status", "0").body(Body::from(frame)).unwrap()
    }

    #[tokio::test]
    async fn only_a_service_that_serves_is_healthy() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let app = Router::new().route("/grpc.health.v1.Health/Check", post(health));
        let mut served = tokio::task::JoinSet::new();
        served.spawn(async move { axum::serve(listener, app).await.unwrap() });
        let limit = Duration::from_secs(30);
        for service in ["", "up"] {
            assert_eq!(check(&address, service, limit).await, ProbeOutcome::Success);
        }
        for (service, word) in [("down", "NOT_SERVING"), ("none", "unknown service")] {
            match check(&address, service, limit).await {
                ProbeOutcome::Failure(why) => assert!(why.contains(word), "{why}"),
                other => panic!("{service}: {other:?}"),
            }
        }
        served.shutdown().await;
        let gone = check(&address, "", limit).await;
        assert!(matches!(gone, ProbeOutcome::Failure(_)), "{gone:?}");
    }

    /// What speaks no HTTP/2, or nothing at all, is unhealthy in time.
    #[tokio::test]
    async fn a_port_that_says_nothing_is_unhealthy() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let silent = check(&address, "", Duration::from_millis(300)).await;
        assert!(matches!(silent, ProbeOutcome::Failure(_)), "{silent:?}");
    }
}
