//! The log in a redb file, `log.redb`.
//!
//! ```text
//! table entries: index (u64)          → versioned Entry
//! table meta:    "identity"           → versioned Identity
//!                "vote" "committed" "purged" → versioned value
//! ```
//!
//! Why one-phase commits: one fdatasync each; redb's checksums find a torn commit and
//! fall back to the one before. Invariant: `commit` returns only when the batch is on
//! disk.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Claim, LogChange, LogError, LogFile, LogHead};
use crate::base::ids::{BootCount, ClusterId, Generation, MemberId};
use crate::store::codec::{decode, encode};
use crate::store::disk::{StoreDisk, open_database};
use crate::store::types::{Entry, StartNote};

/// The log's file name on the member's disk.
pub(crate) const LOG_FILE: &str = "log.redb";
/// The log is written once and mostly read from memory, so its cache stays small.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// Who this disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) cluster: ClusterId,
    pub(crate) generation: Generation,
    pub(crate) member: MemberId,
    /// Drawn at random when the log was made; another disk under the same member id has
    /// another one.
    pub(crate) incarnation: u64,
    /// How often this disk was started.
    pub(crate) boot: BootCount,
    /// Drawn at random at each start.
    pub(crate) session: u64,
}

impl Identity {
    pub(crate) fn note(&self) -> StartNote {
        StartNote { incarnation: self.incarnation, boot: self.boot, session: self.session }
    }
}

fn access<E: Into<redb::Error>>(action: &'static str) -> impl FnOnce(E) -> LogError {
    move |source| LogError::Access { action, source: source.into() }
}

/// The log over redb.
#[derive(Debug)]
pub(crate) struct RedbLog {
    db: Database,
}

impl RedbLog {
    /// Opens or makes the log, checks whose it is and counts this start. `fresh` is the
    /// incarnation that a new log gets, `session` names this start.
    pub(crate) fn open(
        disk: &dyn StoreDisk,
        claim: Claim,
        fresh: u64,
        session: u64,
    ) -> Result<(Self, Identity), LogError> {
        let db = open_database(disk, LOG_FILE, CACHE_BYTES).map_err(LogError::Open)?;
        let log = Self { db };
        let mut identity = match log.meta::<Identity>("identity")? {
            Some(found) => {
                check("cluster", found.cluster, claim.cluster)?;
                check("generation", found.generation, claim.generation)?;
                check("member", found.member, claim.member)?;
                found
            }
            None => Identity {
                cluster: claim.cluster,
                generation: claim.generation,
                member: claim.member,
                incarnation: fresh.max(1),
                boot: BootCount(0),
                session,
            },
        };
        identity.session = session.max(1);
        identity.boot.0 += 1;
        let txn = log.db.begin_write().map_err(access("begin a write to"))?;
        {
            txn.open_table(ENTRIES).map_err(access("open the entries of"))?;
            let mut meta = txn.open_table(META).map_err(access("open the marks of"))?;
            meta.insert("identity", &encode(&identity)[..]).map_err(access("write to"))?;
        }
        txn.commit().map_err(access("count the start in"))?;
        Ok((log, identity))
    }

    fn meta<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, LogError> {
        let txn = self.db.begin_read().map_err(access("begin a read of"))?;
        let table = match txn.open_table(META) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(access("open the marks of")(error)),
        };
        let record = table.get(name).map_err(access("read"))?;
        record
            .map(|bytes| decode(bytes.value()))
            .transpose()
            .map_err(|source| LogError::Decode { what: name.to_owned(), source })
    }
}

fn check<T: PartialEq + ToString>(
    what: &'static str,
    found: T,
    expected: T,
) -> Result<(), LogError> {
    if found == expected {
        return Ok(());
    }
    Err(LogError::Foreign { what, found: found.to_string(), expected: expected.to_string() })
}

fn entry(index: u64, bytes: &[u8]) -> Result<Entry, LogError> {
    decode(bytes).map_err(|source| LogError::Decode { what: format!("entry {index}"), source })
}

impl LogFile for RedbLog {
    fn head(&self) -> Result<LogHead, LogError> {
        let purged = self.meta("purged")?;
        let txn = self.db.begin_read().map_err(access("begin a read of"))?;
        let table = txn.open_table(ENTRIES).map_err(access("open the entries of"))?;
        let last = match table.last().map_err(access("read"))? {
            Some((index, bytes)) => Some(entry(index.value(), bytes.value())?.log_id),
            None => purged,
        };
        Ok(LogHead { vote: self.meta("vote")?, committed: self.meta("committed")?, purged, last })
    }

    fn commit(&self, changes: &[LogChange]) -> Result<(), LogError> {
        let txn = self.db.begin_write().map_err(access("begin a write to"))?;
        {
            let mut entries = txn.open_table(ENTRIES).map_err(access("open the entries of"))?;
            let mut meta = txn.open_table(META).map_err(access("open the marks of"))?;
            for change in changes {
                match change {
                    LogChange::Append { index, record } => {
                        entries.insert(index, &record[..]).map_err(access("append to"))?;
                    }
                    LogChange::TruncateFrom(from) => {
                        entries.retain_in(*from.., |_, _| false).map_err(access("truncate"))?;
                    }
                    LogChange::Purge(upto) => {
                        entries.retain_in(..=upto.index, |_, _| false).map_err(access("purge"))?;
                        meta.insert("purged", &encode(upto)[..]).map_err(access("write to"))?;
                    }
                    LogChange::Vote(vote) => {
                        meta.insert("vote", &encode(vote)[..]).map_err(access("write to"))?;
                    }
                    LogChange::Committed(committed) => {
                        if let Some(mark) = committed {
                            meta.insert("committed", &encode(mark)[..])
                                .map_err(access("write to"))?;
                        } else {
                            meta.remove("committed").map_err(access("write to"))?;
                        }
                    }
                }
            }
        }
        txn.commit().map_err(access("commit to"))
    }

    fn read(&self, from: u64, to: u64) -> Result<Vec<Entry>, LogError> {
        let txn = self.db.begin_read().map_err(access("begin a read of"))?;
        let table = txn.open_table(ENTRIES).map_err(access("open the entries of"))?;
        let mut found = Vec::new();
        for row in table.range(from..to).map_err(access("read"))? {
            let (index, bytes) = row.map_err(access("read"))?;
            found.push(entry(index.value(), bytes.value())?);
        }
        Ok(found)
    }
}
