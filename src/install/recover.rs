//! Makes a new generation from this host's member after the loss of the majority.
//!
//! ```text
//!  node.yaml (old) ─► order written ─► store.next ─► store ► store.generation-N
//!                     ─► store.next ► store ─► generation.json, node.yaml ─► order closed
//! ```
//! Each arrow is durable before the next, and the same command goes on from any of them
//! (`logic/recovery/steps`). The node's service is stopped while it lasts, and does not
//! start while an order is open.
//! Invariants: the old directory stays, renamed; the order, once written, is carried out
//! as it was confirmed, whatever is found later.
//! Not here: who is chosen and what may be lost (`logic/recovery`), the question (`cli`).

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::install::apply::{InstallError, read_config, write_config};
use crate::logic::recovery::{self as logic, Facts, Place, Plan, Step, next_step};
use crate::model::cluster_record::{CLUSTER_KEY, NEXT_MEMBER_KEY, NODES_PREFIX};
use crate::model::kv::{KeyValue, Revision};
use crate::model::node_config::{NodeConfig, Paths};
use crate::model::recovery::{GenerationRecord, LogEnd, MemberSummary, SignedGeneration};
use crate::pki::{Authority, PkiError, is_signed};
use crate::store::snapshot_file::AnySnapshot;
use crate::store::{
    Founding, OfflineError, Replay, StateError, StateRest, StoppedMember, found_member,
};
use crate::sys::files::{self, FileError};

/// What generation records are signed for.
const PURPOSE: &str = "generation";
/// What summaries of survivors are signed for.
const SURVIVOR_PURPOSE: &str = "survivor";
/// Keys that say who the cluster is, and not what it runs.
const OWN_PREFIX: &[u8] = b"/holdfast/";

/// Why a recovery cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Store(#[from] OfflineError),
    #[error("{} cannot be read: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "the directories below {} are not as an interrupted recovery leaves them; nothing was \
         changed: look at store, store.next, store.generation-* and {}", data.display(), order.display()
    )]
    Lost { data: PathBuf, order: PathBuf },
    #[error(
        "this node's cluster has {members} members; a snapshot is restored on a node that is alone, \
         and the others join afterwards"
    )]
    NotAlone { members: usize },
    #[error(
        "the snapshot is of this very cluster ({cluster}), and two histories under one id must \
         not be; make a new cluster with `holdfast init`, or see `holdfast store recover`"
    )]
    SameCluster { cluster: ClusterId },
    #[error(
        "the summary of {name} was not signed by a control node of this cluster, or was changed"
    )]
    NotSigned { name: String },
    #[error("this host's member is {own}, but member {chosen} has most; run this on its host")]
    NotChosen { own: MemberId, chosen: MemberId },
}

/// What was confirmed; written before anything is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    pub record: SignedGeneration,
    from: Generation,
    to: Generation,
    member: MemberId,
    new_member: MemberId,
    address: String,
    revision: Revision,
    fork: LogEnd,
    /// The snapshot that the new store is made of; none takes this member's own data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snapshot: Option<PathBuf>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovered {
    pub generation: Generation,
    pub member: MemberId,
    /// Where the old data is.
    pub kept: PathBuf,
}

/// The order of a recovery, while it is open.
pub fn order_path(paths: &Paths) -> PathBuf {
    paths.config.join("store-recovery.json")
}

fn record_path(paths: &Paths) -> PathBuf {
    paths.config.join("generation.json")
}

fn next_path(paths: &Paths) -> PathBuf {
    paths.data.join("store.next")
}

fn kept_path(paths: &Paths, generation: Generation) -> PathBuf {
    paths.data.join(format!("store.generation-{generation}"))
}

/// The open order, if a recovery was begun and not ended.
pub fn open_order(paths: &Paths) -> Result<Option<Order>, RecoverError> {
    read_json(&order_path(paths))
}

/// The record of this node's generation, if a recovery made it.
pub fn own_record(paths: &Paths) -> Result<Option<SignedGeneration>, RecoverError> {
    read_json(&record_path(paths))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, RecoverError> {
    let Some(bytes) = files::read_if_present(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| RecoverError::Damaged { path: path.to_owned(), reason: error.to_string() })
}

/// Whether the authority of this cluster signed the record.
pub fn is_signed_generation(authority: &str, signed: &SignedGeneration) -> bool {
    is_signed(authority, PURPOSE, &signed.record, &signed.signature)
}

/// What a survivor has, signed with the authority's key that every control node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedSummary {
    pub summary: MemberSummary,
    /// Hexadecimal, over the summary's compact JSON.
    pub signature: String,
}

fn compact(summary: &MemberSummary) -> String {
    serde_json::to_string(summary).expect("a summary has only text keys")
}

impl SignedSummary {
    /// Signs a summary for the way to another host.
    pub fn sign(paths: &Paths, summary: MemberSummary) -> Result<Self, RecoverError> {
        let authority = Authority::load(&paths.pki())?;
        let signature = authority.sign(SURVIVOR_PURPOSE, &compact(&summary))?;
        Ok(Self { summary, signature })
    }

    /// The summary, if a control node of this cluster signed it.
    pub fn verified(self, paths: &Paths) -> Result<MemberSummary, RecoverError> {
        let authority = files::read_text(&paths.pki().join("ca.crt"))?;
        if is_signed(&authority, SURVIVOR_PURPOSE, &compact(&self.summary), &self.signature) {
            return Ok(self.summary);
        }
        Err(RecoverError::NotSigned { name: self.summary.name })
    }
}

/// The order that carries out the plan, for this host's member, which is stopped.
pub fn recovery_order(
    paths: &Paths,
    plan: &Plan,
    own: &MemberSummary,
    reason: &str,
    at: jiff::Timestamp,
) -> Result<Order, RecoverError> {
    if own.member != plan.chosen {
        return Err(RecoverError::NotChosen { own: own.member, chosen: plan.chosen });
    }
    let wanted = Wanted {
        to: plan.to_generation,
        new_member: plan.new_member,
        revision: plan.new_revision,
        snapshot: None,
    };
    order(paths, wanted, own, reason, at)
}

/// The order that gives this node, alone in a cluster of its own, a snapshot's content.
pub fn restore_order(
    paths: &Paths,
    snapshot: &Path,
    leap: Revision,
    own: &MemberSummary,
    at: jiff::Timestamp,
) -> Result<Order, RecoverError> {
    if own.members.len() > 1 {
        return Err(RecoverError::NotAlone { members: own.members.len() });
    }
    let file = open_snapshot(snapshot)?;
    if file.header().cluster == own.cluster {
        return Err(RecoverError::SameCluster { cluster: own.cluster });
    }
    let path = std::path::absolute(snapshot).map_err(|source| FileError {
        action: "name",
        path: snapshot.to_owned(),
        source,
    })?;
    let plan = logic::alone(own);
    let wanted = Wanted {
        to: plan.0,
        new_member: plan.1,
        revision: file.header().revision.max(own.revision) + leap,
        snapshot: Some(path),
    };
    let reason = format!("restored from a snapshot of cluster {}", file.header().cluster);
    order(paths, wanted, own, &reason, at)
}

struct Wanted {
    to: Generation,
    new_member: MemberId,
    revision: Revision,
    snapshot: Option<PathBuf>,
}

fn order(
    paths: &Paths,
    wanted: Wanted,
    own: &MemberSummary,
    reason: &str,
    at: jiff::Timestamp,
) -> Result<Order, RecoverError> {
    let config = read_config(&paths.node_config())?;
    let address = std::net::SocketAddr::new(config.address, config.ports.peer).to_string();
    let earlier = own_record(paths)?.and_then(|signed| signed.parse().ok());
    let older = earlier.map(|record| record.parents).unwrap_or_default();
    let record = GenerationRecord {
        cluster: own.cluster,
        generation: wanted.to,
        parents: std::iter::once(own.generation).chain(older).collect(),
        fork: own.last,
        member: wanted.new_member,
        name: config.node_name.clone(),
        former: own.members.clone(),
        reason: reason.to_owned(),
        at,
    };
    let text = serde_json::to_string(&record).expect("a record has only text keys");
    let signature = Authority::load(&paths.pki())?.sign(PURPOSE, &text)?;
    Ok(Order {
        record: SignedGeneration { record: text, signature },
        from: own.generation,
        to: wanted.to,
        member: own.member,
        new_member: wanted.new_member,
        address,
        revision: wanted.revision,
        fork: own.last,
        snapshot: wanted.snapshot,
    })
}

/// Carries the order out, or goes on with it. The node's service must be stopped.
pub async fn carry_out(
    paths: &Paths,
    order: &Order,
    mut tell: impl FnMut(&str),
) -> Result<Recovered, RecoverError> {
    loop {
        if let Some(done) = step(paths, order, &mut tell).await? {
            return Ok(done);
        }
    }
}

async fn step(
    paths: &Paths,
    order: &Order,
    tell: &mut impl FnMut(&str),
) -> Result<Option<Recovered>, RecoverError> {
    let config = read_config(&paths.node_config())?;
    match next_step(facts(paths, order, &config)?) {
        Step::WriteOrder => {
            files::write_atomic(&order_path(paths), &json(order), 0o600)?;
            tell("the order is written");
        }
        Step::BuildNext => {
            let keys = build_next(paths, order, &config).await?;
            tell(&format!("the new generation's store is built with {keys} keys"));
        }
        Step::SetOldAside => {
            files::rename(&paths.store(), &kept_path(paths, order.from))?;
            tell("the old store is set aside");
        }
        Step::PutInPlace => {
            files::rename(&next_path(paths), &paths.store())?;
            tell("the new store is in its place");
        }
        Step::TellNode => {
            files::write_atomic(&record_path(paths), &json(&order.record), 0o600)?;
            let (generation, member_id) = (order.to, Some(order.new_member));
            write_config(&NodeConfig { generation, member_id, ..config })?;
            tell("the node's configuration names the new generation");
        }
        Step::Close => {
            files::remove_file(&order_path(paths))?;
            tell("the order is closed");
        }
        Step::Done => {
            let kept = kept_path(paths, order.from);
            let (generation, member) = (order.to, order.new_member);
            return Ok(Some(Recovered { generation, member, kept }));
        }
        Step::Lost => {
            let (data, order) = (paths.data.clone(), order_path(paths));
            return Err(RecoverError::Lost { data, order });
        }
    }
    Ok(None)
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("an order has only text keys")
}

fn facts(paths: &Paths, order: &Order, config: &NodeConfig) -> Result<Facts, RecoverError> {
    let place = |path: PathBuf| -> Result<Place, RecoverError> {
        let owner = match StoppedMember::owner(&path) {
            Ok(owner) => owner,
            Err(OfflineError::Empty { .. }) => return Ok(Place::Absent),
            Err(error) => return Err(error.into()),
        };
        if owner == (order.from, order.member) {
            Ok(Place::Old)
        } else if owner == (order.to, order.new_member) {
            Ok(Place::New)
        } else {
            let (data, order) = (paths.data.clone(), order_path(paths));
            Err(RecoverError::Lost { data, order })
        }
    };
    Ok(Facts {
        ordered: open_order(paths)?.is_some(),
        store: place(paths.store())?,
        next: place(next_path(paths))?,
        kept: place(kept_path(paths, order.from))?,
        told: config.generation == order.to && config.member_id == Some(order.new_member),
    })
}

fn open_snapshot(path: &Path) -> Result<AnySnapshot<File>, RecoverError> {
    let file = File::open(path).map_err(|source| FileError {
        action: "open",
        path: path.to_owned(),
        source,
    })?;
    AnySnapshot::open(file).map_err(|source| RecoverError::Store(source.into()))
}

async fn build_next(
    paths: &Paths,
    order: &Order,
    config: &NodeConfig,
) -> Result<u64, RecoverError> {
    let member = StoppedMember::open(&paths.store())?;
    let own = member.live_records(Replay::Everything).await?;
    let founding = Founding {
        cluster: config.cluster_id,
        generation: order.to,
        member: order.new_member,
        name: config.node_name.clone(),
        address: order.address.clone(),
        revision: order.revision,
        log_position: (order.fork.term + 1, order.fork.index + 1),
    };
    let next = next_path(paths);
    let adapt = |record: Result<KeyValue, StateError>| {
        record.map(|kv| renamed(kv, order, &config.node_name))
    };
    let Some(snapshot) = &order.snapshot else {
        let rest = member.rest(Replay::Everything).await?;
        return Ok(found_member(&next, &founding, &rest, &mut own.map(adapt))?);
    };
    // What says who this cluster is stays; everything else comes from the snapshot.
    let is_own = |kv: &KeyValue| kv.key.starts_with(OWN_PREFIX);
    let mut file = open_snapshot(snapshot)?;
    let rest = rest_of_both(&member, file.rest()).await?;
    let theirs = file.records().map_err(OfflineError::from)?;
    let theirs = theirs.filter(|record| record.as_ref().map_or(true, |kv| !is_own(kv)));
    let own = own.filter(|record| record.as_ref().map_or(true, is_own)).map(adapt);
    Ok(found_member(&next, &founding, &rest, &mut own.chain(theirs))?)
}

/// The snapshot's leases, users and alarms, with the leases that this cluster's own keys
/// are attached to.
async fn rest_of_both(
    member: &StoppedMember,
    theirs: &StateRest,
) -> Result<StateRest, RecoverError> {
    let (known, mut rest) = (member.rest(Replay::Everything).await?, theirs.clone());
    for kv in member.live_records(Replay::Everything).await? {
        let kv = kv.map_err(|error| OfflineError::Snapshot(error.into()))?;
        let lease = known.leases.get(&kv.lease).filter(|_| kv.key.starts_with(OWN_PREFIX));
        if let Some(lease) = lease {
            rest.leases.entry(kv.lease).or_insert(*lease);
        }
    }
    rest.alarms.extend(known.alarms);
    Ok(rest)
}

/// Brings what the store says of the cluster itself to the new generation.
fn renamed(mut kv: KeyValue, order: &Order, node: &str) -> KeyValue {
    let own_node = format!("{NODES_PREFIX}{node}");
    let changed = match &kv.key[..] {
        key if key == CLUSTER_KEY.as_bytes() => edit(&kv, |record| {
            record["generation"] = order.to.0.into();
        }),
        key if key == own_node.as_bytes() => edit(&kv, |record| {
            record["memberId"] = order.new_member.0.into();
        }),
        key if key == NEXT_MEMBER_KEY.as_bytes() => edit(&kv, |next| {
            let known = next.as_u64().unwrap_or(0);
            *next = known.max(order.new_member.0 + 1).into();
        }),
        _ => None,
    };
    if let Some(value) = changed {
        kv.value = value.into();
        kv.mod_revision = order.revision;
        kv.version += 1;
    }
    kv
}

fn edit(kv: &KeyValue, change: impl FnOnce(&mut serde_json::Value)) -> Option<Vec<u8>> {
    let mut value = serde_json::from_slice(&kv.value).ok()?;
    change(&mut value);
    serde_json::to_vec(&value).ok()
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
