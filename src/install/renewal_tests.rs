//! Certificates that end, on hosts in temporary directories and a cluster in this process.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::apply::{read_config, write_chain};
use super::join::join;
use super::ports::Remote;
use super::renewal::{RenewalError, Which, renew};
use super::sequence_tests::{Bundle, Cluster, Host, cluster_of_one, join_command};
use crate::model::join::RenewRequest;
use crate::model::node_config::{NodeConfig, Role};
use crate::pki::{self, Authority, CertificateInfo, NodeKey, NodeNames};
use crate::sys::clock;
use crate::sys::files;
use crate::sys::tls::{TlsFiles, TlsIdentity};

fn servers() -> [SocketAddr; 1] {
    ["10.77.0.11:6443".parse().expect("address")]
}

fn days_ago(days: i64) -> Timestamp {
    clock::now() - SignedDuration::from_hours(days * 24)
}

fn held(config: &NodeConfig, name: &str) -> CertificateInfo {
    let path = config.paths.pki().join(format!("{name}.crt"));
    pki::describe(&files::read_text(&path).expect("reads"), name).expect("a certificate")
}

/// Signs the node's certificate as it would have been so long ago.
fn age(config: &NodeConfig, authority: &Authority, days: i64) {
    let pki = config.paths.pki();
    let key = NodeKey::load_or_create(&pki.join("node.key")).expect("key");
    let request = key.request().expect("request");
    let signed = authority.sign_node(&request, &NodeNames::of(config), days_ago(days));
    let signed = signed.expect("signs");
    write_chain(&pki.join("node.crt"), &signed, authority.certificate_pem()).expect("writes");
}

/// A second node, of which the first one's authority is known; it goes as a worker.
async fn second() -> (Arc<Cluster>, [Host; 2], Authority, NodeConfig) {
    let (cluster, first, token) = cluster_of_one().await;
    let host = Host::new(&cluster);
    let joined = join(&join_command(&host, &token), &host.tools(Bundle::default(), 0)).await;
    joined.expect("joins");
    let authority = Authority::load(&first.paths().pki()).expect("authority");
    let mut config = read_config(&host.paths().node_config()).expect("node.yaml");
    config.roles = vec![Role::Worker];
    (cluster, [first, host], authority, config)
}

#[tokio::test]
async fn a_worker_that_was_off_for_400_days_gets_a_certificate_for_its_key() {
    let (cluster, _hosts, authority, config) = second().await;
    let key = held(&config, "node").key_fingerprint;
    age(&config, &authority, 400);
    assert!(held(&config, "node").days_left(clock::now()) < 0);
    let servers = servers();
    let ask = || renew(&config, Which::Due, &servers, cluster.as_ref(), clock::now());
    let renewed = ask().await.expect("renews");
    assert_eq!(renewed, ["node"], "it holds no administrator's");
    let fresh = held(&config, "node");
    assert!(fresh.days_left(clock::now()) >= 364 && fresh.key_fingerprint == key);
    let pki = config.paths.pki();
    let [authority, certificate, key] = ["ca.crt", "node.crt", "node.key"].map(|f| pki.join(f));
    TlsIdentity::load(TlsFiles { authority, certificate, key }).expect("fits the key");
    assert_eq!(ask().await.expect("looks"), Vec::<String>::new());
}

#[tokio::test]
async fn only_the_key_that_was_admitted_gets_one_and_only_while_it_is_a_node() {
    let (cluster, _hosts, authority, config) = second().await;
    age(&config, &authority, 300);
    let none = renew(&config, Which::Due, &[], cluster.as_ref(), clock::now()).await;
    let none = none.expect_err("nobody to ask").to_string();
    assert!(none.contains("none is known"), "{none}");
    let path = config.paths.pki().join("node.key");
    let own = files::read(&path).expect("reads");
    files::remove_file(&path).expect("removes");
    let without = renew(&config, Which::Due, &servers(), cluster.as_ref(), clock::now()).await;
    assert!(without.is_err() && !path.exists(), "no key is made for it");
    NodeKey::load_or_create(&path).expect("another key");
    let stranger = renew(&config, Which::Due, &servers(), cluster.as_ref(), clock::now()).await;
    let Err(RenewalError::Refused { reason }) = stranger else { panic!("{stranger:?}") };
    assert!(reason.contains("no node of this name with this key"), "{reason}");
    files::write_atomic(&path, &own, 0o600).expect("writes");
    let mut other = config.clone();
    other.node_name = "a3".into();
    let other = renew(&other, Which::Due, &servers(), cluster.as_ref(), clock::now()).await;
    let Err(RenewalError::Refused { reason }) = other else { panic!("{other:?}") };
    assert!(reason.contains("no node of this name with this key"), "{reason}");
    assert!(held(&config, "node").is_due(clock::now()), "nothing was written");
}

#[tokio::test]
async fn a_control_node_renews_its_own_and_the_administrators_by_itself() {
    let (cluster, host, _) = cluster_of_one().await;
    let config = read_config(&host.paths().node_config()).expect("node.yaml");
    let before = ["node", "admin"].map(|name| held(&config, name));
    let kubeconfig = files::read_text(&config.paths.admin_kubeconfig()).expect("reads");
    let nothing = renew(&config, Which::Due, &[], cluster.as_ref(), clock::now()).await;
    assert_eq!(nothing.expect("looks"), Vec::<String>::new());
    let all = renew(&config, Which::All, &[], cluster.as_ref(), clock::now()).await;
    assert_eq!(all.expect("renews"), ["node", "admin"]);
    for old in &before {
        assert_ne!(held(&config, &old.name).serial, old.serial, "{}", old.name);
    }
    assert_ne!(files::read_text(&config.paths.admin_kubeconfig()).expect("reads"), kubeconfig);
    assert_eq!(held(&config, "node").key_fingerprint, before[0].key_fingerprint);
}

/// Two readers that begin at different places would read the node's key out of what the other
/// signs for.
#[tokio::test]
async fn a_request_that_holds_two_is_not_signed_for_the_key_that_nobody_proved() {
    let (cluster, [_first, _second], _, config) = second().await;
    let dir = tempfile::tempdir().expect("temp dir");
    let thief = NodeKey::load_or_create(&dir.path().join("thief")).expect("key");
    let own = NodeKey::load(&config.paths.pki().join("node.key")).expect("key");
    let (stolen, proven) = (own.request().expect("request"), thief.request().expect("request"));
    for text in [
        format!("x{proven}{stolen}"),
        format!("{stolen}{proven}"),
        format!("{proven}{stolen}"),
        format!("x{stolen}{proven}"),
    ] {
        let request = RenewRequest { node_name: "a2".into(), certificate_request: text };
        let Ok(answer) = cluster.renew(servers()[0], "", &request).await else { continue };
        let signed = pki::describe(&answer.certificate, "node").expect("a certificate");
        assert_eq!(signed.key_fingerprint, own.fingerprint(), "the thief got one");
    }
}

#[test]
fn it_is_due_when_two_thirds_are_over() {
    let at = |days: i64| Timestamp::from_second(days * 86_400).expect("a time");
    let info = CertificateInfo {
        name: "node".into(),
        path: None,
        subject: String::new(),
        serial: String::new(),
        not_before: at(0),
        not_after: at(300),
        key_fingerprint: String::new(),
    };
    assert!(!info.is_due(at(199)) && info.is_due(at(200)) && info.is_due(at(500)));
    assert!(info.is_due(at(-1)), "it was signed while the clock was ahead");
}
