//! Tokens and admission: once, resumable, role-bound, expiring.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::fake::{Alone, FakeKv, FakeMembership, clock};
use super::join_service::*;
use super::node_service::{NodeService, NodeServiceInput};
use super::tokens::*;
use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::client::fake::FakeApi;
use crate::model::cluster::Cluster;
use crate::model::cluster_record::{ClusterBootstrap, ClusterRecord, NodeRecord};
use crate::model::join::JoinRequest;
use crate::model::node_config::{Ports, Role};
use crate::pki::{Authority, JoinToken, NodeKey};

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
            - {name: a1, address: 10.77.0.11, roles: [control, worker]}
            - {name: a2, address: 10.77.0.12, roles: [control, worker]}
            - {name: a3, address: 10.77.0.13, roles: [worker]}
            - {name: a4, address: 10.77.0.14, roles: [control]}
";

pub(super) struct Bench {
    pub(super) service: JoinService,
    pub(super) nodes: NodeService,
    pub(super) book: TokenBook,
    pub(super) membership: Arc<FakeMembership>,
    pub(super) kv: Arc<FakeKv>,
    pub(super) api: FakeApi,
    now: Arc<Mutex<Timestamp>>,
    dir: tempfile::TempDir,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let start = crate::sys::clock::now();
        let (clock, now) = clock(start);
        let kv = Arc::new(FakeKv::default());
        let authority = Arc::new(Authority::create("lab", start).expect("authority"));
        let membership = Arc::new(FakeMembership::default());
        let service = JoinService::new(JoinServiceInput {
            kv: Arc::clone(&kv) as Arc<dyn crate::store::Kv>,
            authority: Arc::clone(&authority),
            admin: Some(("CERT".into(), "KEY".into())),
            membership: Arc::clone(&membership) as Arc<dyn Membership>,
            secrets: crate::install::fake::secrets(),
            ports: Ports::default(),
            clock: Arc::clone(&clock),
        });
        let api = FakeApi::new();
        let nodes = NodeService::new(NodeServiceInput {
            kv: Arc::clone(&kv) as _,
            api: api.shared(),
            membership: Arc::clone(&membership) as _,
            own_name: "a1".into(),
            others: Arc::new(Alone),
            clock: Arc::clone(&clock),
        });
        let book = TokenBook::new(Arc::clone(&kv) as _, authority.fingerprint(), clock);
        let dir = tempfile::tempdir().expect("temp dir");
        let bench = Self { service, nodes, book, membership, kv, api, now, dir };
        bench.service.bootstrap(&bootstrap(1)).await.expect("records");
        bench
    }

    pub(super) fn request(&self, token: &str, name: &str, address: &str, key: &str) -> JoinRequest {
        let key = NodeKey::load_or_create(&self.dir.path().join(key)).expect("key");
        let token: JoinToken = token.parse().expect("a token");
        JoinRequest {
            token: token.credential(),
            node_name: name.into(),
            address: address.parse().expect("address"),
            roles: Vec::new(),
            certificate_request: key.request().expect("request"),
        }
    }

    pub(super) async fn token(&self, role: Role) -> String {
        self.book.create(role, None, None).await.expect("creates").token
    }

    pub(super) async fn refusal(&self, request: &JoinRequest) -> String {
        self.service.handle(request).await.expect_err("refused").status().reason
    }
}

fn bootstrap(id: u128) -> ClusterBootstrap {
    let cluster = Cluster::parse(CLUSTER).expect("good").cluster;
    let node = NodeRecord {
        name: "a1".into(),
        address: "10.77.0.11".parse().expect("address"),
        site: "city".into(),
        center: "a".into(),
        roles: vec![Role::Control, Role::Worker],
        member_id: Some(MemberId(1)),
        pod_range: "10.244.0.0/24".parse().expect("range"),
        key_fingerprint: "first".into(),
        joined: true,
        leaving: false,
    };
    let record = ClusterRecord {
        cluster_id: ClusterId(uuid::Uuid::from_u128(id)),
        generation: Generation(1),
        cluster,
        pause_image: "holdfast/pause:1".into(),
    };
    ClusterBootstrap { record, node, admin_password_hash: "$argon2id$x".into() }
}

#[tokio::test]
async fn a_control_node_is_admitted_and_its_member_added_once() {
    let bench = Bench::new().await;
    let token = bench.token(Role::Control).await;
    let request = bench.request(&token, "a2", "10.77.0.12", "k2");
    let answer = bench.service.handle(&request).await.expect("admitted");
    assert_eq!(answer.member_id, Some(MemberId(2)));
    assert_eq!(answer.pod_range.to_string(), "10.244.1.0/24");
    assert_eq!(answer.roles, [Role::Control, Role::Worker]);
    assert!(answer.ca_key.is_some() && answer.admin_key.is_some());
    let servers: Vec<String> = answer.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["10.77.0.12:6443", "10.77.0.11:6443"]);
    for _ in 0..2 {
        bench.service.joined("a2").await.expect("counted in");
    }
    let added = bench.membership.added.lock().expect("lock").clone();
    assert_eq!(added, [(MemberId(2), "a2".into(), "10.77.0.12:2380".into(), true)]);
}

#[tokio::test]
async fn a_killed_join_resumes_with_the_same_answer_and_nobody_else_can() {
    let bench = Bench::new().await;
    let token = bench.token(Role::Control).await;
    let request = bench.request(&token, "a2", "10.77.0.12", "k2");
    let first = bench.service.handle(&request).await.expect("admitted");
    // Even after the token's time: the admission has happened.
    *bench.now.lock().expect("lock") += SignedDuration::from_hours(2);
    let again = bench.request(&token, "a2", "10.77.0.12", "k2");
    let second = bench.service.handle(&again).await.expect("resumed");
    assert_eq!((first.member_id, first.pod_range), (second.member_id, second.pod_range));
    let other_key = bench.request(&token, "a2", "10.77.0.12", "other");
    assert_eq!(bench.refusal(&other_key).await, "TokenUsed");
    let other_node = bench.request(&token, "a4", "10.77.0.14", "k2");
    assert_eq!(bench.refusal(&other_node).await, "TokenUsed");
    let infos = bench.book.list().await.expect("lists");
    assert_eq!(infos[0].state, "used by a2");
    // A fresh token for a name that is taken by another key is no way in either.
    let token = bench.token(Role::Control).await;
    let thief = bench.request(&token, "a2", "10.77.0.12", "thief");
    assert_eq!(bench.refusal(&thief).await, "NodeTaken");
}

#[tokio::test]
async fn expired_foreign_revoked_and_wrong_role_have_their_own_refusals() {
    let bench = Bench::new().await;
    let worker = bench.token(Role::Worker).await;
    let request = bench.request(&worker, "a2", "10.77.0.12", "k2");
    assert_eq!(bench.refusal(&request).await, "TokenRole");
    let control = bench.token(Role::Control).await;
    let request = bench.request(&control, "a3", "10.77.0.13", "k3");
    assert_eq!(bench.refusal(&request).await, "TokenRole");
    let foreign = JoinToken::generate(&"0".repeat(64)).to_string();
    let request = bench.request(&foreign, "a2", "10.77.0.12", "k2");
    assert_eq!(bench.refusal(&request).await, "TokenUnknown");
    let id = control.parse::<JoinToken>().expect("token").id;
    assert!(bench.book.revoke(&id).await.expect("revokes"));
    assert!(!bench.book.revoke(&id).await.expect("asks"));
    let request = bench.request(&control, "a2", "10.77.0.12", "k2");
    assert_eq!(bench.refusal(&request).await, "TokenUnknown");
    let short =
        bench.book.create(Role::Control, None, Some(Duration::from_secs(5))).await.expect("ok");
    *bench.now.lock().expect("lock") += SignedDuration::from_secs(5);
    let request = bench.request(&short.token, "a2", "10.77.0.12", "k2");
    assert_eq!(bench.refusal(&request).await, "TokenExpired");
}

#[tokio::test]
async fn a_node_must_be_the_one_the_cluster_file_describes() {
    let bench = Bench::new().await;
    let token = bench.token(Role::Control).await;
    let mut request = bench.request(&token, "a2", "10.77.0.99", "k");
    assert_eq!(bench.refusal(&request).await, "NodeAddress");
    request.node_name = "z9".into();
    request.roles = vec![Role::Control];
    assert_eq!(bench.refusal(&request).await, "NodeUnknown");
    let mut request = bench.request(&token, "a2", "10.77.0.12", "k");
    request.roles = vec![Role::Control];
    assert_eq!(bench.refusal(&request).await, "NodeRoles");
    request.roles = Vec::new();
    request.certificate_request = "nonsense".into();
    assert_eq!(bench.refusal(&request).await, "BadRequest");
    // None of the refusals used the token.
    let request = bench.request(&token, "a2", "10.77.0.12", "k");
    bench.service.handle(&request).await.expect("still good");
}

#[tokio::test]
async fn member_ids_and_ranges_are_never_given_twice() {
    let bench = Bench::new().await;
    let (t2, t3, t4) = (
        bench.token(Role::Control).await,
        bench.token(Role::Worker).await,
        bench.token(Role::Control).await,
    );
    let (r2, r3, r4) = (
        bench.request(&t2, "a2", "10.77.0.12", "k2"),
        bench.request(&t3, "a3", "10.77.0.13", "k3"),
        bench.request(&t4, "a4", "10.77.0.14", "k4"),
    );
    let (a2, a3, a4) = tokio::join!(
        bench.service.handle(&r2),
        bench.service.handle(&r3),
        bench.service.handle(&r4)
    );
    let (a2, a3, a4) = (a2.expect("a2"), a3.expect("a3"), a4.expect("a4"));
    assert_ne!(a2.member_id, a4.member_id);
    assert_eq!((a3.member_id, a3.ca_key, a3.admin_key), (None, None, None));
    let mut ranges = [a2.pod_range, a3.pod_range, a4.pod_range];
    ranges.sort();
    assert!(ranges.windows(2).all(|pair| pair[0] != pair[1]), "{ranges:?}");
}

#[tokio::test]
async fn a_cluster_is_recorded_once_and_not_replaced() {
    let bench = Bench::new().await;
    bench.service.bootstrap(&bootstrap(1)).await.expect("the same again");
    let refused = bench.service.bootstrap(&bootstrap(2)).await.expect_err("another");
    assert_eq!(refused.status().reason, "OtherCluster");
}

#[tokio::test]
async fn a_token_with_a_place_admits_a_node_that_the_file_does_not_list() {
    let bench = Bench::new().await;
    let unknown = bench.book.create(Role::Worker, Some("z"), None).await.expect_err("no such");
    assert_eq!(unknown.status().reason, "CenterUnknown");
    let placed =
        async |role| bench.book.create(role, Some("a"), None).await.expect("creates").token;
    let token = placed(Role::Worker).await;
    // What is taken or unfit stays so, and costs no token.
    for (name, address, reason) in [
        ("a9", "10.77.0.12", "AddressTaken"),
        ("a9", "10.77.0.11", "AddressTaken"),
        ("a9", "10.244.3.1", "AddressUnfit"),
        ("a9", "127.0.0.1", "AddressUnfit"),
        ("A_9", "10.77.0.19", "NodeName"),
    ] {
        let request = bench.request(&token, name, address, "k9");
        assert_eq!(bench.refusal(&request).await, reason, "{name} {address}");
    }
    let request = bench.request(&token, "a9", "10.77.0.19", "k9");
    let answer = bench.service.handle(&request).await.expect("admitted");
    assert_eq!((answer.roles, answer.center.as_str()), (vec![Role::Worker], "a"));
    // Behind the slices of the four listed nodes.
    assert_eq!(answer.pod_range.to_string(), "10.244.4.0/24");
    assert_eq!(answer.member_id, None);
    let again = bench.request(&placed(Role::Worker).await, "b9", "10.77.0.19", "k10");
    assert_eq!(bench.refusal(&again).await, "AddressTaken");
    // The role is the token's, whatever the node asks for.
    let mut request = bench.request(&placed(Role::Worker).await, "c9", "10.77.0.20", "k11");
    request.roles = vec![Role::Control];
    assert_eq!(bench.refusal(&request).await, "TokenRole");
    // A listed node may come with another address, for its host was replaced.
    let request = bench.request(&placed(Role::Control).await, "a2", "10.77.0.22", "k2");
    let answer = bench.service.handle(&request).await.expect("admitted");
    assert_eq!(
        (answer.member_id, answer.pod_range.to_string().as_str()),
        (Some(MemberId(2)), "10.244.1.0/24")
    );
    assert_eq!(answer.roles, [Role::Control, Role::Worker]);
}
