//! The routes over real TLS on loopback, called by the joiner's own client.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::api::nodes;
use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::client::fake::FakeApi;
use crate::client::{ApiError, HttpApi, HttpConfig};
use crate::install::fake::{Alone, FakeKv, FakeMembership};
use crate::install::join_service::JoinServiceInput;
use crate::install::node_service::{NodeService, NodeServiceInput};
use crate::install::ports::{Credentials, Remote, RemoteError};
use crate::install::remote::HttpsRemote;
use crate::model::cluster::Cluster;
use crate::model::cluster_record::{ClusterRecord, NodeRecord};
use crate::model::node_config::{Ports, Role};
use crate::pki::{Authority, JoinToken, NodeKey, NodeNames};
use crate::sys::clock;
use crate::sys::{files, tls_keys};

const CLUSTER: &str = "\
apiVersion: holdfast.io/v1
kind: Cluster
metadata: {name: lab}
spec:
  sites:
    - name: city
      centers:
        - name: a
          nodes:
            - {name: a1, address: 10.77.0.11, roles: [control]}
            - {name: a2, address: 10.77.0.12, roles: [control]}
            - {name: a3, address: 10.77.0.13, roles: [control]}
";

struct Bench {
    server: SocketAddr,
    authority: Arc<Authority>,
    dir: tempfile::TempDir,
    cancel: CancellationToken,
    tasks: JoinSet<std::io::Result<()>>,
}

fn credentials(authority: &Authority, dir: &std::path::Path, name: &str) -> Credentials {
    let path = dir.join(format!("{name}.key"));
    let key = NodeKey::load_or_create(&path).expect("key");
    let names = NodeNames {
        node_name: name.into(),
        address: "127.0.0.1".parse().expect("address"),
        api_address: "10.96.0.1".parse().expect("address"),
        cluster_domain: "cluster.local".into(),
        control: true,
    };
    let request = key.request().expect("request");
    Credentials {
        authority: authority.certificate_pem().into(),
        certificate: authority.sign_node(&request, &names, clock::now()).expect("signs"),
        key: files::read_text(&path).expect("key file"),
    }
}

fn tls(authority: &Authority, own: &Credentials) -> Arc<rustls::ServerConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let mut chain = tls_keys::certificates(&own.certificate).expect("pem");
    for certificate in tls_keys::certificates(authority.certificate_pem()).expect("pem") {
        roots.add(certificate.clone()).expect("a root");
        chain.push(certificate);
    }
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        tls_keys::provider(),
    );
    let clients = clients.allow_unauthenticated().build().expect("verifier");
    let config = rustls::ServerConfig::builder_with_provider(tls_keys::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, tls_keys::private_key(&own.key).expect("key"))
        .expect("server config");
    Arc::new(config)
}

impl Bench {
    async fn new() -> Self {
        crate::sys::tls::install_crypto();
        let dir = tempfile::tempdir().expect("temp dir");
        let authority = Arc::new(Authority::create("lab", clock::now()).expect("authority"));
        let kv = Arc::new(FakeKv::default());
        let membership = Arc::new(FakeMembership::default());
        let service = Arc::new(JoinService::new(JoinServiceInput {
            kv: Arc::clone(&kv) as _,
            authority: Arc::clone(&authority),
            admin: None,
            membership: Arc::clone(&membership) as _,
            secrets: crate::install::fake::secrets(),
            ports: Ports::default(),
            clock: Arc::new(clock::now),
        }));
        let nodes = Arc::new(NodeService::new(NodeServiceInput {
            kv: Arc::clone(&kv) as _,
            api: FakeApi::new().shared(),
            membership,
            own_name: "a1".into(),
            others: Arc::new(Alone),
            clock: Arc::new(clock::now),
        }));
        let book = TokenBook::new(kv, authority.fingerprint(), Arc::new(clock::now));
        let routes = router(JoinRoutes { service, tokens: Arc::new(book) });
        let routes = nodes::guard(routes.merge(nodes::router(Arc::clone(&nodes))), nodes);
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let server = socket.local_addr().expect("address");
        let own = credentials(&authority, dir.path(), "a1");
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let config = tls(&authority, &own);
        tasks.spawn(crate::api::listener::serve(socket, config, routes, cancel.clone()));
        Self { server, authority, dir, cancel, tasks }
    }

    fn admin(&self) -> Credentials {
        let (certificate, key) = self.authority.issue_admin(clock::now()).expect("issues");
        Credentials { authority: self.authority.certificate_pem().into(), certificate, key }
    }

    fn join_request(&self, token: &JoinToken) -> JoinRequest {
        let key = NodeKey::load_or_create(&self.dir.path().join("joiner.key")).expect("key");
        JoinRequest {
            token: token.credential(),
            node_name: "a2".into(),
            address: "10.77.0.12".parse().expect("address"),
            roles: Vec::new(),
            certificate_request: key.request().expect("request"),
        }
    }

    async fn stop(mut self) {
        self.cancel.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no panic").expect("no error");
        }
    }
}

fn bootstrap() -> ClusterBootstrap {
    ClusterBootstrap {
        record: ClusterRecord {
            cluster_id: ClusterId(uuid::Uuid::from_u128(1)),
            generation: Generation(1),
            cluster: Cluster::parse(CLUSTER).expect("good").cluster,
            pause_image: "holdfast/pause:1".into(),
        },
        node: NodeRecord {
            name: "a1".into(),
            address: "10.77.0.11".parse().expect("address"),
            site: "city".into(),
            center: "a".into(),
            roles: vec![Role::Control],
            member_id: Some(MemberId(1)),
            pod_range: "10.244.0.0/24".parse().expect("range"),
            key_fingerprint: "first".into(),
            joined: true,
            leaving: false,
        },
        admin_password_hash: "$argon2id$x".into(),
    }
}

fn reason(error: RemoteError) -> String {
    match error {
        RemoteError::Refused { reason, .. } => reason,
        other => panic!("not a refusal: {other:?}"),
    }
}

#[tokio::test]
async fn a_node_joins_over_tls_that_it_knows_only_by_the_pin() {
    let bench = Bench::new().await;
    let remote = HttpsRemote;
    let (server, admin) = (bench.server, bench.admin());
    let asked = TokenRequest { role: Role::Control, center: None, ttl_seconds: None };
    let token = remote.create_token(server, &admin, &asked).await.expect("token").token;
    let token: JoinToken = token.parse().expect("a token");
    let request = bench.join_request(&token);
    let early = remote.request_join(server, &token.authority, &request).await;
    assert_eq!(reason(early.expect_err("nothing is recorded")), "ServiceUnavailable");

    remote.record_cluster(server, &admin, &bootstrap()).await.expect("records");
    let answer = remote.request_join(server, &token.authority, &request).await.expect("joins");
    assert_eq!(answer.member_id, Some(MemberId(2)));
    let key = files::read_text(&bench.dir.path().join("joiner.key")).expect("key");
    let own = Credentials {
        authority: answer.ca_certificate.clone(),
        certificate: answer.certificate.clone(),
        key,
    };
    remote.joined(server, &own, "a2").await.expect("counted in");
    let other = remote.joined(server, &own, "a1").await.expect_err("only of itself");
    assert_eq!(reason(other), "Forbidden");
    let time = remote.server_time(server, &token.authority).await.expect("a clock");
    assert!((time.as_second() - clock::now().as_second()).abs() < 30);
    bench.stop().await;
}

#[tokio::test]
async fn a_removed_node_is_told_so_and_its_certificate_opens_nothing() {
    let bench = Bench::new().await;
    let (remote, server, admin) = (HttpsRemote, bench.server, bench.admin());
    remote.record_cluster(server, &admin, &bootstrap()).await.expect("records");
    let asked = TokenRequest { role: Role::Control, center: None, ttl_seconds: None };
    let token = remote.create_token(server, &admin, &asked).await.expect("token").token;
    let token: JoinToken = token.parse().expect("a token");
    let request = bench.join_request(&token);
    let answer = remote.request_join(server, &token.authority, &request).await.expect("joins");
    let own = Credentials {
        authority: answer.ca_certificate,
        certificate: answer.certificate,
        key: files::read_text(&bench.dir.path().join("joiner.key")).expect("key"),
    };
    remote.joined(server, &own, "a2").await.expect("counted in");
    let client = |who: &Credentials| {
        let identity = Some((who.certificate.clone().into_bytes(), who.key.clone().into_bytes()));
        let servers = vec![format!("https://{server}")];
        let ca_pem = who.authority.clone().into_bytes();
        HttpApi::new(HttpConfig { servers, ca_pem, identity, token: None }).expect("client")
    };
    let (node, admin) = (client(&own), client(&admin));
    let list =
        async |who: &HttpApi| who.get_raw("/holdfast/v1/nodes", &[], "application/json").await;
    assert_eq!(list(&node).await.expect("nodes may")["nodes"][1]["memberId"], 2);
    let remove = async |who: &HttpApi, path: &str| {
        let path = format!("/holdfast/v1/nodes/{path}");
        let none = serde_json::json!({});
        match who.write_raw(http::Method::DELETE, &path, "application/json", &none).await {
            Ok(_) => "done".to_owned(),
            Err(ApiError::Refused(status)) => status.reason,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(remove(&node, "a2?force=true").await, "Forbidden");
    assert_eq!(remove(&admin, "a2").await, "NodeAlive");
    assert_eq!(remove(&admin, "a2?force=true").await, "done");
    let Err(ApiError::Refused(told)) = list(&node).await else { panic!("it was let in") };
    assert_eq!(told.reason, "NodeRemoved");
    assert!(told.message.contains("holdfast reset"), "{}", told.message);
    assert_eq!(reason(remote.joined(server, &own, "a2").await.expect_err("no")), "NodeRemoved");
    // To leave once more is no error: that is how a killed reset finishes.
    assert!(remote.leave(server, &own, "a2").await.expect("has left").already_done);
    bench.stop().await;
}

#[tokio::test]
async fn a_foreign_pin_and_a_missing_certificate_are_refused() {
    let bench = Bench::new().await;
    let remote = HttpsRemote;
    let foreign = JoinToken::generate(&"0".repeat(64));
    let request = bench.join_request(&foreign);
    let error = remote.request_join(bench.server, &foreign.authority, &request).await;
    assert!(matches!(error.expect_err("foreign"), RemoteError::Foreign { .. }));
    // A node's certificate is not the administrator's.
    let node = credentials(&bench.authority, bench.dir.path(), "a3");
    let error = remote.list_tokens(bench.server, &node).await.expect_err("refused");
    assert_eq!(reason(error), "Forbidden");
    let missing = remote.revoke_token(bench.server, &bench.admin(), "none").await;
    assert_eq!(reason(missing.expect_err("unknown")), "TokenUnknown");
    bench.stop().await;
}
