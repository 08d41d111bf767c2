//! Port-forward over plain WebSocket channels, as clients without SPDY ask for it.
//!
//! ```text
//! ?ports=80&ports=443     channels 0, 2: bytes of the first and second port
//!                         channels 1, 3: an error; each begins with the port, u16 LE
//! ```
//! Invariant: one connection for each port; the tunnel ends with the last of them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::channel::Protocol;
use super::conversation::QUEUE;
use super::websocket::{close, socket};
use super::{PodServices, PodTarget};
use crate::model::status::Status;

/// Ports of one request; two channels each, which base64 names by an ASCII character.
const PORTS_MAX: usize = 32;
/// Bytes read from a pod at a time.
const PIECE_BYTES: usize = 32 * 1024;

/// The ports of a query; each may be a list with commas.
pub(super) fn ports(texts: &[String]) -> Result<Vec<u16>, Status> {
    let words = texts.iter().flat_map(|text| text.split(',')).filter(|word| !word.is_empty());
    let ports: Result<Vec<u16>, Status> = words
        .map(|word| {
            let port = word.parse().ok().filter(|port| *port != 0);
            port.ok_or_else(|| Status::bad_request(format!("{word:?} is not a port")))
        })
        .collect();
    let ports = ports?;
    if ports.is_empty() || ports.len() > PORTS_MAX {
        return Err(Status::bad_request("query parameter \"ports\" is required"));
    }
    Ok(ports)
}

fn channel(index: usize, error: bool) -> u8 {
    u8::try_from(2 * index + usize::from(error)).unwrap_or(u8::MAX)
}

/// Carries all ports until their connections end or the client is gone.
pub(super) async fn serve(
    io: TokioIo<Upgraded>,
    protocol: Protocol,
    services: Arc<dyn PodServices>,
    target: PodTarget,
    ports: Vec<u16>,
) {
    let (mut sink, mut stream) = socket(io).await.split();
    let (to, mut said) = mpsc::channel::<Message>(QUEUE);
    let mut queues = HashMap::new();
    let mut open = JoinSet::new();
    for (index, port) in ports.into_iter().enumerate() {
        let (queue, pieces) = mpsc::channel(QUEUE);
        queues.insert(channel(index, false), queue);
        let (services, target, to) = (services.clone(), target.clone(), to.clone());
        open.spawn(async move {
            for error in [false, true] {
                let head = protocol.encode(channel(index, error), &port.to_le_bytes());
                let _ = to.send(head).await;
            }
            if let Err(text) = carry(port, index, protocol, &*services, &target, pieces, &to).await
            {
                let message = protocol.encode(channel(index, true), text.as_bytes());
                let _ = to.send(message).await;
            }
        });
    }
    drop(to);
    let hear = async {
        while let Some(Ok(message)) = stream.next().await {
            match protocol.split(message) {
                Ok(Some((channel, bytes))) => {
                    if let Some(queue) = queues.get(&channel) {
                        let _ = queue.send(bytes).await;
                    }
                }
                Ok(None) => {}
                Err(_) => return,
            }
        }
    };
    let say = async {
        while let Some(message) = said.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = close(&mut sink, None).await;
    };
    tokio::select! {
        () = hear => {}
        () = say => {}
    }
}

async fn carry(
    port: u16,
    index: usize,
    protocol: Protocol,
    services: &dyn PodServices,
    target: &PodTarget,
    mut pieces: mpsc::Receiver<Bytes>,
    to: &mpsc::Sender<Message>,
) -> Result<(), String> {
    let connection = services.dial(target, port).await.map_err(|status| status.message)?;
    let (mut from_pod, mut to_pod) = connection.into_split();
    let there = async {
        while let Some(bytes) = pieces.recv().await {
            if to_pod.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match from_pod.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    let message = protocol.encode(channel(index, false), &piece[..length]);
                    if to.send(message).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
    Ok(())
}
