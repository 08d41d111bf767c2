//! A lab's directory and the record in it of what was made.
//!
//! ```text
//!  D/lab.json         the record, written before the first resource, removed last
//!  D/holdfast         the program as it was at `lab up`
//!  D/forwards.json    ports on 127.0.0.1, written by the daemon
//!  D/kubeconfig       written by `lab env`
//!  D/etcd/            the administrator's certificate for etcd's clients, by `lab env`
//!  D/links.json       what the links between segments do, changed by `lab fault`
//!  D/links-now.json   which of it holds, written by the links' process
//!  D/daemon.log
//!  D/hosts/NAME/root      the host's disk
//!  D/hosts/NAME/init.log  its PID 1's words
//! ```
//!
//! Why so little: what runs is found in the control groups, whose names follow from the
//! directory's path; the record says only what cannot be found out.
//! Invariant: two labs have different directories and so different ids.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::LabError;
use super::layout::{HostPlan, Layout};
use crate::sys::cgroup::Group;
use crate::sys::tree;

/// Written into new records; others are refused.
const FORMAT: u32 = 1;

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) format: u32,
    pub(crate) layout: Layout,
    /// `lab up` made the directory, so `lab down` removes it.
    pub(crate) made_dir: bool,
    #[serde(default)]
    pub(crate) bundle: Option<PathBuf>,
    /// Public key that the bundle is trusted by.
    #[serde(default)]
    pub(crate) trust: Option<PathBuf>,
    /// Nothing is installed by `lab up`, only put there.
    #[serde(default)]
    pub(crate) bare: bool,
    pub(crate) hosts: Vec<HostPlan>,
    pub(crate) group: Group,
}

impl Record {
    pub(crate) fn new(layout: Layout, group: Group, made_dir: bool) -> Self {
        let hosts = layout.hosts();
        Self {
            format: FORMAT,
            layout,
            made_dir,
            bundle: None,
            trust: None,
            bare: false,
            hosts,
            group,
        }
    }
}

/// Ports on 127.0.0.1 that lead into the lab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forwards {
    /// The daemon that serves them.
    pub daemon_pid: u32,
    /// Those that lead to the first host that answers, by service.
    pub any: BTreeMap<String, u16>,
    /// Host, then service (`api`, `registry`, `etcd`).
    pub hosts: BTreeMap<String, BTreeMap<String, u16>>,
}

/// The directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabDir(PathBuf);

impl LabDir {
    /// `path` must exist.
    pub(crate) fn open(path: &Path) -> Result<Self, LabError> {
        let absolute = path.canonicalize();
        absolute
            .map(Self)
            .map_err(|source| LabError::Files { action: "open the lab's directory", source })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Eight hex digits that name this lab's control groups.
    pub(crate) fn id(&self) -> String {
        let digest = Sha256::digest(self.0.as_os_str().as_encoded_bytes());
        hex::encode(&digest[..4])
    }

    /// Name of the control group that everything of this lab is in.
    pub(crate) fn group_name(&self) -> String {
        format!("holdfast-lab-{}", self.id())
    }

    pub(crate) fn record_path(&self) -> PathBuf {
        self.0.join("lab.json")
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.0.join("holdfast")
    }

    pub(crate) fn forwards_path(&self) -> PathBuf {
        self.0.join("forwards.json")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    /// Certificates for etcd's clients.
    pub(crate) fn etcd(&self) -> PathBuf {
        self.0.join("etcd")
    }

    /// What the links between segments shall do.
    pub(crate) fn links(&self) -> PathBuf {
        self.0.join("links.json")
    }

    /// What they do.
    pub(crate) fn links_now(&self) -> PathBuf {
        self.0.join("links-now.json")
    }

    pub(crate) fn daemon_log(&self) -> PathBuf {
        self.0.join("daemon.log")
    }

    pub(crate) fn hosts(&self) -> PathBuf {
        self.0.join("hosts")
    }

    /// The host's disk as the machine sees it.
    pub(crate) fn root(&self, host: &str) -> PathBuf {
        self.hosts().join(host).join("root")
    }

    pub(crate) fn init_log(&self, host: &str) -> PathBuf {
        self.hosts().join(host).join("init.log")
    }

    /// All that a lab puts into its directory, the record last.
    pub(crate) fn contents(&self) -> [PathBuf; 9] {
        [
            self.hosts(),
            self.forwards_path(),
            self.kubeconfig(),
            self.etcd(),
            self.links(),
            self.links_now(),
            self.daemon_log(),
            self.program(),
            self.record_path(),
        ]
    }

    pub(crate) fn write(&self, record: &Record) -> Result<(), LabError> {
        write_json(&self.record_path(), record)
    }

    /// `None` when there is no lab in this directory.
    pub(crate) fn read(&self) -> Result<Option<Record>, LabError> {
        let record: Option<Record> = read_json(&self.record_path())?;
        match record {
            Some(record) if record.format != FORMAT => {
                Err(LabError::Format { path: self.record_path(), found: record.format })
            }
            other => Ok(other),
        }
    }

    pub(crate) fn write_forwards(&self, forwards: &Forwards) -> Result<(), LabError> {
        write_json(&self.forwards_path(), forwards)
    }

    pub(crate) fn read_forwards(&self) -> Result<Option<Forwards>, LabError> {
        read_json(&self.forwards_path())
    }
}

pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), LabError> {
    let text = serde_json::to_vec_pretty(value).expect("records are plain data");
    tree::replace(path, &text, 0o600)
        .map_err(|source| LabError::Files { action: "write the lab's record", source })
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(
    path: &Path,
) -> Result<Option<T>, LabError> {
    let text = tree::read(path)
        .map_err(|source| LabError::Files { action: "read the lab's record", source })?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|source| LabError::Record { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let lab = LabDir::open(dir.path()).unwrap();
        assert_eq!(lab.read().unwrap(), None);
        let group = Group::plan(&lab.group_name()).unwrap();
        let record = Record::new(Layout::Three, group, true);
        lab.write(&record).unwrap();
        assert_eq!(lab.read().unwrap(), Some(record.clone()));
        lab.write(&Record { format: 9, ..record }).unwrap();
        assert!(matches!(lab.read(), Err(LabError::Format { found: 9, .. })));
    }

    #[test]
    fn labs_in_different_directories_have_different_groups() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = |dir: &tempfile::TempDir| LabDir::open(dir.path()).unwrap().group_name();
        assert_ne!(name(&one), name(&two));
        assert_eq!(name(&one), name(&one));
    }
}
