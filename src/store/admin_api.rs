//! What etcd's clients may ask of the store beside keys: leases, users, upkeep, members.
//!
//! Not here: keys and watches, errors (`api`).

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::api::StoreError;
use super::measured::Measured;
use crate::base::ids::MemberId;
use crate::model::auth::{AuthChange, AuthInfo, AuthStatus, Caller, Permission};
use crate::model::kv::Revision;
use crate::model::lease::{LeaseGranted, LeaseId, LeaseTimeToLive};

/// Leases; the same on every member, wherever the leader is.
#[async_trait]
pub trait Leases: Send + Sync + std::fmt::Debug + 'static {
    /// Grants a lease of `ttl_s` seconds; `id` 0 lets the store choose one.
    async fn lease_grant(
        &self,
        caller: &Caller,
        id: LeaseId,
        ttl_s: i64,
    ) -> Result<LeaseGranted, StoreError>;

    /// Ends a lease and deletes its keys in one revision, which is the answer.
    async fn lease_revoke(&self, caller: &Caller, id: LeaseId) -> Result<Revision, StoreError>;

    /// Renews a lease; answers the seconds it then has. `LeaseNotFound` if it is gone,
    /// which etcd's protocol tells as a time to live of 0.
    async fn lease_keep_alive(&self, caller: &Caller, id: LeaseId) -> Result<i64, StoreError>;

    /// How long a lease has; one that is gone is an answer, not an error.
    async fn lease_time_to_live(
        &self,
        caller: &Caller,
        id: LeaseId,
        keys: bool,
    ) -> Result<LeaseTimeToLive, StoreError>;

    /// All leases, in no particular order.
    async fn leases(&self, caller: &Caller) -> Result<Vec<LeaseId>, StoreError>;
}

/// Users and roles.
#[async_trait]
pub trait Auth: Send + Sync + std::fmt::Debug + 'static {
    async fn auth_status(&self, caller: &Caller) -> Result<AuthStatus, StoreError>;

    /// Whether callers must be named, as this member knows it; cheap.
    fn auth_enabled(&self) -> bool;

    /// Makes one change; etcd's rules say who may.
    async fn auth_change(&self, caller: &Caller, change: AuthChange) -> Result<(), StoreError>;

    /// Checks a password and answers a token for [`Auth::caller_of_token`].
    async fn authenticate(&self, name: &str, password: &str) -> Result<String, StoreError>;

    /// Who a token stands for; `InvalidAuthToken` if nobody. It waits a little for a token
    /// that another member gave a moment ago. With authentication off anybody is
    /// [`Caller::Anonymous`].
    async fn caller_of_token(&self, token: &str) -> Result<Caller, StoreError>;

    /// Who a client certificate's common name stands for, [`Caller::Anonymous`] if there
    /// is no such user or authentication is off.
    fn caller_of_certificate(&self, common_name: &str) -> Caller;

    /// A user's roles.
    async fn user(&self, caller: &Caller, name: &str) -> Result<Vec<String>, StoreError>;

    async fn users(&self, caller: &Caller) -> Result<Vec<String>, StoreError>;

    async fn role(&self, caller: &Caller, name: &str) -> Result<Vec<Permission>, StoreError>;

    async fn roles(&self, caller: &Caller) -> Result<Vec<String>, StoreError>;

    /// Refuses unless the caller may administer the cluster (etcd's root role).
    fn check_admin(&self, caller: &Caller) -> Result<(), StoreError>;

    /// Refuses unless the caller is a user, where authentication is enabled.
    fn check_known(&self, caller: &Caller) -> Result<(), StoreError>;

    /// The caller's name at this moment's permissions, where it has one.
    fn auth_info(&self, caller: &Caller) -> Option<AuthInfo>;
}

/// What went wrong at some member, as etcd names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AlarmKind {
    NoSpace,
    Corrupt,
}

/// One alarm of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Alarm {
    pub member: MemberId,
    pub kind: AlarmKind,
}

/// A hash of the history up to a revision, equal to etcd's for the same history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryHash {
    pub hash: u32,
    /// What was hashed up to.
    pub hash_revision: Revision,
    /// -1 if nothing was ever compacted, as etcd says it.
    pub compact_revision: Revision,
    /// The member's newest revision.
    pub revision: Revision,
}

/// What a member says of itself to `Status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Bytes of the state file, and what of them is in use.
    pub db_size_bytes: u64,
    pub db_size_in_use_bytes: u64,
    pub leader: Option<MemberId>,
    pub raft_term: u64,
    /// Last committed log index known here, and the last applied one.
    pub raft_index: u64,
    pub raft_applied_index: u64,
    pub is_learner: bool,
    /// In words; empty if nothing is wrong.
    pub errors: Vec<String>,
}

/// Upkeep of this member.
#[async_trait]
pub trait Maintenance: Send + Sync + std::fmt::Debug + 'static {
    fn member_status(&self) -> MemberStatus;

    /// What this member has measured since its start.
    fn measured(&self) -> Measured;

    /// The alarms that stand at any member.
    async fn alarms(&self, caller: &Caller) -> Result<Vec<Alarm>, StoreError>;

    /// Raises or clears one alarm; the answer is what was changed.
    async fn set_alarm(
        &self,
        caller: &Caller,
        alarm: Alarm,
        on: bool,
    ) -> Result<Vec<Alarm>, StoreError>;

    /// A hash of all that this member's state holds, for comparing members at one applied
    /// index only.
    async fn hash(&self, caller: &Caller) -> Result<(u32, Revision), StoreError>;

    /// etcd's HashKV; `revision` 0 is the newest.
    async fn hash_kv(&self, caller: &Caller, revision: Revision)
    -> Result<HistoryHash, StoreError>;

    /// Hands the lead to another voter; only asked of the leader.
    async fn move_leader(&self, caller: &Caller, to: MemberId) -> Result<(), StoreError>;

    /// Gives unused space of this member's files back to the disk.
    async fn defragment(&self, caller: &Caller) -> Result<(), StoreError>;

    /// The state at one moment as etcd's database file (`src/docs/recovery.md`), not older
    /// than this call. A piece that is an error is the last one.
    async fn snapshot(
        &self,
        caller: &Caller,
    ) -> Result<mpsc::Receiver<Result<Bytes, StoreError>>, StoreError>;
}

/// One member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterMember {
    pub id: MemberId,
    pub name: String,
    /// `host:port` of the peer listener.
    pub address: String,
    pub is_learner: bool,
}

/// Who belongs to the cluster.
#[async_trait]
pub trait ClusterAdmin: Send + Sync + std::fmt::Debug + 'static {
    /// The members; with `linearizable` as of now, else as this member knows them.
    async fn members(&self, linearizable: bool) -> Result<Vec<ClusterMember>, StoreError>;

    /// Adds a member under an id that was never used. It starts as a learner. One that
    /// shall vote is promoted by the store itself once it runs and has caught up.
    async fn member_add(
        &self,
        caller: &Caller,
        address: &str,
        learner: bool,
    ) -> Result<ClusterMember, StoreError>;

    /// Lets a learner vote.
    async fn member_promote(&self, caller: &Caller, id: MemberId) -> Result<(), StoreError>;

    /// Changes a member's address.
    async fn member_update(
        &self,
        caller: &Caller,
        id: MemberId,
        address: &str,
    ) -> Result<(), StoreError>;

    /// Removes a member for good.
    async fn member_remove(&self, caller: &Caller, id: MemberId) -> Result<(), StoreError>;
}
