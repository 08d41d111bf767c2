//! Turns a request into a conversation: which protocol, and what the answer says.
//!
//! | asked | protocols |
//! |---|---|
//! | `Upgrade: websocket`, exec and attach | `v5`, `v4` and `v4.base64.channel.k8s.io` |
//! | `Upgrade: websocket`, portforward | `SPDY/3.1+portforward.k8s.io`, `v4.channel.k8s.io` and its base64 |
//! | `Upgrade: SPDY/3.1` | clients before 1.31: `v4.channel.k8s.io`, `portforward.k8s.io` |
//!
//! Invariant: the process is there before the answer says so; what cannot be is refused
//! with a Status in a plain answer.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::task::TaskTracker;

use super::channel::Protocol;
use super::{Action, PodServices, PodTarget, Wishes};
use super::{port_forward, port_forward_channels, spdy_exec, websocket};
use crate::model::status::Status;

/// kubectl's tunnel: SPDY frames in WebSocket messages.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const SPDY: &str = "SPDY/3.1";
const SPDY_PORT_FORWARD: &str = "portforward.k8s.io";
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// The headers that a server in between passes on, in both directions.
pub fn passed_headers(from: &HeaderMap) -> HeaderMap {
    let names = [
        CONNECTION,
        UPGRADE,
        SEC_WEBSOCKET_ACCEPT,
        SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION,
        STREAM_PROTOCOL,
    ];
    let mut passed = HeaderMap::new();
    for name in names {
        for value in from.get_all(&name) {
            passed.append(name.clone(), value.clone());
        }
    }
    passed
}

/// The words of a header that lists some, in all its lines.
fn words(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|word| word.trim().to_owned()).collect()
}

fn bad(text: impl Into<String>) -> Status {
    Status::bad_request(text)
}

/// How the two sides will speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Channels(Protocol),
    Tunnel,
    Spdy,
    SpdyPorts,
}

impl Manner {
    fn is_spdy(self) -> bool {
        matches!(self, Manner::Spdy | Manner::SpdyPorts)
    }

    fn name(self) -> &'static str {
        match self {
            Manner::Channels(protocol) => protocol.name(),
            Manner::Tunnel => TUNNEL,
            Manner::Spdy => Protocol::V4.name(),
            Manner::SpdyPorts => SPDY_PORT_FORWARD,
        }
    }

    fn choose(action: Action, headers: &HeaderMap) -> Result<Self, Status> {
        let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let (offers, chosen) = if upgrade.eq_ignore_ascii_case("websocket") {
            let offers = words(headers, &SEC_WEBSOCKET_PROTOCOL);
            let chosen = match action {
                Action::PortForward if offers.iter().any(|offer| offer == TUNNEL) => {
                    Some(Manner::Tunnel)
                }
                Action::PortForward => Protocol::choose(offers.iter().map(String::as_str))
                    .filter(|protocol| *protocol != Protocol::V5)
                    .map(Manner::Channels),
                _ => Protocol::choose(offers.iter().map(String::as_str)).map(Manner::Channels),
            };
            (offers, chosen)
        } else if upgrade.eq_ignore_ascii_case(SPDY) {
            let offers = words(headers, &STREAM_PROTOCOL);
            let chosen = match action {
                Action::PortForward => offers
                    .iter()
                    .any(|offer| offer == SPDY_PORT_FORWARD)
                    .then_some(Manner::SpdyPorts),
                _ => {
                    offers.iter().any(|offer| offer == Protocol::V4.name()).then_some(Manner::Spdy)
                }
            };
            (offers, chosen)
        } else {
            return Err(bad("Upgrade request required"));
        };
        chosen.ok_or_else(|| {
            Status::failure(
                403,
                "Forbidden",
                format!("unable to upgrade: none of the protocols {offers:?} is spoken here"),
            )
        })
    }
}

/// Opens what is asked for, answers, and lets it run by itself.
pub(super) async fn serve(
    services: Arc<dyn PodServices>,
    action: Action,
    target: PodTarget,
    wishes: &Wishes,
    mut request: Request,
    place: Place,
) -> Result<Response, Status> {
    let manner = Manner::choose(action, request.headers())?;
    let mut answer = answer_head(manner, request.headers())?;
    let upgrade = hyper::upgrade::on(&mut request);
    let session = match action {
        Action::Exec => {
            let command = wishes.all("command");
            Some(services.exec(&target, &command, wishes.streams()?).await?)
        }
        Action::Attach => Some(services.attach(&target, wishes.streams()?).await?),
        Action::PortForward => None,
    };
    let streams = if session.is_some() { wishes.streams()? } else { Default::default() };
    let ports = wishes.all("ports");
    match (manner, session) {
        (Manner::Channels(protocol), Some(session)) => {
            place.run(upgrade, move |io| websocket::talk(io, protocol, session));
        }
        (Manner::Channels(protocol), None) => {
            let ports = port_forward_channels::ports(&ports)?;
            place.run(upgrade, move |io| {
                port_forward_channels::serve(io, protocol, services, target, ports)
            });
        }
        (Manner::Spdy, Some(session)) => place.run(upgrade, move |io| async move {
            let (from, to) = websocket::bytes_of(io);
            spdy_exec::serve(from, to, streams, session).await;
        }),
        (Manner::Tunnel, _) => place.run(upgrade, move |io| async move {
            let (from, to) = websocket::tunnel(io).await;
            port_forward::serve(from, to, services, target).await;
        }),
        (Manner::SpdyPorts, _) | (Manner::Spdy, None) => {
            place.run(upgrade, move |io| async move {
                let (from, to) = websocket::bytes_of(io);
                port_forward::serve(from, to, services, target).await;
            });
        }
    }
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    Ok(answer)
}

fn answer_head(manner: Manner, headers: &HeaderMap) -> Result<Response, Status> {
    let mut answer = Response::new(Body::empty());
    let head = answer.headers_mut();
    head.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if manner.is_spdy() {
        head.insert(UPGRADE, HeaderValue::from_static(SPDY));
        head.insert(STREAM_PROTOCOL, HeaderValue::from_static(manner.name()));
        return Ok(answer);
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(bad("Sec-WebSocket-Version must be 13"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| bad("Sec-WebSocket-Key is missing"))?;
    let accept = derive_accept_key(key.as_bytes());
    head.insert(UPGRADE, HeaderValue::from_static("websocket"));
    head.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(manner.name()));
    head.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).map_err(Status::internal)?);
    Ok(answer)
}

/// Where a conversation runs, and its share of what a node carries.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) room: OwnedSemaphorePermit,
    pub(super) conversations: TaskTracker,
}

impl Place {
    /// Goes on where the request ends, until the conversation does.
    fn run<F, Fut>(self, upgrade: OnUpgrade, talk: F)
    where
        F: FnOnce(TokioIo<Upgraded>) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let Place { room, conversations } = self;
        conversations.spawn(async move {
            match upgrade.await {
                Ok(upgraded) => talk(TokioIo::new(upgraded)).await,
                Err(error) => tracing::debug!(%error, "a connection was not handed over"),
            }
            drop(room);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let lines = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        lines.collect()
    }

    #[test]
    fn each_client_gets_the_protocol_that_it_asks_for() {
        let chosen = |action, upgrade, name, offers| {
            Manner::choose(action, &headers(&[("upgrade", upgrade), (name, offers)]))
        };
        let (web, spdy) = ("sec-websocket-protocol", "x-stream-protocol-version");
        assert_eq!(
            chosen(Action::Exec, "websocket", web, "v5.channel.k8s.io").unwrap(),
            Manner::Channels(Protocol::V5)
        );
        assert_eq!(chosen(Action::PortForward, "websocket", web, TUNNEL).unwrap(), Manner::Tunnel);
        assert_eq!(
            chosen(Action::PortForward, "SPDY/3.1", spdy, "portforward.k8s.io").unwrap(),
            Manner::SpdyPorts
        );
        let refused = chosen(Action::Exec, "websocket", web, TUNNEL).unwrap_err();
        assert_eq!(refused.code, 403);
        assert_eq!(chosen(Action::Exec, "h2c", web, "").unwrap_err().code, 400);
    }
}
