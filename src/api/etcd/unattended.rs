//! Runs what must be finished, or tidied up, even when its caller goes away.
//!
//! Why: a call whose client disconnects is dropped where it waits; a lock's place in the
//! queue would stay behind until its lease ends.
//! Invariant: the work is told that it is no longer attended, and is waited for on stop.

use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::backend::Backend;
use super::errors::refused;
use crate::model::refusal::Refusal;

/// Runs the work beside the caller; its token is cancelled when the caller is dropped or
/// the member stops.
pub(super) async fn attended<T, Work>(
    backend: &Backend,
    work: impl FnOnce(CancellationToken) -> Work,
) -> Result<T, Status>
where
    T: Send + 'static,
    Work: Future<Output = Result<T, Status>> + Send + 'static,
{
    let gone = backend.cancel.child_token();
    let attention = gone.clone().drop_guard();
    let done = backend.waits.spawn(work(gone)).await;
    drop(attention);
    done.unwrap_or_else(|_| Err(refused(Refusal::Stopped)))
}
