//! openraft's log traits over [`LogStore`].
//!
//! Invariant: an entry can be read as soon as `append` returns, durable or not.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};

use super::LogChange;
use super::owner::{Done, LogStore, LogWrite};
use crate::base::chain::chain;
use crate::model::kv::{Op, TxnRequest};
use crate::store::codec::encode;
use crate::store::disk::run_on;
use crate::store::types::{Command, Entry, LogId, TypeConfig, Vote};

/// Most bytes of entries in one replication message, beyond which no further is added.
const MESSAGE_BYTES: usize = 1024 * 1024;

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => *index + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => *index + 1,
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        if from >= to {
            return Ok(Vec::new());
        }
        let (recent, disk_to) = {
            let memory = self.memory();
            let first = memory.recent.first_key_value().map_or(u64::MAX, |(index, _)| *index);
            let entries: Vec<Entry> =
                memory.recent.range(from..to).map(|(_, entry)| entry.clone()).collect();
            (entries, first.min(to))
        };
        if from >= disk_to {
            return Ok(recent);
        }
        // What is not in memory is durable, so the file has it.
        let file = self.file.clone();
        let mut entries = run_on(&*self.disk, move || file.read(from, disk_to))
            .await?
            .map_err(|error| io::Error::other(chain(&error)))?;
        entries.extend(recent);
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.memory().vote)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let mut entries = self.try_get_log_entries(start..end).await?;
        let mut bytes = 0;
        let fits = entries
            .iter()
            .take_while(|entry| {
                let room = bytes < MESSAGE_BYTES;
                bytes += weight(entry);
                room
            })
            .count();
        entries.truncate(fits);
        Ok(entries)
    }
}

/// About how many bytes an entry takes in a message.
fn weight(entry: &Entry) -> usize {
    let EntryPayload::Normal(Command::Txn { request, .. }) = &entry.payload else { return 64 };
    txn_weight(request)
}

fn txn_weight(request: &TxnRequest) -> usize {
    let ops = request.success.iter().chain(&request.failure).map(|op| match op {
        Op::Put(put) => put.key.len() + put.value.len(),
        Op::Txn(nested) => txn_weight(nested),
        Op::Range(_) | Op::DeleteRange(_) => 64,
    });
    64 + 64 * request.compare.len() + ops.sum::<usize>()
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let memory = self.memory();
        Ok(LogState { last_purged_log_id: memory.purged, last_log_id: memory.last })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.write(vec![LogChange::Vote(*vote)]).await?;
        self.memory().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.memory().committed = committed;
        let changes = vec![LogChange::Committed(committed)];
        self.submit(LogWrite { changes, done: Done::Nobody }).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.memory().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut changes = Vec::new();
        {
            let mut memory = self.memory();
            for entry in entries {
                let index = entry.log_id.index;
                self.starts.note(&entry);
                changes.push(LogChange::Append { index, record: encode(&entry).into() });
                memory.last = Some(entry.log_id);
                memory.recent.insert(index, entry);
            }
        }
        self.submit(LogWrite { changes, done: Done::Raft(callback) }).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let from = last_log_id.map_or(0, |last| last.index + 1);
        self.starts.truncate_from(from);
        {
            let mut memory = self.memory();
            memory.recent.split_off(&from);
            memory.last = last_log_id;
        }
        self.write(vec![LogChange::TruncateFrom(from)]).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        {
            let mut memory = self.memory();
            memory.recent = memory.recent.split_off(&(upto.index + 1));
            memory.purged = memory.purged.max(Some(upto));
            memory.last = memory.last.max(Some(upto));
        }
        self.starts.purge(upto.index);
        // Raft does nothing else while it waits here, and a leader whose disk is slow would
        // fall silent. What a crash brings back of a purge is only purged again.
        let changes = vec![LogChange::Purge(upto)];
        self.submit(LogWrite { changes, done: Done::Nobody }).await
    }
}
