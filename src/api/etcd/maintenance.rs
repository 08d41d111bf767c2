//! The Maintenance service: status, alarms, hashes, defragmentation, snapshots.
//!
//! Invariant: a downgrade is never said to be possible, for there is no older release of
//! the state that could be gone back to.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tonic::{Request, Response, Status};

use super::backend::{Backend, VERSION};
use super::errors::{
    invalid_downgrade_target, no_downgrade_in_flight, status, wrong_downgrade_version,
};
use super::messages::etcdserverpb as pb;
use super::messages::etcdserverpb::maintenance_server::Maintenance;
use super::snapshot::SnapshotBlobs;
use crate::base::ids::MemberId;
use crate::store::admin_api::{Alarm, AlarmKind};

/// The service over the store.
#[derive(Debug)]
pub(super) struct MaintenanceService(pub(super) Arc<Backend>);

fn kind(kind: pb::AlarmType) -> Option<AlarmKind> {
    match kind {
        pb::AlarmType::None => None,
        pb::AlarmType::Nospace => Some(AlarmKind::NoSpace),
        pb::AlarmType::Corrupt => Some(AlarmKind::Corrupt),
    }
}

fn alarm_member(alarm: Alarm) -> pb::AlarmMember {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    };
    pb::AlarmMember { member_id: alarm.member.0, alarm: kind.into() }
}

/// Whether the text has the form of a version, `3.6` or `3.6.0`.
fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    matches!(parts.len(), 2 | 3) && parts.iter().all(|part| part.parse::<u32>().is_ok())
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        use pb::alarm_request::AlarmAction;
        let caller = self.0.known_caller(&request).await?;
        let request = request.into_inner();
        let unknown = |_| Status::invalid_argument("etcdserver: unknown kind of alarm");
        let wanted = kind(pb::AlarmType::try_from(request.alarm).map_err(unknown)?);
        let action = AlarmAction::try_from(request.action).map_err(unknown)?;
        let maintenance = &self.0.store.maintenance;
        let alarms = match (action, wanted) {
            (AlarmAction::Get, wanted) => {
                let standing = maintenance.alarms(&caller).await.map_err(status)?;
                let matches = |alarm: &Alarm| wanted.is_none_or(|wanted| alarm.kind == wanted);
                standing.into_iter().filter(matches).collect()
            }
            (_, None) => Vec::new(),
            (action, Some(kind)) => {
                let alarm = Alarm { member: MemberId(request.member_id), kind };
                let on = action == AlarmAction::Activate;
                maintenance.set_alarm(&caller, alarm, on).await.map_err(status)?
            }
        };
        let alarms = alarms.into_iter().map(alarm_member).collect();
        Ok(Response::new(pb::AlarmResponse { header: self.0.header(), alarms }))
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        self.0.known_caller(&request).await?;
        let own = self.0.store.maintenance.member_status();
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Ok(Response::new(pb::StatusResponse {
            header: self.0.header(),
            version: VERSION.into(),
            db_size: signed(own.db_size_bytes),
            leader: own.leader.map_or(0, |leader| leader.0),
            raft_index: own.raft_index,
            raft_term: own.raft_term,
            raft_applied_index: own.raft_applied_index,
            errors: own.errors,
            db_size_in_use: signed(own.db_size_in_use_bytes),
            is_learner: own.is_learner,
            storage_version: VERSION.into(),
            // The disk is the only bound.
            db_size_quota: 0,
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }))
    }

    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        let caller = self.0.known_caller(&request).await?;
        self.0.store.maintenance.defragment(&caller).await.map_err(status)?;
        Ok(Response::new(pb::DefragmentResponse { header: self.0.header() }))
    }

    async fn hash(
        &self,
        request: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        let caller = self.0.known_caller(&request).await?;
        let (hash, revision) = self.0.store.maintenance.hash(&caller).await.map_err(status)?;
        Ok(Response::new(pb::HashResponse { header: self.0.header_at(revision), hash }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let caller = self.0.known_caller(&request).await?;
        let revision = request.into_inner().revision;
        let made = self.0.store.maintenance.hash_kv(&caller, revision).await.map_err(status)?;
        Ok(Response::new(pb::HashKvResponse {
            header: self.0.header_at(made.revision),
            hash: made.hash,
            compact_revision: made.compact_revision,
            hash_revision: made.hash_revision,
        }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let caller = self.0.known_caller(&request).await?;
        let header = self.0.header();
        let pieces = self.0.store.maintenance.snapshot(&caller).await.map_err(status)?;
        Ok(Response::new(Box::pin(SnapshotBlobs::new(pieces, header).into_stream())))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let caller = self.0.known_caller(&request).await?;
        let to = MemberId(request.into_inner().target_id);
        self.0.store.maintenance.move_leader(&caller, to).await.map_err(status)?;
        Ok(Response::new(pb::MoveLeaderResponse { header: self.0.header() }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        use pb::downgrade_request::DowngradeAction;
        let caller = self.0.known_caller(&request).await?;
        self.0.store.auth.check_admin(&caller).map_err(status)?;
        let request = request.into_inner();
        let unknown = |_| Status::unknown("etcdserver: unknown kind of downgrade action");
        Err(match DowngradeAction::try_from(request.action).map_err(unknown)? {
            DowngradeAction::Cancel => no_downgrade_in_flight(),
            _ if !is_version(&request.version) => wrong_downgrade_version(),
            _ => invalid_downgrade_target(),
        })
    }
}
