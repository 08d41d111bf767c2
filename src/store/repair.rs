//! A damaged state is fetched anew from another member before anything is served.
//!
//! ```text
//!  damage found ─► state.damaged written ─► the member stops ─► is started again:
//!  log opened, whole ─► others asked ─► rows ─► incoming.redb ─► state.redb ─► note removed
//! ```
//! Why it may go on under its id: what a member acknowledged is in its log and its vote,
//! and those are whole, or it would not get here; the state only follows from the log.
//! Invariants: a state that was found damaged is never opened again; the fetched one has
//! applied all that the log no longer holds; it takes the damaged one's place complete and
//! in one step, and a crash anywhere begins anew.
//! Not here: finding damage (`scrub`, every read), the other side (`lend`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::api::{PeerNetwork, PeerTarget};
use super::disk::{StoreDisk, run_on};
use super::log::{Identity, LogChange, LogError, LogFile};
use super::message::{Answer, Envelope, Request};
use super::runtime::random_u64;
use super::small_file::{read_whole, write_whole};
use super::state::{Incoming, Row, StateError, StateStore, is_noted_damaged, note_damage};
use super::types::{Lineage, LogId, Peer};
use crate::base::chain::chain;
use crate::base::ids::MemberId;
use crate::store::codec::{decode, encode};

/// The members that were last known: where a damaged state can be had.
const PEERS_FILE: &str = "peers";
/// How long one page may take.
const PAGE_DEADLINE: Duration = Duration::from_secs(10);
/// How long all are asked again while none has answered.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// Why there is no state to go on with.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    #[error("cannot use the store's disk")]
    Disk(#[source] std::io::Error),
    #[error("cannot fit the log to the fetched state")]
    Log(#[source] LogError),
    #[error("cannot open the store's state")]
    State(#[source] StateError),
    #[error(
        "the store's state is damaged and could not be fetched from another member: {reason}; it \
         is tried again at the next start; if no other member is left, restore a snapshot"
    )]
    Unrepaired { reason: String },
}

/// Notes where the other members are.
pub(super) async fn note_peers(disk: &Arc<dyn StoreDisk>, peers: BTreeMap<u64, Peer>) {
    let of = disk.clone();
    let noted = run_on(&**disk, move || write_whole(&*of, PEERS_FILE, &encode(&peers))).await;
    if let Err(error) = noted.and_then(|noted| noted) {
        // It is only for a day when the state cannot be read.
        tracing::warn!(error = chain(&error), "the addresses of the members were not noted");
    }
}

/// What a member has before its state is open.
#[derive(Debug)]
pub(super) struct Bare {
    pub(super) disk: Arc<dyn StoreDisk>,
    pub(super) network: Arc<dyn PeerNetwork>,
    pub(super) identity: Identity,
    pub(super) starts: Lineage,
    pub(super) log: Arc<dyn LogFile>,
}

impl Bare {
    /// Opens the state, after a repair where it is damaged.
    pub(super) async fn open_state(&self) -> Result<StateStore, RepairError> {
        let disk = self.disk.clone();
        let noted = self.work(move || is_noted_damaged(&*disk)).await?;
        if !noted {
            let what = match self.open().await {
                Ok(state) if self.has_hole(&state)? => {
                    "it has not applied what the log no longer holds".to_owned()
                }
                Err(RepairError::State(error)) if error.is_damage() => chain(&error),
                opened => return opened,
            };
            let disk = self.disk.clone();
            self.work(move || note_damage(&*disk, &what)).await?;
        }
        tracing::warn!("the state is damaged; it is fetched from another member");
        let applied = self.fetch().await?;
        self.fit_log(applied).await?;
        let disk = self.disk.clone();
        self.work(move || super::state::forget_damage(&*disk)).await?;
        tracing::info!(%applied, "the state was fetched from another member");
        self.open().await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, RepairError> {
        run_on(&*self.disk, work).await.and_then(|done| done).map_err(RepairError::Disk)
    }

    /// Whether entries are neither in the state nor in the log.
    fn has_hole(&self, state: &StateStore) -> Result<bool, RepairError> {
        let purged = self.log.head().map_err(RepairError::Log)?.purged;
        Ok(purged.map(|mark| mark.index) > state.applied().0.map(|mark| mark.index))
    }

    async fn open(&self) -> Result<StateStore, RepairError> {
        let disk = self.disk.clone();
        let opened = run_on(&*self.disk, move || StateStore::open(disk)).await;
        opened.map_err(RepairError::Disk)?.map_err(RepairError::State)
    }

    /// Brings a whole state into its place; the answer is what it has applied.
    async fn fetch(&self) -> Result<LogId, RepairError> {
        let disk = self.disk.clone();
        let peers = self.work(move || read_whole(&*disk, PEERS_FILE)).await?;
        let known = peers.and_then(|bytes| decode::<BTreeMap<u64, Peer>>(&bytes).ok());
        let mut others = known.unwrap_or_default();
        others.remove(&self.identity.member.0);
        let began = Instant::now();
        let mut reasons: Vec<String>;
        loop {
            reasons = Vec::new();
            for (member, peer) in &others {
                match self.fetch_from(MemberId(*member), peer).await {
                    Ok(applied) => return Ok(applied),
                    Err(reason) => reasons.push(format!("{}: {reason}", peer.name)),
                }
            }
            if others.is_empty() || began.elapsed() > PATIENCE {
                let reason = if others.is_empty() {
                    "no other member is known".into()
                } else {
                    reasons.join("; ")
                };
                return Err(RepairError::Unrepaired { reason });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn fetch_from(&self, member: MemberId, peer: &Peer) -> Result<LogId, String> {
        let session = random_u64();
        let mut number = 0;
        let (applied, mut rows) = self.page(member, peer, session, number).await?;
        let purged = self.log.head().map_err(|error| chain(&error))?.purged;
        if purged.is_some_and(|purged| applied.index < purged.index) {
            return Err(format!("its state is at {applied}, this log begins behind {purged:?}"));
        }
        let failed = |error: StateError| chain(&error);
        let incoming = Incoming::begin(self.disk.clone()).await.map_err(failed)?;
        while !rows.is_empty() {
            incoming.add(&*self.disk, rows).await.map_err(failed)?;
            number += 1;
            (_, rows) = self.page(member, peer, session, number).await?;
        }
        incoming.replace_state(&self.disk, applied).await.map_err(failed)?;
        Ok(applied)
    }

    async fn page(
        &self,
        member: MemberId,
        peer: &Peer,
        session: u64,
        number: u64,
    ) -> Result<(LogId, Vec<Row>), String> {
        let envelope = Envelope {
            cluster: self.identity.cluster,
            generation: self.identity.generation,
            from: self.identity.member,
            from_start: self.identity.note(),
            from_lineage: self.starts.clone(),
            to: member,
            to_incarnation: peer.incarnation,
            to_start: None,
            request: Request::LendState { session, number },
        };
        let target = PeerTarget { member, address: peer.address.clone() };
        let message = Bytes::from(encode(&envelope));
        let answer = self.network.call(&target, message, PAGE_DEADLINE).await;
        match decode::<Answer>(&answer.map_err(|error| chain(&error))?) {
            Ok(Answer::StateRows { applied, rows }) => Ok((applied, rows)),
            Ok(Answer::Rejected(rejection)) => Err(rejection.to_string()),
            Ok(Answer::Failed { reason }) => Err(reason),
            Ok(_) => Err("it answers something else".into()),
            Err(error) => Err(chain(&error)),
        }
    }

    /// Drops the log where it is of another branch than the state, as the installation of a
    /// snapshot does: a log that has another entry there cannot have committed it, nor any
    /// behind it.
    async fn fit_log(&self, applied: LogId) -> Result<(), RepairError> {
        let log = self.log.clone();
        let fit = move || {
            let head = log.head()?;
            let here = log.read(applied.index, applied.index + 1)?.pop();
            let agrees = match here {
                Some(entry) => entry.log_id == applied,
                // Purged, or the log is shorter, and Raft begins it anew behind the state.
                None => head.last.is_none_or(|last| last < applied) || head.purged >= Some(applied),
            };
            if agrees {
                return Ok(());
            }
            let first = head.purged.map_or(0, |purged| purged.index + 1);
            log.commit(vec![
                LogChange::TruncateFrom(first),
                LogChange::Purge(applied),
                LogChange::Committed(Some(applied)),
            ])
            .map(drop)
        };
        let fitted = run_on(&*self.disk, fit).await.map_err(RepairError::Disk)?;
        fitted.map_err(RepairError::Log)
    }
}
