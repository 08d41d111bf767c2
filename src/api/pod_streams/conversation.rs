//! Joins a client with a process, whatever protocol the client speaks.
//!
//! ```text
//!  client ──FromClient──► input of the process, size of its terminal
//!         ◄──ToClient──── its output, and at the end a Status
//! ```
//! Invariants: the queues between are short, so that a slow side slows the other; a
//! client that is gone is noticed while its input is stuck; then the process sees the
//! end of its input, and one on a terminal is hung up.

use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::base::chain::chain;
use crate::engine::EngineError;
use crate::engine::session::{Session, SessionControl, SessionInput, SessionOutput};

/// Pieces that may wait between a client and a process, in each direction.
pub(super) const QUEUE: usize = 16;

/// Most bytes of one piece.
const PIECE_BYTES: usize = 32 * 1024;

/// Cuts what may be long into pieces of their own, so that a queue of them has a bound in
/// bytes, too: a part of a long message would keep all of it.
pub(super) fn pieces(bytes: &Bytes) -> impl Iterator<Item = Bytes> {
    let whole = (bytes.len() <= PIECE_BYTES && !bytes.is_empty()).then(|| bytes.clone());
    let long = if whole.is_none() { &bytes[..] } else { &[] };
    whole.into_iter().chain(long.chunks(PIECE_BYTES).map(Bytes::copy_from_slice))
}

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FromClient {
    Stdin(Bytes),
    StdinClosed,
    Resize { rows: u16, columns: u16 },
}

/// What a client hears; `Ended` is the last.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ToClient {
    Stdout(Bytes),
    Stderr(Bytes),
    Ended(Value),
}

/// Runs until the process ends or the client is gone: `from` ends, or nobody hears `to`.
pub(super) async fn converse(
    session: Session,
    from: mpsc::Receiver<FromClient>,
    to: mpsc::Sender<ToClient>,
) {
    let Session { mut output, input, control } = session;
    let showing = async {
        while let Some(piece) = output.next().await {
            let piece = match piece {
                Ok(SessionOutput::Stdout(bytes)) => ToClient::Stdout(bytes),
                Ok(SessionOutput::Stderr(bytes)) => ToClient::Stderr(bytes),
                Err(error) => return Some(Err(error)),
            };
            if to.send(piece).await.is_err() {
                return None;
            }
        }
        Some(control.exit_code().await)
    };
    let ended = tokio::select! {
        ended = showing => ended,
        () = listen(input, from, control.as_ref()) => None,
        () = to.closed() => None,
    };
    match ended {
        // Nobody to hear it is no error: the process has ended anyhow.
        Some(ended) => drop(to.send(ToClient::Ended(end_status(&ended))).await),
        None => control.hang_up().await,
    }
}

/// Carries out what the client says until it is gone.
async fn listen(
    input: Option<SessionInput>,
    mut from: mpsc::Receiver<FromClient>,
    control: &dyn SessionControl,
) {
    let (typed, to_type) = mpsc::channel::<Bytes>(QUEUE);
    let mut typed = Some(typed);
    let hear = async {
        while let Some(word) = from.recv().await {
            match word {
                FromClient::Stdin(bytes) => {
                    // A process that reads no more does not end the conversation.
                    if let Some(typed) = &typed {
                        let _ = typed.send(bytes).await;
                    }
                }
                FromClient::StdinClosed => typed = None,
                FromClient::Resize { rows, columns } => {
                    if let Err(error) = control.resize(rows, columns).await {
                        tracing::debug!(%error, "a terminal was not resized");
                    }
                }
            }
        }
    };
    let write = async {
        type_in(input, to_type).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = hear => {}
        () = write => {}
    }
}

/// Writes until there is no more, or the process reads no more; then ends its input.
async fn type_in(input: Option<SessionInput>, mut pieces: mpsc::Receiver<Bytes>) {
    let Some(mut input) = input else {
        // What is said to a process without input is dropped.
        while pieces.recv().await.is_some() {}
        return;
    };
    while let Some(piece) = pieces.recv().await {
        if input.write_all(&piece).await.is_err() || input.flush().await.is_err() {
            return;
        }
    }
    let _ = input.shutdown().await;
}

/// The last message: Kubernetes' Status of a command.
pub(super) fn end_status(ended: &Result<Option<i64>, EngineError>) -> Value {
    match ended {
        Ok(None | Some(0)) => json!({"metadata": {}, "status": "Success"}),
        Ok(Some(code)) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(error) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("Internal error occurred: {}", chain(error)),
            "reason": "InternalError",
            "code": 500,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_become_pieces_of_their_own() {
        assert_eq!(pieces(&Bytes::new()).count(), 0);
        let short = Bytes::from_static(b"ls\n");
        assert_eq!(pieces(&short).collect::<Vec<_>>(), [short]);
        let long: Bytes = (0..=255).cycle().take(3 * PIECE_BYTES + 1).collect::<Vec<u8>>().into();
        let cut: Vec<Bytes> = pieces(&long).collect();
        assert_eq!(cut.iter().map(Bytes::len).max(), Some(PIECE_BYTES));
        assert_eq!(cut.concat(), long);
    }
}
