//! One member of the replicated store: opens its disk, runs Raft, stops in order.
//!
//! ```text
//!  open: identity and boot count ─► state file ─► log owner ─► Raft (replays to the
//!        saved commit mark) ─► flusher, leader watch, announcement
//!  stop: Raft ─► flush ─► tasks          kill (drop): nothing is flushed
//! ```
//!
//! Invariants: nothing is served before Raft has replayed to the saved commit mark; a
//! member whose disk failed or is not the one its peers remember serves nothing more.
//! Not here: reads and writes (`kv`), peers' messages (`receive`), membership changes
//! (`membership`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{Config, Raft, SnapshotPolicy};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::api::{PeerNetwork, StoreError};
use super::append_order::AppendOrder;
use super::disk::{HostDisk, StoreDisk, run_on};
use super::footing::Modes;
use super::forward_queue::ForwardQueue;
use super::generation::{self, Generations};
use super::health::Health;
use super::incoming::IncomingSlot;
use super::log::{Claim, LogError, LogFile, LogStore, SegmentLog};
use super::outbound::Outbound;
use super::quorum::Quorum;
use super::raft_network::Clients;
use super::read_gate::ReadGate;
use super::repair::{Bare, RepairError, note_peers};
use super::runtime::random_u64;
use super::shared::{Shared, leader_in};
use super::space::SpaceGuard;
use super::state::Machine;
use super::status::StoreStatus;
use super::types::Peer;
use super::watch::WatchHub;
use crate::base::chain::chain;
use crate::base::ids::{ClusterId, Generation, MemberId};

/// Silence of the leader that a follower tolerates is 1.0 s and a random part of 0.5 to
/// 1.0 s more, so the next leader stands within about two seconds and a member that the
/// scheduler holds back for a second does not start an election.
const HEARTBEAT_MS: u64 = 200;
const ELECTION_MIN_MS: u64 = 500;
const ELECTION_MAX_MS: u64 = 1_000;
/// How long a stop waits for tasks.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Who the member is.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    pub cluster_id: ClusterId,
    pub generation: Generation,
    /// Never used by another disk before or after.
    pub member_id: MemberId,
    pub tuning: StoreTuning,
}

/// How much log is kept; the product uses the default, tests use less.
#[derive(Clone, Copy, Debug)]
pub struct StoreTuning {
    /// Entries after which the state is flushed for the log's sake and the log may be
    /// purged.
    pub snapshot_every: u64,
    /// Entries kept although the state has them: a member that lags less, or that takes
    /// a snapshot meanwhile, can still be served from the log.
    pub keep_entries: u64,
    /// Size of the log's files, bytes.
    pub segment_bytes: usize,
}

impl Default for StoreTuning {
    fn default() -> Self {
        Self { snapshot_every: 10_000, keep_entries: 20_000, segment_bytes: 8 * 1024 * 1024 }
    }
}

/// What the member is given from outside. Time is tokio's, randomness the thread's
/// ([`super::seed_this_thread`]) or the operating system's.
#[derive(Clone, Debug)]
pub struct StoreDeps {
    pub network: Arc<dyn PeerNetwork>,
    pub disk: Arc<dyn StoreDisk>,
}

impl StoreDeps {
    /// Keeps the files in a directory of the host.
    pub fn on_host(dir: &Path, network: Arc<dyn PeerNetwork>) -> Result<Self, OpenError> {
        let disk = HostDisk::new(dir)
            .map_err(|source| OpenError::Directory { path: dir.display().to_string(), source })?;
        Ok(Self { network, disk: Arc::new(disk) })
    }
}

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot make the store's directory {path}")]
    Directory {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot use the store's disk")]
    Disk(#[source] std::io::Error),
    #[error("cannot open the store's log")]
    Log(#[source] LogError),
    #[error(transparent)]
    State(#[from] RepairError),
    #[error(transparent)]
    Fenced(super::generation::FenceError),
    #[error("Raft refuses its configuration: {reason}")]
    Config { reason: String },
    #[error("cannot start Raft: {reason}")]
    Raft { reason: String },
}

/// A running member. Dropping it stops it without flushing, like a crash of the process.
pub struct Store {
    pub(super) shared: Arc<Shared>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("member", &self.shared.identity.member).finish()
    }
}

fn raft_config(cluster: ClusterId, tuning: StoreTuning) -> Result<Arc<Config>, OpenError> {
    let config = Config {
        cluster_name: cluster.to_string(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MIN_MS,
        election_timeout_max: ELECTION_MAX_MS,
        install_snapshot_timeout: 600_000,
        max_payload_entries: 512,
        replication_lag_threshold: tuning.snapshot_every,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(tuning.snapshot_every),
        max_in_snapshot_log_to_keep: tuning.keep_entries,
        purge_batch_size: tuning.keep_entries.clamp(1, 256),
        // Without it a member that was cut off disturbs the others when it comes back.
        enable_pre_vote: Some(true),
        // A restarted leader must be elected: its state may be behind what it answered.
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        ..Config::default()
    };
    let config = config.validate().map_err(|e| OpenError::Config { reason: e.to_string() })?;
    Ok(Arc::new(config))
}

impl Store {
    /// Opens the member's disk, counts the start and runs the member. It takes part once
    /// it is a member: by [`Store::initialize_single`], or added by the others.
    pub async fn open(config: StoreConfig, deps: StoreDeps) -> Result<Self, OpenError> {
        let StoreDeps { network, disk } = deps;
        let claim = Claim {
            cluster: config.cluster_id,
            generation: config.generation,
            member: config.member_id,
        };
        let (of, fresh, session) = (disk.clone(), random_u64(), random_u64());
        let segment_bytes = config.tuning.segment_bytes;
        let (log, identity) =
            run_on(&*disk, move || SegmentLog::open(of, claim, segment_bytes, fresh, session))
                .await
                .map_err(OpenError::Disk)?
                .map_err(OpenError::Log)?;
        let starts = log.starts();
        let log: Arc<dyn LogFile> = Arc::new(log);
        let bare = Bare {
            disk: disk.clone(),
            network: network.clone(),
            identity,
            starts: starts.clone(),
            log: log.clone(),
        };
        let state = Arc::new(bare.open_state().await?);
        let tracker = TaskTracker::new();
        let log_store = LogStore::start(
            log.clone(),
            disk.clone(),
            state.applied().0,
            &tracker,
            state.measured.log_sync.clone(),
        )
        .map_err(OpenError::Log)?;
        let space = SpaceGuard::new(&disk).await;
        let ended = generation::noted(&*disk).map_err(OpenError::Fenced)?;
        let health = watch::Sender::new(Health::Serving);
        if let Some(reason) = ended {
            tracing::error!("{reason}");
            Health::removed(&health);
        }
        let generations = Arc::new(Generations::new(identity, disk.clone(), health.clone()));
        let outbound = Outbound::new(
            network,
            identity,
            starts,
            state.clone(),
            log_store.starts(),
            health.clone(),
        );
        let outbound = Arc::new(outbound.with_generations(generations.clone()));
        let raft = Raft::new(
            identity.member.0,
            raft_config(identity.cluster, config.tuning)?,
            Clients { outbound: outbound.clone(), disk: disk.clone() },
            log_store,
            Machine::new(state.clone()),
        )
        .await
        .map_err(|error| OpenError::Raft { reason: error.to_string() })?;
        let hub = Arc::new(WatchHub::new(state.clone()));
        let shared = Arc::new(Shared {
            identity,
            hub,
            raft,
            state,
            outbound,
            disk,
            log,
            health,
            leader: watch::Sender::new(None),
            tracker,
            cancel: CancellationToken::new(),
            run: random_u64(),
            sequence: AtomicU64::new(1),
            gate: ReadGate::default(),
            quorum: Quorum::default(),
            forwards: ForwardQueue::default(),
            lead_gate: ReadGate::default(),
            space,
            append_order: AppendOrder::default(),
            incoming: tokio::sync::Mutex::<IncomingSlot>::default(),
            changing: tokio::sync::Mutex::new(()),
            generations,
            modes: Modes::default(),
            loan: tokio::sync::Mutex::default(),
        });
        shared.start_tasks();
        Ok(Self { shared })
    }

    /// Whether this member's disk holds a log or a vote; asks Raft itself, because what
    /// [`Store::status`] shows is empty for a moment after the start.
    pub async fn is_initialized(&self) -> Result<bool, StoreError> {
        let known = self.shared.raft.is_initialized().await;
        known.map_err(|error| StoreError::Fatal { reason: error.to_string() })
    }

    /// Makes this member the first and only one of a new cluster; repeating it is no
    /// error. Never call it on more than one member of a cluster.
    pub async fn initialize_single(&self, name: &str, address: &str) -> Result<(), StoreError> {
        let shared = &self.shared;
        let peer = Peer {
            name: name.to_owned(),
            address: address.to_owned(),
            incarnation: shared.identity.incarnation,
        };
        let members = BTreeMap::from([(shared.identity.member.0, peer)]);
        match shared.raft.initialize(members).await {
            Ok(()) => {}
            Err(error) if error.api_error().is_some() => {
                let known = shared.outbound.peer(shared.identity.member.0).is_some()
                    || shared.membership().get_node(&shared.identity.member.0).is_some();
                if !known {
                    return Err(StoreError::BadRequest { reason: error.to_string() });
                }
            }
            Err(error) => return Err(StoreError::Fatal { reason: error.to_string() }),
        }
        shared.wait_for_leader(Duration::from_secs(10)).await
    }

    /// The leader as this member knows it; controllers run where it is.
    pub fn leader(&self) -> watch::Receiver<Option<MemberId>> {
        self.shared.leader.subscribe()
    }

    pub fn is_leader(&self) -> bool {
        self.shared.raft.is_leader()
    }

    pub fn member_id(&self) -> MemberId {
        self.shared.identity.member
    }

    /// What this member knows; asks nobody.
    pub fn status(&self) -> StoreStatus {
        self.shared.status()
    }

    /// What this member knows, and of the members what the leader knows, which alone sees
    /// how far behind each one is. Without an answer from the leader within `deadline` it
    /// is the same as [`Store::status`].
    pub async fn status_with_lag(&self, deadline: Duration) -> StoreStatus {
        self.shared.status_with_lag(deadline).await
    }

    /// Waits until the member can no longer serve and says why; never returns while it
    /// can. The program should stop when this returns anything but a shutdown.
    pub async fn failed(&self) -> StoreError {
        let mut health = self.shared.health.subscribe();
        loop {
            if let Err(error) = health.borrow_and_update().check() {
                return error;
            }
            if health.changed().await.is_err() {
                return StoreError::ShuttingDown;
            }
        }
    }

    /// Stops the member and flushes everything.
    pub async fn shutdown(&self) {
        let shared = &self.shared;
        Health::stopping(&shared.health);
        if let Err(error) = shared.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not stop cleanly");
        }
        if let Err(error) = shared.state.flush().await {
            tracing::error!(error = chain(&error), "the last flush failed");
        }
        shared.cancel.cancel();
        shared.tracker.close();
        if tokio::time::timeout(STOP_DEADLINE, shared.tracker.wait()).await.is_err() {
            tracing::warn!("some tasks of the store did not end in time");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Store {
    /// Stops at once and flushes nothing, like a crash of the process.
    pub fn kill(&self) {
        Health::stopping(&self.shared.health);
        self.shared.cancel.cancel();
        if tokio::runtime::Handle::try_current().is_ok() {
            let raft = self.shared.raft.clone();
            self.shared.tracker.spawn(async move {
                // Nobody is left to hear about an unclean end.
                let _ = raft.shutdown().await;
            });
        }
        self.shared.tracker.close();
    }
}

impl Shared {
    fn start_tasks(self: &Arc<Self>) {
        let (state, health) = (self.state.clone(), self.health.clone());
        let cancel = self.cancel.clone();
        self.tracker.spawn(async move {
            if let Err(error) = state.run_flusher(cancel).await {
                state.note(&error);
                Health::failed(&health, &chain(&error));
            }
        });
        let shared = self.clone();
        self.tracker.spawn(async move { shared.follow_raft().await });
        let shared = self.clone();
        self.tracker.spawn(async move { shared.watch_quorum().await });
        let shared = self.clone();
        self.tracker.spawn(async move { shared.announce().await });
        let shared = self.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = shared.cancel.cancelled() => {}
                () = shared.clone().scrub() => {}
                () = shared.clone().follow_damage() => {}
            }
        });
        let shared = self.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = shared.cancel.cancelled() => {}
                () = shared.space.run(&shared.disk) => {}
            }
        });
        let shared = self.clone();
        self.tracker.spawn(async move { shared.run_leases().await });
        let shared = self.clone();
        self.tracker.spawn(async move { shared.run_alarms().await });
        self.tracker.spawn(self.clone().run_modes());
        self.tracker.spawn(self.clone().tell_safe());
        self.tracker.spawn(self.clone().ask_for_promises());
        let (hub, cancel) = (self.hub.clone(), self.cancel.clone());
        self.tracker.spawn(async move { hub.run(cancel).await });
    }

    /// Keeps leader, peers and health as Raft says, until the member stops.
    async fn follow_raft(self: Arc<Self>) {
        let mut metrics = self.raft.metrics();
        let mut health = self.health.subscribe();
        let mut noted = BTreeMap::new();
        let mut led = None;
        loop {
            let (leader, running, peers) = {
                let now = metrics.borrow_and_update();
                let peers = now
                    .membership_config
                    .nodes()
                    .map(|(member, peer)| (*member, peer.clone()))
                    .collect::<BTreeMap<u64, Peer>>();
                (leader_in(&now, self.identity.member), now.running_state.clone(), peers)
            };
            self.outbound.set_peers(peers.clone());
            self.leader.send_if_modified(|known| {
                let changed = *known != leader;
                *known = leader;
                changed
            });
            if leader.is_some() && leader != led {
                self.state.measured.leader_changes.inc();
                led = leader;
            }
            if let Err(error) = running {
                if !self.cancel.is_cancelled() {
                    Health::failed(&self.health, &format!("Raft stopped: {error}"));
                }
                self.leader.send_replace(None);
                return;
            }
            if self.state.is_removed(self.identity.member.0) {
                Health::removed(&self.health);
            }
            if matches!(*health.borrow_and_update(), Health::Forgotten { .. } | Health::Removed) {
                self.raft.runtime_config().elect(false);
            }
            if noted != peers && !peers.is_empty() {
                noted = peers.clone();
                note_peers(&self.disk, peers).await;
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                changed = metrics.changed() => if changed.is_err() { return },
                changed = health.changed() => if changed.is_err() { return },
            }
        }
    }
}
