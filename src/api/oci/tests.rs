//! The protocol over real HTTP, by hand and by skopeo.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Extension;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{PasswordCheck, router};
use crate::api::identity::PeerIdentity;
use crate::registry::Digest;
use crate::registry::testing::{LocalPeers, MemoryKv, TestNode, node};

#[derive(Debug)]
struct OnePassword;

#[async_trait]
impl PasswordCheck for OnePassword {
    async fn is_admin(&self, user: &str, password: &str, _source: &str) -> bool {
        (user, password) == ("admin", "secret")
    }
}

struct Server {
    address: SocketAddr,
    client: Client,
    _node: TestNode,
    _task: JoinSet<()>,
}

impl Server {
    async fn start(identity: Option<PeerIdentity>) -> Self {
        let (kv, peers) = (Arc::<MemoryKv>::default(), Arc::<LocalPeers>::default());
        let node = node("a1", &kv, &peers);
        let mut app = router(node.registry.clone(), Arc::new(OnePassword));
        if let Some(identity) = identity {
            app = app.layer(Extension(identity));
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, app).await.unwrap() });
        // The process may have no provider yet; another test may have set it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().build().unwrap();
        Self { address, client, _node: node, _task: task }
    }

    async fn master() -> Self {
        let groups = vec!["system:masters".into()];
        Self::start(Some(PeerIdentity {
            user: "root".into(),
            groups,
            key_fingerprint: String::new(),
        }))
        .await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    async fn push_blob(&self, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        let url = self.url(&format!("/v2/a/b/blobs/uploads/?digest={digest}"));
        let answer = self.client.post(url).body(content.to_vec()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        digest
    }

    async fn push_manifest(&self, reference: &str, manifest: &Value) -> Response {
        self.client
            .put(self.url(&format!("/v2/a/b/manifests/{reference}")))
            .header("content-type", "application/vnd.oci.image.manifest.v1+json")
            .body(manifest.to_string())
            .send()
            .await
            .unwrap()
    }
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn code(answer: Response) -> (StatusCode, String) {
    let status = answer.status();
    let body: Value = answer.json().await.unwrap();
    (status, body["errors"][0]["code"].as_str().unwrap().to_owned())
}

fn manifest(config: &Digest, subject: Option<&Digest>) -> Value {
    let mut manifest = json!({"schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.example+json", "digest": config, "size": 6},
        "layers": []});
    if let Some(subject) = subject {
        manifest["subject"] = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": subject, "size": 1});
    }
    manifest
}

#[tokio::test]
async fn strangers_are_asked_nodes_read_and_masters_write() {
    let server = Server::start(None).await;
    let answer = server.get("/v2/").await;
    assert_eq!(header(&answer, "docker-distribution-api-version"), "registry/2.0");
    assert!(header(&answer, "www-authenticate").starts_with("Basic"));
    assert_eq!(code(answer).await, (StatusCode::UNAUTHORIZED, "UNAUTHORIZED".into()));
    for (password, expected) in [("secret", StatusCode::OK), ("wrong", StatusCode::UNAUTHORIZED)] {
        let request = server.client.get(server.url("/v2/")).basic_auth("admin", Some(password));
        assert_eq!(request.send().await.unwrap().status(), expected);
    }
    let groups = vec!["system:nodes".into()];
    let server = Server::start(Some(PeerIdentity {
        user: "a1".into(),
        groups,
        key_fingerprint: String::new(),
    }))
    .await;
    assert_eq!(server.get("/v2/").await.status(), StatusCode::OK);
    let post = server.client.post(server.url("/v2/a/blobs/uploads/")).send().await.unwrap();
    assert_eq!(code(post).await, (StatusCode::FORBIDDEN, "DENIED".into()));
}

#[tokio::test]
async fn a_chunked_upload_can_be_resumed_and_is_verified() {
    let server = Server::master().await;
    let begun = server.client.post(server.url("/v2/a/b/blobs/uploads/")).send().await.unwrap();
    assert_eq!(begun.status(), StatusCode::ACCEPTED);
    let session = server.url(header(&begun, "location"));
    let patch = async |range: &'static str, body: &'static str| {
        let request = server.client.patch(&session).header("content-range", range).body(body);
        request.send().await.unwrap()
    };
    let first = patch("0-4", "hello").await;
    assert_eq!((first.status(), header(&first, "range")), (StatusCode::ACCEPTED, "0-4"));
    let wrong = patch("9-11", "abc").await;
    assert_eq!(wrong.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    let status = server.client.get(&session).send().await.unwrap();
    assert_eq!((status.status(), header(&status, "range")), (StatusCode::NO_CONTENT, "0-4"));
    assert_eq!(patch("5-10", " world").await.status(), StatusCode::ACCEPTED);
    let digest = Digest::of(b"hello world!");
    let put = server.client.put(format!("{session}?digest={digest}")).body("!");
    assert_eq!(put.send().await.unwrap().status(), StatusCode::CREATED);

    let url = server.url(&format!("/v2/a/b/blobs/{digest}"));
    let part = server.client.get(&url).header("range", "bytes=6-10").send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(header(&part, "content-range"), "bytes 6-10/12");
    assert_eq!(part.text().await.unwrap(), "world");
    let head = server.client.head(&url).send().await.unwrap();
    assert_eq!(header(&head, "content-length"), "12");
    let mount = server.url(&format!("/v2/c/blobs/uploads/?mount={digest}&from=a/b"));
    assert_eq!(server.client.post(mount).send().await.unwrap().status(), StatusCode::CREATED);

    let begun = server.client.post(server.url("/v2/a/b/blobs/uploads/")).send().await.unwrap();
    let session = server.url(header(&begun, "location"));
    let other = Digest::of(b"other");
    let put = server.client.put(format!("{session}?digest={other}")).body("not it");
    let refused = code(put.send().await.unwrap()).await;
    assert_eq!(refused, (StatusCode::BAD_REQUEST, "DIGEST_INVALID".into()));
    let absent = server.get(&format!("/v2/a/b/blobs/{other}")).await;
    assert_eq!(code(absent).await, (StatusCode::NOT_FOUND, "BLOB_UNKNOWN".into()));
}

#[tokio::test]
async fn manifests_tags_referrers_and_deletion_follow_the_specification() {
    let server = Server::master().await;
    let missing = manifest(&Digest::of(b"missing"), None);
    let refused = code(server.push_manifest("v1", &missing).await).await;
    assert_eq!(refused, (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN".into()));

    let config = server.push_blob(b"config").await;
    let image = manifest(&config, None);
    let digest = Digest::of(image.to_string().as_bytes());
    for tag in ["v1", "v2", "v3"] {
        let pushed = server.push_manifest(tag, &image).await;
        assert_eq!(pushed.status(), StatusCode::CREATED);
        assert_eq!(header(&pushed, "docker-content-digest"), digest.as_str());
    }
    let pulled = server.get("/v2/a/b/manifests/v1").await;
    assert_eq!(header(&pulled, "content-type"), "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(pulled.text().await.unwrap(), image.to_string());

    let page = server.get("/v2/a/b/tags/list?n=2").await;
    assert_eq!(header(&page, "link"), "</v2/a/b/tags/list?n=2&last=v2>; rel=\"next\"");
    assert_eq!(page.json::<Value>().await.unwrap(), json!({"name": "a/b", "tags": ["v1", "v2"]}));
    let rest: Value = server.get("/v2/a/b/tags/list?n=2&last=v2").await.json().await.unwrap();
    assert_eq!(rest["tags"], json!(["v3"]));
    let catalog: Value = server.get("/v2/_catalog").await.json().await.unwrap();
    assert_eq!(catalog, json!({"repositories": ["a/b"]}));

    let signature = manifest(&config, Some(&digest));
    let pushed = server.push_manifest("signature", &signature).await;
    assert_eq!(header(&pushed, "oci-subject"), digest.as_str());
    let referrers: Value =
        server.get(&format!("/v2/a/b/referrers/{digest}")).await.json().await.unwrap();
    assert_eq!(referrers["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(referrers["manifests"][0]["artifactType"], "application/vnd.example+json");

    let blob = server.url(&format!("/v2/a/b/blobs/{config}"));
    let in_use = server.client.delete(blob).send().await.unwrap();
    assert_eq!(in_use.status(), StatusCode::METHOD_NOT_ALLOWED);
    let url = server.url(&format!("/v2/a/b/manifests/{digest}"));
    let deleted = server.client.delete(url).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::ACCEPTED);
    let gone = code(server.get("/v2/a/b/manifests/v1").await).await;
    assert_eq!(gone, (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN".into()));
    let unknown = code(server.get("/v2/nobody/tags/list").await).await;
    assert_eq!(unknown, (StatusCode::NOT_FOUND, "NAME_UNKNOWN".into()));
}

/// Writes an OCI image layout with one image of one layer.
fn write_layout(directory: &Path) {
    let put = |content: Vec<u8>| {
        let digest = Digest::of(&content);
        std::fs::write(directory.join("blobs/sha256").join(digest.hex()), &content).unwrap();
        (digest, content.len())
    };
    std::fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let (layer, layer_size) = put(vec![0; 10_240]);
    let (config, config_size) = put(json!({"architecture": "amd64", "os": "linux",
               "rootfs": {"type": "layers", "diff_ids": [layer]}})
    .to_string()
    .into_bytes());
    let (manifest, size) =
        put(json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                       "digest": config, "size": config_size},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
                        "digest": layer, "size": layer_size}]})
        .to_string()
        .into_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json",
         "digest": manifest, "size": size,
         "annotations": {"org.opencontainers.image.ref.name": "v1"}}]});
    std::fs::write(directory.join("index.json"), index.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_images_in_and_out() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        eprintln!("skipped: skopeo is not installed");
        return;
    }
    let server = Server::master().await;
    let work = tempfile::tempdir().unwrap();
    write_layout(&work.path().join("in"));
    let local = |name: &str| format!("oci:{}:v1", work.path().join(name).display());
    let remote = |tag: &str| format!("docker://{}/team/app:{tag}", server.address);
    let skopeo = async |arguments: Vec<String>| {
        let mut command = tokio::process::Command::new("skopeo");
        command.args([
            "--insecure-policy",
            "copy",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
        ]);
        let output = command.args(arguments).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    // skopeo compresses layers on the way unless told to leave the bytes alone.
    let exact = || "--preserve-digests".to_owned();
    skopeo(vec![exact(), local("in"), remote("v1")]).await;
    // Again as Docker's schema 2, and from the registry into itself.
    skopeo(vec!["--format=v2s2".into(), local("in"), remote("docker")]).await;
    skopeo(vec![exact(), remote("v1"), remote("copy")]).await;
    skopeo(vec![exact(), remote("copy"), local("out")]).await;
    let list = |name: &str| {
        let entries = std::fs::read_dir(work.path().join(name).join("blobs/sha256")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(list("in"), list("out"));
    let docker = server.get("/v2/team/app/manifests/docker").await;
    assert_eq!(
        header(&docker, "content-type"),
        "application/vnd.docker.distribution.manifest.v2+json"
    );
}
