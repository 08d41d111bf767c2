//! The last words of a lab's hosts and daemon, for a failure to be understood.

use super::Lab;
use super::error::{LabError, files};
use crate::sys::tree;

/// Where the product's services log on a host.
const HOST_LOGS: &str = "var/lib/holdfast/log";

/// The end of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTail {
    /// Host and file, or the daemon.
    pub name: String,
    pub text: String,
}

impl Lab {
    /// The last `lines` of every log that says anything.
    pub fn last_words(&self, lines: usize) -> Result<Vec<LogTail>, LabError> {
        let mut paths = vec![("daemon".to_owned(), self.dir.daemon_log())];
        for host in &self.record.hosts {
            paths.push((format!("{}: PID 1", host.name), self.dir.init_log(&host.name)));
            let dir = self.dir.root(&host.name).join(HOST_LOGS);
            for file in tree::list(&dir).map_err(files("list a host's logs"))? {
                paths.push((format!("{}: {file}", host.name), dir.join(file)));
            }
        }
        let read = |(name, path): (String, std::path::PathBuf)| {
            let text = tree::tail(&path, lines).unwrap_or_default();
            (!text.trim().is_empty()).then_some(LogTail { name, text })
        };
        Ok(paths.into_iter().filter_map(read).collect())
    }
}
