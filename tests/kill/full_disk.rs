//! A member on a file system that is really full, in a mount namespace of its own: clients
//! are told, the others go on, and with space it is back without anybody's hand.
//!
//! Needs root; prints SKIPPED without. The member is started again whenever it ends, as a
//! service manager does.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;

use holdfast::store::StoppedMember;

use crate::members::client::Connection;
use crate::members::clusters::{Cluster, Kind};

/// The member that is short of space.
const SHORT: usize = 2;
const PATIENCE: Duration = Duration::from_secs(90);
/// More than the reserve and what a small store takes.
const SIZE: &str = "256m";

/// A mount namespace with a small file system; ends with this.
struct SmallFileSystem {
    holder: Child,
}

impl SmallFileSystem {
    fn mount(at: &Path) -> Result<Self, anyhow::Error> {
        fs::create_dir_all(at)?;
        let script = format!(
            "mount -t tmpfs -o size={SIZE} tmpfs '{}' && echo mounted && read _",
            at.display()
        );
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = [0; 8];
        let out = holder.stdout.as_mut().context("its output is ours")?;
        std::io::Read::read_exact(out, &mut said).context("the file system was not mounted")?;
        Ok(Self { holder })
    }

    /// The namespace's file at this path, as seen from here.
    fn seen(&self, path: &Path) -> PathBuf {
        let root = format!("/proc/{}/root", self.holder.id());
        Path::new(&root).join(path.strip_prefix("/").unwrap_or(path))
    }

    fn enter(&self) -> Vec<String> {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.holder.id());
        vec!["nsenter".into(), namespace, "--".into()]
    }

    /// Fills it to the last byte.
    fn fill(&self, at: &Path) -> Result<PathBuf, anyhow::Error> {
        let path = self.seen(&at.join("filler"));
        let mut file = File::create(&path)?;
        let piece = vec![1; 64 * 1024];
        for bytes in [piece.len(), 1] {
            while let Ok(written) = file.write(&piece[..bytes]) {
                ensure!(written > 0, "a write wrote nothing");
            }
        }
        Ok(path)
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        // It may have ended with what killed this test.
        let _gone = self.holder.kill();
        let _gone = self.holder.wait();
    }
}

pub(crate) fn run() -> Result<(), anyhow::Error> {
    let root = fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own));
    if root? != 0 {
        println!("SKIPPED a full file system needs root");
        return Ok(());
    }
    holdfast::sys::tls::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(fill_and_free())
}

async fn fill_and_free() -> Result<(), anyhow::Error> {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kills");
    let mut small = None;
    let mut cluster = Cluster::start_with(Kind::Ours, &base, |index, folder| {
        if index != SHORT {
            return Ok(Vec::new());
        }
        let mounted = small.insert(SmallFileSystem::mount(&folder.join("store"))?);
        Ok(mounted.enter())
    })
    .await?;
    let small = small.context("it was mounted")?;
    let store = cluster.store_folder(SHORT);
    let others = [cluster.connect(0).await?, cluster.connect(1).await?];
    for number in 0..200 {
        others[number % 2].put(key(number), vec![7; 2_000].into()).await?;
    }
    let filler = small.fill(&store)?;
    let refused = until(&mut cluster, &others, "refused", |put| put.is_err()).await?;
    let text = refused.err().map(|status| status.message().to_owned()).unwrap_or_default();
    ensure!(text.contains("database space exceeded"), "{text}");
    // Reads, deletions and compaction go on, whatever becomes of the full member.
    let mut revision = 0;
    for number in 0..100 {
        let connection = &others[number % 2];
        revision = connection.delete(key(number)).await?;
        ensure!(connection.get(key(number + 100)).await?.is_some(), "a read failed");
        restart(&mut cluster)?;
    }
    others[0].compact(revision).await?;
    fs::remove_file(filler)?;
    until(&mut cluster, &others, "accepted again", |put| put.is_ok()).await??;
    let started = Instant::now();
    loop {
        restart(&mut cluster)?;
        let level = tokio::time::timeout(Duration::from_secs(5), cluster.wait_until_level()).await;
        if matches!(level, Ok(Ok(()))) {
            break;
        }
        ensure!(started.elapsed() < PATIENCE, "the member that was full stays behind");
    }
    let connection = cluster.connect(SHORT).await?;
    ensure!(connection.get(key(0)).await?.is_none(), "a deleted key is there");
    ensure!(connection.get(key(150)).await?.is_some(), "a key is lost");
    cluster.kill(SHORT)?;
    let report = StoppedMember::check(&small.seen(&store))?;
    ensure!(report.findings.is_empty(), "{:?}", report.findings);
    Ok(())
}

fn key(number: usize) -> Bytes {
    format!("k{number:04}").into()
}

/// As a service manager does.
fn restart(cluster: &mut Cluster) -> Result<(), anyhow::Error> {
    if cluster.has_ended(SHORT)? {
        cluster.start_member(SHORT)?;
    }
    Ok(())
}

/// Puts until the answer is right.
async fn until(
    cluster: &mut Cluster,
    others: &[Connection],
    what: &str,
    right: impl Fn(&Result<i64, tonic::Status>) -> bool,
) -> Result<Result<i64, tonic::Status>, anyhow::Error> {
    let started = Instant::now();
    for turn in 0.. {
        restart(cluster)?;
        let put = others[turn % others.len()].put("client".into(), "v".into()).await;
        if right(&put) {
            return Ok(put);
        }
        ensure!(started.elapsed() < PATIENCE, "not in time: {what}: {put:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    unreachable!("turns do not end")
}
