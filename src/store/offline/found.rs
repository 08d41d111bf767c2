//! Makes the directory of a new store's first and only member.
//!
//! Used by a restore (a new cluster) and by a recovery (a new generation). The member
//! begins with a state that has applied `log_position` and a log that is purged up to
//! there, just like one that took a snapshot, so that Raft goes on behind it.
//! Invariants: the directory is complete and durable or absent; the store's revision is
//! at least `revision` and everything below counts as compacted, so that a watch or a
//! list from before is told so instead of silently missing what was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::Membership;

use super::error::OfflineError;
use super::stopped::{log_error, state_error};
use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::model::kv::{KeyValue, Revision};
use crate::store::disk::{HostDisk, StoreDisk};
use crate::store::log::{Claim, LogChange, LogFile, SegmentLog};
use crate::store::member::StoreTuning;
use crate::store::runtime::random_u64;
use crate::store::state::{Beginning, StateError, StateRest, begin_state};
use crate::store::types::{LogId, Peer, StoredMembership, Vote};

/// Who the new member is and where its store begins.
#[derive(Clone, Debug)]
pub struct Founding {
    pub cluster: ClusterId,
    pub generation: Generation,
    pub member: MemberId,
    pub name: String,
    /// `host:port` of its peer listener.
    pub address: String,
    /// The newest revision of the new store.
    pub revision: Revision,
    /// Term and index that the log begins behind.
    pub log_position: (u64, u64),
}

/// Makes the directory `path`, which must not exist, and says how many keys it holds.
pub fn found_member(
    path: &Path,
    founding: &Founding,
    rest: &StateRest,
    records: &mut dyn Iterator<Item = Result<KeyValue, StateError>>,
) -> Result<u64, OfflineError> {
    let at = |source| OfflineError::Directory { path: path.to_owned(), source };
    if path.try_exists().map_err(at)? {
        return Err(OfflineError::Occupied { path: path.to_owned() });
    }
    let building = beside(path);
    if building.try_exists().map_err(at)? {
        // What a killed run left; it was never anybody's store.
        std::fs::remove_dir_all(&building).map_err(at)?;
    }
    let disk: Arc<dyn StoreDisk> = Arc::new(HostDisk::new(&building).map_err(at)?);
    let keys = fill(&disk, founding, rest, records, &building)?;
    drop(disk);
    std::fs::rename(&building, path).map_err(at)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(parent.unwrap_or(Path::new(".")))
        .and_then(|dir| dir.sync_all())
        .map_err(at)?;
    Ok(keys)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".building");
    path.with_file_name(name)
}

fn fill(
    disk: &Arc<dyn StoreDisk>,
    founding: &Founding,
    rest: &StateRest,
    records: &mut dyn Iterator<Item = Result<KeyValue, StateError>>,
    path: &Path,
) -> Result<u64, OfflineError> {
    let (term, index) = founding.log_position;
    let vote = Vote::new(term, founding.member.0);
    let position = LogId::new(vote.leader_id, index);
    let incarnation = random_u64().max(1);
    let peer = Peer { name: founding.name.clone(), address: founding.address.clone(), incarnation };
    let member = founding.member.0;
    let membership =
        Membership::new(vec![BTreeSet::from([member])], BTreeMap::from([(member, peer)]))
            .expect("a group of one whose node is named is sound");
    let beginning = Beginning {
        applied: position,
        membership: StoredMembership::new(Some(position), membership),
        revision: founding.revision,
    };
    let rest = StateRest { alarms: rest.alarms_of(founding.member), ..rest.clone() };
    let keys = begin_state(&**disk, &beginning, &rest, records)
        .map_err(|source| state_error(path, source))?;
    let claim = Claim {
        cluster: founding.cluster,
        generation: founding.generation,
        member: founding.member,
    };
    let segment_bytes = StoreTuning::default().segment_bytes;
    let failed = |source| log_error(path, source);
    let (log, _) = SegmentLog::open(disk.clone(), claim, segment_bytes, incarnation, random_u64())
        .map_err(failed)?;
    log.commit(vec![
        LogChange::Vote(vote),
        LogChange::Committed(Some(position)),
        LogChange::Purge(position),
    ])
    .map_err(failed)?;
    Ok(keys)
}
