//! Import, replication and collection between registries in one process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use super::testing::{LocalPeers, MemoryKv, TestNode, node};
use super::*;
use crate::registry::manifest::{OCI_INDEX, OCI_MANIFEST};

/// Images in memory; fails when `fail_at` reads have been made.
#[derive(Default)]
struct Bundle {
    content: BTreeMap<String, Vec<u8>>,
    images: Vec<ImportImage>,
    reads: AtomicUsize,
    fail_at: Option<usize>,
}

impl Bundle {
    fn add(&mut self, content: Vec<u8>) -> (String, usize) {
        let digest = Digest::of(&content).to_string();
        let size = content.len();
        self.content.insert(digest.clone(), content);
        (digest, size)
    }

    fn add_image(&mut self, repository: &str, tag: &str, layers: &[&[u8]]) -> String {
        let (config, config_size) = self.add(format!("{{\"os\":\"{repository}\"}}").into_bytes());
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| {
                let (digest, size) = self.add(layer.to_vec());
                json!({"mediaType": "application/vnd.oci.image.layer.v1.tar",
                       "digest": digest, "size": size})
            })
            .collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                       "digest": config, "size": config_size},
            "layers": layers});
        let (digest, size) = self.add(manifest.to_string().into_bytes());
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
            {"mediaType": OCI_MANIFEST, "digest": digest, "size": size}]});
        let (index, _) = self.add(index.to_string().into_bytes());
        self.images.push(ImportImage {
            repository: repository.into(),
            tag: tag.into(),
            manifest: index.clone(),
        });
        index
    }
}

#[async_trait]
impl ImportSource for Bundle {
    fn images(&self) -> Vec<ImportImage> {
        self.images.clone()
    }

    fn blobs(&self) -> Vec<ImportBlob> {
        let blob = |(digest, content): (&String, &Vec<u8>)| ImportBlob {
            digest: digest.clone(),
            size: content.len() as u64,
        };
        self.content.iter().map(blob).collect()
    }

    async fn open(&self, digest: &str) -> std::io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        if Some(self.reads.fetch_add(1, Ordering::SeqCst)) == self.fail_at {
            return Err(std::io::Error::other("killed"));
        }
        Ok(Box::new(std::io::Cursor::new(self.content[digest].clone())))
    }
}

fn bundle() -> Bundle {
    let mut bundle = Bundle::default();
    bundle.add_image("holdfast/pause", "1", &[b"layer one"]);
    bundle.add_image("hello", "1", &[b"layer one", b"layer two"]);
    bundle
}

fn single() -> (Arc<MemoryKv>, Arc<LocalPeers>, TestNode) {
    let (kv, peers) = (Arc::<MemoryKv>::default(), Arc::<LocalPeers>::default());
    let node = node("a1", &kv, &peers);
    (kv, peers, node)
}

#[tokio::test]
async fn a_second_import_moves_nothing_and_names_resolve() {
    let (_, _, node) = single();
    let bundle = bundle();
    let last = std::sync::Mutex::new(ImportProgress::default());
    let first = node.registry.import(&bundle, &|now| *last.lock().unwrap() = now).await.unwrap();
    assert_eq!((first.blobs_moved, first.images_changed), (bundle.content.len(), 2));
    let last = *last.lock().unwrap();
    assert_eq!(last.blobs_done, last.blobs_total);
    assert_eq!(last.bytes_done, last.bytes_total);

    let again = node.registry.import(&bundle, &|_| {}).await.unwrap();
    assert_eq!((again.blobs_moved, again.bytes_moved, again.images_changed), (0, 0, 0));
    assert_eq!((again.blobs_skipped, again.images_unchanged), (bundle.content.len(), 2));

    for name in ["hello:1", "localhost:5000/hello:1", "docker.io/library/hello:1"] {
        let found = node.registry.resolve(name).await.unwrap();
        assert_eq!(found.repository.as_str(), "hello");
        assert_eq!(found.digest.as_str(), bundle.images[1].manifest);
        let by_digest = format!("hello@{}", found.digest);
        assert_eq!(node.registry.resolve(&by_digest).await.unwrap(), found);
    }
    for absent in ["hello", "hello:2", "other:1"] {
        let error = node.registry.resolve(absent).await.unwrap_err();
        assert!(matches!(error, RegistryError::ImageUnknown { .. }), "{absent}");
    }
}

#[tokio::test]
async fn an_import_that_failed_anywhere_is_finished_by_repeating_it() {
    let total = bundle().content.len();
    for fail_at in 0..total {
        let (kv, peers, broken) = single();
        let failing = Bundle { fail_at: Some(fail_at), ..bundle() };
        broken.registry.import(&failing, &|_| {}).await.unwrap_err();
        // The process died; a new one opens the same directory.
        let config = RegistryConfig {
            directory: broken.directory.path().to_owned(),
            node_name: "a1".into(),
        };
        let registry = Registry::new(config, kv, peers).unwrap();
        let report = registry.import(&bundle(), &|_| {}).await.unwrap();
        assert_eq!(report.blobs_skipped, fail_at);
        assert_eq!(report.blobs_moved, total - fail_at);
        registry.resolve("hello:1").await.unwrap();
    }
}

#[tokio::test]
async fn content_that_does_not_match_its_digest_is_never_visible() {
    let (_, _, node) = single();
    let mut bad = bundle();
    let digest = bad.images[0].manifest.clone();
    bad.content.insert(digest.clone(), b"something else".to_vec());
    let error = node.registry.import(&bad, &|_| {}).await.unwrap_err();
    assert!(matches!(error, RegistryError::DigestMismatch { .. }), "{error}");
    assert!(node.registry.local_blob(&digest.parse().unwrap()).await.is_err());
    let incoming = node.directory.path().join("incoming");
    assert_eq!(std::fs::read_dir(incoming).unwrap().count(), 0);
}

#[tokio::test]
async fn every_node_gets_what_manifests_need_and_says_so() {
    let (kv, peers, a1) = single();
    let a2 = node("a2", &kv, &peers);
    let cancel = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    let (registry, token) = (a2.registry.clone(), cancel.clone());
    tasks.spawn(async move { registry.run(token).await });
    let bundle = bundle();
    a1.registry.import(&bundle, &|_| {}).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while a2.registry.records.presence("a2").await.unwrap().len() < bundle.content.len() {
        assert!(Instant::now() < deadline, "a2 did not get everything");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for digest in bundle.content.keys() {
        a2.registry.local_blob(&digest.parse().unwrap()).await.unwrap();
    }
    cancel.cancel();
    tasks.join_next().await.unwrap().unwrap();
    // A blob that is lost on one node is fetched again when it is asked for.
    let digest: Digest = bundle.images[0].manifest.parse().unwrap();
    a2.registry.blobs.remove(&digest).await.unwrap();
    assert!(a2.registry.local_blob(&digest).await.is_err());
    a2.registry.blob(&digest).await.unwrap();
}

#[tokio::test]
async fn collection_keeps_what_is_used_pinned_or_young() {
    let (_, _, node) = single();
    let bundle = bundle();
    node.registry.import(&bundle, &|_| {}).await.unwrap();
    let loose = node.registry.blobs.put(b"loose").await.unwrap();
    let pinned = node.registry.blobs.put(b"pinned").await.unwrap();
    let pins = BTreeSet::from([pinned.clone()]);

    let young = node.registry.collect(&pins, Duration::ZERO).await.unwrap();
    assert_eq!(young.blobs_removed, 0, "nothing is an hour old");

    let report = node.registry.collect_older(&pins, Duration::ZERO).await.unwrap();
    assert_eq!((report.blobs_removed, report.bytes_removed), (1, 5));
    assert!(node.registry.local_blob(&loose).await.is_err());
    node.registry.local_blob(&pinned).await.unwrap();
    for digest in bundle.content.keys() {
        node.registry.local_blob(&digest.parse().unwrap()).await.unwrap();
    }

    // A deleted index frees itself; what another image uses stays.
    let hello: Repository = "hello".parse().unwrap();
    let index: Digest = bundle.images[1].manifest.parse().unwrap();
    let reference = Reference::Digest(index.clone());
    node.registry.delete_manifest(&hello, &reference).await.unwrap();
    assert!(node.registry.resolve("hello:1").await.is_err());
    node.registry.collect_older(&pins, Duration::ZERO).await.unwrap();
    assert!(node.registry.local_blob(&index).await.is_err());
    node.registry.local_blob(&Digest::of(b"layer one")).await.unwrap();
}

#[tokio::test]
async fn the_inventory_says_which_nodes_hold_an_image_whole() {
    let (kv, peers) = (Arc::<MemoryKv>::default(), Arc::<LocalPeers>::default());
    let (a1, b1) = (node("a1", &kv, &peers), node("b1", &kv, &peers));
    let mut bundle = Bundle::default();
    let index = bundle.add_image("hello", "1", &[b"layer"]);
    let size: usize = bundle.content.values().map(Vec::len).sum();
    a1.registry.import(&bundle, &|_| {}).await.unwrap();
    a1.registry.reconcile().await.unwrap();
    let entry = |nodes: &[&str]| ImageEntry {
        repository: "hello".into(),
        digest: index.clone(),
        tags: vec!["1".into()],
        media_type: OCI_INDEX.into(),
        size_bytes: size as u64,
        nodes: nodes.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(b1.registry.inventory().await.unwrap(), [entry(&["a1"])]);
    assert_eq!(b1.registry.reconcile().await.unwrap(), 0);
    assert_eq!(a1.registry.inventory().await.unwrap(), [entry(&["a1", "b1"])]);
}

#[tokio::test]
async fn an_image_that_runs_keeps_its_content_after_its_manifests_were_deleted() {
    let (_, _, a1) = single();
    let mut bundle = Bundle::default();
    let index = bundle.add_image("hello", "1", &[b"layer"]);
    a1.registry.import(&bundle, &|_| {}).await.unwrap();
    let repository: Repository = "hello".parse().unwrap();
    for digest in bundle.content.keys() {
        let reference: Reference = digest.parse().unwrap();
        // Layers and configurations are no manifests.
        let _ = a1.registry.delete_manifest(&repository, &reference).await;
    }
    let running = BTreeSet::from([format!("10.0.0.1:5000/hello@{index}"), "Not A Name".into()]);
    let pinned = a1.registry.pins(&running).await.unwrap();
    assert_eq!(pinned.len(), bundle.content.len());
    let report = a1.registry.collect_older(&pinned, Duration::ZERO).await.unwrap();
    assert_eq!((report.blobs_removed, report.blobs_kept), (0, bundle.content.len()));
    let unknown = BTreeSet::from(["nobody:1".to_owned()]);
    let pinned = a1.registry.pins(&unknown).await.unwrap();
    let report = a1.registry.collect_older(&pinned, Duration::ZERO).await.unwrap();
    assert_eq!((report.blobs_removed, report.blobs_kept), (bundle.content.len(), 0));
}

/// Wired code runs these as tasks of a multi-threaded runtime.
#[test]
fn long_operations_can_move_between_threads() {
    fn check<T: Send>(_: impl FnOnce(&'static Registry) -> T) {}
    check(|registry| registry.import(&EMPTY, &|_| {}));
    check(|registry| registry.run(CancellationToken::new()));
    check(|registry| registry.resolve("hello:1"));
    static PINS: BTreeSet<Digest> = BTreeSet::new();
    check(|registry| registry.collect(&PINS, Duration::ZERO));
}

static EMPTY: Bundle = Bundle {
    content: BTreeMap::new(),
    images: Vec::new(),
    reads: AtomicUsize::new(0),
    fail_at: None,
};
