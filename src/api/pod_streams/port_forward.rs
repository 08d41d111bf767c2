//! Port-forward over SPDY: each connection is a pair of streams, one for its bytes and
//! one on which an error is told.
//!
//! ```text
//! streamtype: error, port: 80, requestid: 0 ─┐
//! streamtype: data,  port: 80, requestid: 0 ─┴─► a connection to the pod's port 80
//! ```
//! Invariants: a connection that the client resets is closed; the error stream always
//! ends, because the client waits for that; when the tunnel ends, all connections do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::spdy::{self, Outgoing, Stream};
use super::websocket::{FromBytes, ToBytes};
use super::{PodServices, PodTarget};

/// How long the second stream of a pair may take to come.
const PAIR_LIMIT: Duration = Duration::from_secs(30);
/// Bytes read from a pod at a time.
const PIECE_BYTES: usize = 32 * 1024;

/// Half of a pair.
#[derive(Debug)]
struct Half {
    stream: Stream,
    is_data: bool,
    since: Instant,
}

/// Carries connections until the client is gone.
pub(super) async fn serve(
    from: FromBytes,
    to: ToBytes,
    services: Arc<dyn PodServices>,
    target: PodTarget,
) {
    spdy::serve(from, to, |streams, outgoing| pair(streams, outgoing, services, target)).await;
}

async fn pair(
    mut streams: mpsc::Receiver<Stream>,
    outgoing: Outgoing,
    services: Arc<dyn PodServices>,
    target: PodTarget,
) {
    let mut halves: HashMap<String, Half> = HashMap::new();
    let mut open = JoinSet::new();
    let mut sweep = tokio::time::interval(PAIR_LIMIT);
    loop {
        let stream = tokio::select! {
            stream = streams.recv() => match stream {
                Some(stream) => stream,
                None => return,
            },
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            _ = sweep.tick() => {
                let late: Vec<String> = halves
                    .iter()
                    .filter(|(_, half)| half.since.elapsed() >= PAIR_LIMIT)
                    .map(|(request, _)| request.clone())
                    .collect();
                for request in late {
                    if let Some(half) = halves.remove(&request) {
                        outgoing.refuse(half.stream.id).await;
                    }
                }
                continue;
            }
        };
        let is_data = match stream.headers.get("streamtype") {
            Some("data") => true,
            Some("error") => false,
            _ => {
                outgoing.refuse(stream.id).await;
                continue;
            }
        };
        // The oldest clients number nothing: there the error stream comes right before.
        let request = match stream.headers.get("requestid") {
            Some(request) => request.to_owned(),
            None if is_data => stream.id.wrapping_sub(2).to_string(),
            None => stream.id.to_string(),
        };
        match halves.remove(&request) {
            Some(half) if half.is_data != is_data => {
                let (data, error) =
                    if is_data { (stream, half.stream) } else { (half.stream, stream) };
                let (services, target) = (services.clone(), target.clone());
                let outgoing = outgoing.clone();
                open.spawn(
                    async move { forward(data, error.id, outgoing, services, target).await },
                );
            }
            Some(half) => {
                outgoing.refuse(half.stream.id).await;
                outgoing.refuse(stream.id).await;
            }
            None => {
                halves.insert(request, Half { stream, is_data, since: Instant::now() });
            }
        }
    }
}

/// One connection, from its opening to its end.
async fn forward(
    mut data: Stream,
    error: u32,
    outgoing: Outgoing,
    services: Arc<dyn PodServices>,
    target: PodTarget,
) {
    let trouble = match port_of(&data) {
        Err(trouble) => Some(trouble),
        Ok(port) => match services.dial(&target, port).await {
            Ok(connection) => {
                let reset = data.reset.clone();
                tokio::select! {
                    () = carry(connection, &mut data, &outgoing) => {}
                    () = reset.cancelled() => {}
                }
                None
            }
            Err(status) => Some(format!(
                "error forwarding port {port} to pod {}, uid {}: {}",
                target.pod, target.uid, status.message
            )),
        },
    };
    if let Some(trouble) = trouble {
        outgoing.send(error, Bytes::from(trouble)).await;
    }
    outgoing.finish(data.id).await;
    outgoing.finish(error).await;
}

fn port_of(stream: &Stream) -> Result<u16, String> {
    let text = stream.headers.get("port").unwrap_or_default();
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("unable to parse {text:?} as a port"))
}

/// Until the pod ends its side: a client that only ends its own may still be answered.
async fn carry(connection: TcpStream, data: &mut Stream, outgoing: &Outgoing) {
    let (mut from_pod, mut to_pod) = connection.into_split();
    let (id, queue) = (data.id, &mut data.data);
    let there = async {
        while let Some(bytes) = queue.recv().await {
            if to_pod.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to_pod.shutdown().await;
    };
    let back = async {
        loop {
            let mut piece = BytesMut::with_capacity(PIECE_BYTES);
            match from_pod.read_buf(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if !outgoing.send(id, piece.freeze()).await {
                return;
            }
        }
    };
    tokio::pin!(back);
    tokio::select! {
        () = &mut back => return,
        () = there => {}
    }
    back.await;
}
