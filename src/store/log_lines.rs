//! What a member's log holds, for comparing it with others'.

use serde::Serialize;

use super::api::StoreError;
use super::codec::encode;
use super::disk::run_on;
use super::member::Store;
use crate::base::chain::chain;

/// One entry of a log. Where two logs hold one of the same index and term, the entries and
/// all before them are the same (Raft, section 5.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    pub index: u64,
    pub term: u64,
    /// CRC-32C of the whole entry, its payload included.
    pub checksum: u32,
}

impl Store {
    /// The entries that are on this member's disk.
    pub async fn log_lines(&self) -> Result<Vec<LogLine>, StoreError> {
        let failed = |reason: String| StoreError::Fatal { reason };
        let log = self.shared.log.clone();
        let read = move || {
            let head = log.head()?;
            let first = head.purged.map_or(0, |purged| purged.index + 1);
            log.read(first, head.last.map_or(0, |last| last.index) + 1)
        };
        let entries = run_on(&*self.shared.disk, read).await;
        let entries =
            entries.map_err(|error| failed(chain(&error)))?.map_err(|e| failed(chain(&e)))?;
        let line = |entry: &super::types::Entry| LogLine {
            index: entry.log_id.index,
            term: entry.log_id.committed_leader_id().term,
            checksum: crc32c::crc32c(&encode(entry)),
        };
        Ok(entries.iter().map(line).collect())
    }
}
