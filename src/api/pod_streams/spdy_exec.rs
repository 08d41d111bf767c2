//! Exec and attach over SPDY, for clients before Kubernetes 1.31.
//!
//! The client opens one stream for each of `error`, `stdin`, `stdout`, `stderr` and
//! `resize` that it wants; the conversation begins when all are there.
//! Invariant: a client that does not open what it asked for is left after a bounded time.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::channel::Size;
use super::conversation::{FromClient, QUEUE, ToClient, converse};
use super::spdy::{self, Outgoing, Stream};
use super::websocket::{FromBytes, ToBytes};
use crate::engine::session::{Session, SessionStreams};

/// How long the client may take to open its streams.
const OPENING_LIMIT: Duration = Duration::from_secs(30);
/// Longest message about a terminal's size, bytes.
const SIZE_MAX_BYTES: usize = 1_024;

/// Runs one conversation.
pub(super) async fn serve(from: FromBytes, to: ToBytes, wanted: SessionStreams, session: Session) {
    spdy::serve(from, to, |streams, outgoing| talk(streams, outgoing, wanted, session)).await;
}

fn names(wanted: SessionStreams) -> Vec<&'static str> {
    let all = [
        ("error", true),
        ("stdin", wanted.stdin),
        ("stdout", wanted.stdout),
        ("stderr", wanted.stderr),
        ("resize", wanted.tty),
    ];
    all.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect()
}

/// All streams that were asked for, by name.
async fn gather(
    streams: &mut mpsc::Receiver<Stream>,
    wanted: SessionStreams,
) -> Option<HashMap<&'static str, Stream>> {
    let names = names(wanted);
    let mut found = HashMap::new();
    while found.len() < names.len() {
        let stream = streams.recv().await?;
        let kind = stream.headers.get("streamtype");
        let name = names.iter().find(|name| Some(**name) == kind)?;
        found.insert(*name, stream);
    }
    Some(found)
}

async fn talk(
    mut streams: mpsc::Receiver<Stream>,
    outgoing: Outgoing,
    wanted: SessionStreams,
    session: Session,
) {
    let gathered = tokio::time::timeout(OPENING_LIMIT, gather(&mut streams, wanted)).await;
    let Ok(Some(mut found)) = gathered else {
        session.control.hang_up().await;
        return;
    };
    let (heard, from) = mpsc::channel(QUEUE);
    let (to, said) = mpsc::channel(QUEUE);
    let typed = found.remove("stdin");
    let sizes = found.remove("resize");
    let ids = |name: &str| found.get(name).map(|stream| stream.id);
    let places = [ids("stdout"), ids("stderr"), ids("error")];
    let hear = async {
        // Ends with the connection, not with the streams: those may end before it.
        let typing = type_in(typed, &heard);
        let sizing = resize(sizes, &heard);
        let gone = async { while streams.recv().await.is_some() {} };
        tokio::select! {
            ((), ()) = async { tokio::join!(typing, sizing) } => {}
            () = gone => return,
        }
        while streams.recv().await.is_some() {}
    };
    let front = async move {
        tokio::select! {
            () = hear => {}
            () = say(said, &outgoing, places) => {}
        }
    };
    tokio::join!(front, converse(session, from, to));
}

async fn type_in(stream: Option<Stream>, heard: &mpsc::Sender<FromClient>) {
    let Some(mut stream) = stream else { return };
    while let Some(bytes) = stream.data.recv().await {
        let _ = heard.send(FromClient::Stdin(bytes)).await;
    }
    let _ = heard.send(FromClient::StdinClosed).await;
}

async fn resize(stream: Option<Stream>, heard: &mpsc::Sender<FromClient>) {
    let Some(mut stream) = stream else { return };
    let mut text = BytesMut::new();
    while let Some(bytes) = stream.data.recv().await {
        text.extend_from_slice(&bytes);
        let mut sizes = serde_json::Deserializer::from_slice(&text).into_iter::<Size>();
        let mut words = Vec::new();
        while let Some(Ok(size)) = sizes.next() {
            words.push(FromClient::Resize { rows: size.height, columns: size.width });
        }
        let read = sizes.byte_offset().min(text.len());
        let _ = text.split_to(read);
        if text.len() > SIZE_MAX_BYTES {
            return;
        }
        for word in words {
            let _ = heard.send(word).await;
        }
    }
}

async fn say(
    mut said: mpsc::Receiver<ToClient>,
    outgoing: &Outgoing,
    [stdout, stderr, error]: [Option<u32>; 3],
) {
    while let Some(word) = said.recv().await {
        let (stream, bytes) = match word {
            ToClient::Stdout(bytes) => (stdout, bytes),
            ToClient::Stderr(bytes) => (stderr, bytes),
            ToClient::Ended(status) => (error, Bytes::from(status.to_string())),
        };
        if let Some(stream) = stream
            && !outgoing.send(stream, bytes).await
        {
            return;
        }
    }
    for stream in [stdout, stderr, error].into_iter().flatten() {
        outgoing.finish(stream).await;
    }
}
