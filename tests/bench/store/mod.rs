//! Our store beside Debian's etcd: three members each, the same disk, the same clients.
//!
//! Each group of figures is taken from a fresh cluster of ours and then from a fresh one of
//! etcd's, so that neither runs while the other is measured.

mod figures;
mod load;
#[path = "../../members/mod.rs"]
#[expect(dead_code, reason = "it serves the kills, too")]
pub(crate) mod members;
mod requests;
mod size;
mod trouble;
mod watches;

use std::path::Path;

use figures::{Figure, Pair};
use members::clusters::{self, Cluster, Kind};

/// Measures everything, or the groups of these names, and prints the table.
pub(crate) fn measure(names: &[&str]) -> Result<(), anyhow::Error> {
    holdfast::sys::tls::install_crypto();
    anyhow::ensure!(clusters::etcd().is_file(), "etcd is not here; run .ci/install-test");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        figures::print_head();
        for (name, group) in GROUPS {
            if !names.is_empty() && !names.contains(&name) {
                continue;
            }
            group.measure().await?;
        }
        Ok(())
    })
}

/// Figures that are taken from one cluster, one after another.
#[derive(Debug, Clone, Copy)]
enum Group {
    Puts,
    Reads,
    Watches,
    Trouble,
    Size,
}

const GROUPS: [(&str, Group); 5] = [
    ("puts", Group::Puts),
    ("reads", Group::Reads),
    ("watches", Group::Watches),
    ("trouble", Group::Trouble),
    ("size", Group::Size),
];

impl Group {
    async fn measure(self) -> Result<(), anyhow::Error> {
        let ours = self.measure_one(Kind::Ours).await?;
        let theirs = self.measure_one(Kind::Etcd).await?;
        for (ours, theirs) in ours.into_iter().zip(theirs) {
            figures::print(&Pair { ours, theirs });
        }
        Ok(())
    }

    async fn measure_one(self, kind: Kind) -> Result<Vec<Figure>, anyhow::Error> {
        // Beside the build, so on a disk and not in memory.
        let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("store-bench");
        let mut cluster = Cluster::start(kind, &base).await?;
        let measured = match self {
            Self::Puts => requests::puts(&cluster).await,
            Self::Reads => requests::reads(&cluster).await,
            Self::Watches => watches::measure(&cluster).await,
            Self::Trouble => trouble::measure(&mut cluster).await,
            Self::Size => size::measure(&mut cluster).await,
        };
        measured.map_err(|error| error.context(format!("members say: {}", cluster.last_words())))
    }
}
