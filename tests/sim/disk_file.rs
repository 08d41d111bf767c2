//! One file of a simulated disk: what its writer sees, what is safe, what is on its way.

use std::collections::VecDeque;

use rand::RngExt;
use rand::rngs::SmallRng;

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

#[derive(Debug, Clone)]
pub(crate) enum Write {
    Data(u64, Vec<u8>),
    Len(u64),
}

fn apply(bytes: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Len(len) => bytes.resize(*len as usize, 0),
        Write::Data(offset, data) => {
            let end = *offset as usize + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset as usize..end].copy_from_slice(data);
        }
    }
}

#[derive(Debug, Default, Clone)]
pub(crate) struct File {
    pub(crate) seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Write>,
    /// On a lying disk: the writes of the last syncs, which are not safe yet.
    promised: VecDeque<Vec<Write>>,
}

impl File {
    /// A file as it was found, all of it safe.
    pub(crate) fn whole(bytes: Vec<u8>) -> Self {
        Self { durable: bytes.clone(), seen: bytes, ..Self::default() }
    }

    pub(crate) fn write(&mut self, write: Write) {
        apply(&mut self.seen, &write);
        self.unsynced.push(write);
    }

    /// Makes safe what is under way, but for the writes of the last `kept_back` syncs.
    pub(crate) fn sync(&mut self, kept_back: usize) {
        self.promised.push_back(std::mem::take(&mut self.unsynced));
        while self.promised.len() > kept_back {
            for write in self.promised.pop_front().unwrap_or_default() {
                apply(&mut self.durable, &write);
            }
        }
    }

    /// The power goes: of what was not safe any part may have reached the disk, in any
    /// order, each write whole, torn at a sector, or not.
    pub(crate) fn lose_power(&mut self, rng: &mut SmallRng) {
        self.promised.clear();
        let luck = rng.random_range(0..4);
        for write in std::mem::take(&mut self.unsynced) {
            match luck {
                1 if rng.random_bool(0.5) => apply(&mut self.durable, &write),
                2 => apply(&mut self.durable, &write),
                3 if rng.random_bool(0.5) => self.tear(&write, rng),
                _ => {}
            }
        }
        self.seen = self.durable.clone();
    }

    fn tear(&mut self, write: &Write, rng: &mut SmallRng) {
        let Write::Data(offset, data) = write else { return apply(&mut self.durable, write) };
        let first = SECTOR - (*offset as usize % SECTOR);
        let mut from = 0;
        while from < data.len() {
            let end = if from == 0 { first } else { from + SECTOR }.min(data.len());
            if rng.random_bool(0.5) {
                let sector = Write::Data(*offset + from as u64, data[from..end].to_vec());
                apply(&mut self.durable, &sector);
            }
            from = end;
        }
    }
}
