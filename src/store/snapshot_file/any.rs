//! A snapshot in either format, told apart by its first bytes.

use std::io::{Read, Seek};

use super::{EtcdSnapshot, SnapshotError, SnapshotFile, SnapshotHeader};
use crate::model::kv::KeyValue;
use crate::store::state::{StateError, StateRest};

/// A snapshot whose hash was found right.
#[derive(Debug)]
pub enum AnySnapshot<F> {
    Own(SnapshotFile<F>),
    Etcd(EtcdSnapshot),
}

/// The live records of a snapshot.
pub type LiveRecords<'a> = Box<dyn Iterator<Item = Result<KeyValue, StateError>> + 'a>;

impl<F: Read + Seek> AnySnapshot<F> {
    /// Reads the whole file once and checks it.
    pub fn open(mut file: F) -> Result<Self, SnapshotError> {
        match SnapshotFile::open(&mut file) {
            Err(SnapshotError::Foreign) => Ok(AnySnapshot::Etcd(EtcdSnapshot::open(file)?)),
            Err(error) => Err(error),
            Ok(_) => Ok(AnySnapshot::Own(SnapshotFile::open(file)?)),
        }
    }

    pub fn header(&self) -> &SnapshotHeader {
        match self {
            AnySnapshot::Own(own) => &own.header,
            AnySnapshot::Etcd(etcd) => &etcd.header,
        }
    }

    /// `holdfast` or `etcd`.
    pub fn format(&self) -> &'static str {
        match self {
            AnySnapshot::Own(_) => "holdfast",
            AnySnapshot::Etcd(_) => "etcd",
        }
    }

    pub fn hash(&self) -> [u8; 32] {
        match self {
            AnySnapshot::Own(own) => own.hash,
            AnySnapshot::Etcd(etcd) => etcd.hash,
        }
    }

    /// Size of the file, bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            AnySnapshot::Own(own) => own.bytes,
            AnySnapshot::Etcd(etcd) => etcd.bytes,
        }
    }

    /// Leases, users and alarms.
    pub fn rest(&self) -> &StateRest {
        match self {
            AnySnapshot::Own(own) => &own.rest,
            AnySnapshot::Etcd(etcd) => &etcd.rest,
        }
    }

    /// Reads all records and counts them.
    pub fn check(&mut self) -> Result<u64, SnapshotError> {
        match self {
            AnySnapshot::Own(own) => own.check(),
            AnySnapshot::Etcd(etcd) => Ok(etcd.header.keys),
        }
    }

    /// The live records, in key order; to be asked for once.
    pub fn records(&mut self) -> Result<LiveRecords<'_>, SnapshotError> {
        Ok(match self {
            AnySnapshot::Own(own) => {
                Box::new(own.records()?.map(|record| record.map_err(StateError::from)))
            }
            AnySnapshot::Etcd(etcd) => Box::new(etcd.take_records().map(Ok)),
        })
    }
}
