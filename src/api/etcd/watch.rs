//! The Watch service: several watches share one stream.
//!
//! ```text
//!  client ── create, cancel, progress ──► Session ──► the store's WatchStream
//!  client ◄── created, events, canceled ── Session ◄── items, each with its watch's id
//! ```
//! Why the session is polled by its answer's stream and is no task of its own: a client
//! that reads slowly slows only itself, and one that goes away takes everything with it.
//!
//! Invariants: `created` comes before a watch's first event; nothing comes after
//! `canceled`; a client's end of requests does not end the watches.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::{Request, Response, Status, Streaming};

use super::backend::Backend;
use super::errors::{cancel_reason, refused, status};
use super::fragment::{FRAGMENT_BYTES, fragments};
use super::messages::etcdserverpb as pb;
use super::messages::etcdserverpb::watch_request::RequestUnion;
use super::messages::etcdserverpb::watch_server::Watch;
use super::wire;
use crate::model::kv::{WatchItem, WatchRequest};
use crate::model::refusal::Refusal;
use crate::store::WatchStream;
use crate::store::api::WHOLE_STREAM;

/// How often a stream whose client asked for a leader looks whether there is one.
const LEADER_CHECK: Duration = Duration::from_millis(500);
/// How long there may be none: an election must not end every watch.
const LEADERLESS: Duration = Duration::from_secs(3);
/// The id of a watch that could not be made, and of what is about the whole stream.
const NO_WATCH: i64 = -1;

/// The service over the store.
#[derive(Debug)]
pub(super) struct WatchService(pub(super) Arc<Backend>);

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = self.0.caller(&request).await?;
        let asks = request.metadata().get("hasleader");
        let needs_leader = asks.is_some_and(|value| value.as_bytes() == b"true");
        let feed = self.0.store.kv.watch_stream(&caller).await.map_err(status)?;
        let session = Session::new(self.0.clone(), request.into_inner(), feed, needs_leader);
        let answers = futures::stream::unfold(Some(session), |session| async move {
            let mut session = session?;
            match session.next().await {
                Ok(answer) => Some((Ok(answer), Some(session))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

struct Session {
    backend: Arc<Backend>,
    /// `None` once the client has said all it will say.
    requests: Option<Streaming<pb::WatchRequest>>,
    feed: Box<dyn WatchStream>,
    /// The running watches, and whether each may be answered in fragments.
    watches: HashMap<i64, bool>,
    next_id: i64,
    answers: VecDeque<pb::WatchResponse>,
    /// Looks for the leader, where the client asked for one.
    leader: Option<LeaderCheck>,
}

struct LeaderCheck {
    tick: Interval,
    seen: Instant,
}

impl LeaderCheck {
    fn new() -> Self {
        let mut tick = tokio::time::interval(LEADER_CHECK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { tick, seen: Instant::now() }
    }

    /// Returns once there was no leader for too long.
    async fn lost(&mut self, backend: &Backend) {
        loop {
            self.tick.tick().await;
            if backend.has_leader() {
                self.seen = Instant::now();
            } else if self.seen.elapsed() >= LEADERLESS {
                return;
            }
        }
    }
}

async fn lost(check: &mut Option<LeaderCheck>, backend: &Backend) {
    match check {
        Some(check) => check.lost(backend).await,
        None => std::future::pending().await,
    }
}

async fn heard(
    requests: &mut Option<Streaming<pb::WatchRequest>>,
) -> Option<Result<pb::WatchRequest, Status>> {
    match requests {
        Some(requests) => requests.next().await,
        None => std::future::pending().await,
    }
}

impl Session {
    fn new(
        backend: Arc<Backend>,
        requests: Streaming<pb::WatchRequest>,
        feed: Box<dyn WatchStream>,
        needs_leader: bool,
    ) -> Self {
        let leader = needs_leader.then(LeaderCheck::new);
        Self {
            backend,
            requests: Some(requests),
            feed,
            watches: HashMap::new(),
            next_id: 0,
            answers: VecDeque::new(),
            leader,
        }
    }

    /// The next answer; an error ends the stream.
    async fn next(&mut self) -> Result<pb::WatchResponse, Status> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Ok(answer);
            }
            tokio::select! {
                // What the client asks comes first: a cancellation stops what follows.
                biased;
                request = heard(&mut self.requests) => match request {
                    Some(request) => self.request(request?).await?,
                    None => self.requests = None,
                },
                item = self.feed.next() => match item {
                    Some((id, item)) => self.item(id, item),
                    None => return Err(refused(Refusal::Stopped)),
                },
                () = lost(&mut self.leader, &self.backend) => {
                    return Err(refused(Refusal::NoLeader));
                }
                () = self.backend.cancel.cancelled() => return Err(refused(Refusal::Stopped)),
            }
        }
    }

    async fn request(&mut self, request: pb::WatchRequest) -> Result<(), Status> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
            Some(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id })) => {
                if self.watches.remove(&watch_id).is_some() && self.feed.cancel(watch_id) {
                    self.answers.push_back(pb::WatchResponse {
                        header: self.backend.header(),
                        watch_id,
                        canceled: true,
                        ..pb::WatchResponse::default()
                    });
                }
                Ok(())
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                self.feed.request_progress();
                Ok(())
            }
            // A kind of a later version of the protocol; etcd passes over it too.
            None => Ok(()),
        }
    }

    async fn create(&mut self, create: pb::WatchCreateRequest) -> Result<(), Status> {
        let header = self.backend.header();
        let not_made = |reason: String| pb::WatchResponse {
            header,
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason: reason,
            ..pb::WatchResponse::default()
        };
        if create.start_revision < 0 {
            self.answers.push_back(not_made(Refusal::Compacted.text().into()));
            return Ok(());
        }
        let Some(id) = self.id_for(create.watch_id) else {
            let reason = "mvcc: duplicate watch ID provided on the WatchStream";
            self.answers.push_back(not_made(reason.into()));
            return Ok(());
        };
        let (fragment, own_choice) = (create.fragment, create.watch_id == 0);
        let wanted = watch_request(create, header.map_or(0, |header| header.revision));
        let bounded = !wanted.range_end.is_empty() && wanted.range_end[..] != [0];
        if bounded && wanted.key >= wanted.range_end {
            self.answers.push_back(not_made("mvcc: watcher range is empty".into()));
            return Ok(());
        }
        match self.feed.add(id, wanted).await {
            Ok(()) => {
                self.watches.insert(id, fragment);
                if own_choice {
                    self.next_id = id + 1;
                }
                self.answers.push_back(pb::WatchResponse {
                    header,
                    watch_id: id,
                    created: true,
                    ..pb::WatchResponse::default()
                });
            }
            Err(error) => self.answers.push_back(not_made(cancel_reason(error))),
        }
        Ok(())
    }

    /// The id a new watch gets; `None` if the client's own is taken. An id is used up only
    /// by a watch that is made.
    fn id_for(&self, wanted: i64) -> Option<i64> {
        let free = |id: &i64| !self.watches.contains_key(id);
        if wanted == 0 { (self.next_id..).find(free) } else { Some(wanted).filter(free) }
    }

    fn item(&mut self, id: i64, item: WatchItem) {
        match item {
            WatchItem::Events { revision, events } => {
                let Some(fragment) = self.watches.get(&id).copied() else { return };
                let answer = pb::WatchResponse {
                    header: self.backend.header_at(revision),
                    watch_id: id,
                    events: events.into_iter().map(wire::event).collect(),
                    ..pb::WatchResponse::default()
                };
                if fragment {
                    self.answers.extend(fragments(answer, FRAGMENT_BYTES));
                } else {
                    self.answers.push_back(answer);
                }
            }
            WatchItem::Progress(revision) => {
                if id == WHOLE_STREAM || self.watches.contains_key(&id) {
                    self.answers.push_back(pb::WatchResponse {
                        header: self.backend.header_at(revision),
                        watch_id: if id == WHOLE_STREAM { NO_WATCH } else { id },
                        ..pb::WatchResponse::default()
                    });
                }
            }
            WatchItem::Compacted { compact_revision } => {
                if self.watches.remove(&id).is_some() {
                    self.feed.cancel(id);
                    self.answers.push_back(pb::WatchResponse {
                        // Of no revision: there is none up to which this watch saw all.
                        header: self.backend.header_at(0),
                        watch_id: id,
                        canceled: true,
                        compact_revision,
                        ..pb::WatchResponse::default()
                    });
                }
            }
        }
    }
}

/// The store's request. "From now on" becomes "after the revision that `created` names",
/// so that a client that reconnects with it misses nothing.
fn watch_request(create: pb::WatchCreateRequest, newest: i64) -> WatchRequest {
    use pb::watch_create_request::FilterType;
    let filters = |kind: FilterType| create.filters.contains(&kind.into());
    let start_revision =
        if create.start_revision == 0 { newest + 1 } else { create.start_revision };
    WatchRequest {
        no_put: filters(FilterType::Noput),
        no_delete: filters(FilterType::Nodelete),
        // The smallest key, as in etcd.
        key: if create.key.is_empty() { bytes::Bytes::from_static(&[0]) } else { create.key },
        range_end: create.range_end,
        start_revision,
        prev_kv: create.prev_kv,
        progress_notify: create.progress_notify,
    }
}
