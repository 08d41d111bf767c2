//! What certificates must say, and that TLS accepts exactly the right ones.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::{ClientConnection, ServerConfig, ServerConnection};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::*;
use crate::sys::{files, tls_keys};

fn now() -> Timestamp {
    crate::sys::clock::now()
}

fn names() -> NodeNames {
    NodeNames {
        node_name: "a1".into(),
        address: "10.77.0.11".parse().expect("address"),
        api_address: "10.96.0.1".parse().expect("address"),
        cluster_domain: "cluster.local".into(),
        control: true,
    }
}

fn node(authority: &Authority, dir: &std::path::Path) -> (String, String) {
    let path = dir.join("node.key");
    let key = NodeKey::load_or_create(&path).expect("key");
    let request = key.request().expect("request");
    assert_eq!(key_fingerprint(&request).expect("fingerprint"), key.fingerprint());
    let certificate = authority.sign_node(&request, &names(), now()).expect("signs");
    (certificate, files::read_text(&path).expect("key file"))
}

#[test]
fn a_node_certificate_carries_the_servers_names_only() {
    let dir = tempfile::tempdir().expect("temp dir");
    let authority = Authority::create("lab", now()).expect("authority");
    let (certificate, _) = node(&authority, dir.path());
    let ders = tls_keys::certificates(&certificate).expect("pem");
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&ders[0]).expect("der");
    assert_eq!(
        parsed.subject().to_string(),
        "O=system:nodes, CN=system:node:a1, OU=holdfast:control"
    );
    let mut found = Vec::new();
    for extension in parsed.extensions() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
            for name in &names.general_names {
                found.push(match name {
                    GeneralName::DNSName(name) => (*name).to_owned(),
                    GeneralName::IPAddress(bytes) => hex::encode(bytes),
                    other => panic!("unexpected name {other:?}"),
                });
            }
        }
    }
    assert_eq!(
        found,
        [
            "a1",
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "0a4d000b",
            "7f000001",
            "00000000000000000000000000000001",
            "0a600001",
        ]
    );
    let usage = parsed.extended_key_usage().expect("parses").expect("has usages").value;
    assert!(usage.server_auth && usage.client_auth);
}

#[test]
fn the_administrator_is_a_master_and_no_server() {
    let authority = Authority::create("lab", now()).expect("authority");
    let (certificate, _) = authority.issue_admin(now()).expect("issues");
    let info = describe(&certificate, "admin").expect("reads");
    assert_eq!(info.subject, "O=system:masters, CN=admin");
    assert!((364..=365).contains(&info.days_left(now())), "{}", info.days_left(now()));
}

#[test]
fn saved_keys_are_private_and_load_again() {
    let dir = tempfile::tempdir().expect("temp dir");
    let pki = dir.path().join("pki");
    let first = Authority::load_or_create(&pki, "lab", now()).expect("creates");
    let again = Authority::load_or_create(&pki, "lab", now()).expect("loads");
    assert_eq!(first.fingerprint(), again.fingerprint());
    let info = files::inspect(&pki.join("ca.key")).expect("looks").expect("exists");
    assert_eq!(info.mode, 0o600);
    let other = Authority::create("other", now()).expect("authority");
    let mixed = Authority::from_pem(first.certificate_pem(), &other.key_pem());
    assert!(mixed.expect_err("mixed").to_string().contains("another one"));
    let listed = certificates(&pki).expect("lists");
    assert_eq!(listed.len(), 1);
    assert!(listed[0].days_left(now()) > 3_600);
}

/// Runs a handshake in memory and returns the client's error, if any.
fn handshake(client: rustls::ClientConfig, server: ServerConfig) -> Result<(), rustls::Error> {
    let name = "a1".try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("writes to memory");
        }
        let mut reader = &wire[..];
        while !reader.is_empty() {
            server.read_tls(&mut reader).expect("reads from memory");
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("writes to memory");
        }
        let mut reader = &wire[..];
        while !reader.is_empty() {
            client.read_tls(&mut reader).expect("reads from memory");
            client.process_new_packets()?;
        }
    }
    Ok(())
}

fn server(authority: &Authority, certificate: &str, key: &str) -> ServerConfig {
    let mut chain = tls_keys::certificates(certificate).expect("pem");
    chain.extend(tls_keys::certificates(authority.certificate_pem()).expect("pem"));
    ServerConfig::builder_with_provider(tls_keys::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, tls_keys::private_key(key).expect("key"))
        .expect("server config")
}

#[test]
fn tls_accepts_the_authority_and_refuses_a_foreign_one() {
    let dir = tempfile::tempdir().expect("temp dir");
    let authority = Authority::create("lab", now()).expect("authority");
    let foreign = Authority::create("lab", now()).expect("authority");
    let (certificate, key) = node(&authority, dir.path());
    let trusting = tls_keys::client(authority.certificate_pem(), None).expect("client");
    handshake(trusting, server(&authority, &certificate, &key)).expect("trusted");
    let wrong = tls_keys::client(foreign.certificate_pem(), None).expect("client");
    handshake(wrong, server(&authority, &certificate, &key)).expect_err("foreign");

    let (pinned, seen) = tls_keys::pinned_client(authority.fingerprint()).expect("client");
    handshake(pinned, server(&authority, &certificate, &key)).expect("pinned");
    let der = seen.authority().expect("kept");
    assert_eq!(tls_keys::fingerprint(&der), authority.fingerprint());

    let (pinned, seen) = tls_keys::pinned_client(foreign.fingerprint()).expect("client");
    let error = handshake(pinned, server(&authority, &certificate, &key)).expect_err("foreign");
    assert!(error.to_string().contains(tls_keys::FOREIGN_AUTHORITY), "{error}");
    assert!(seen.authority().is_none());

    // The right authority's certificate beside a leaf that another one signed.
    let (forged, key) = node(&foreign, dir.path());
    let (pinned, _) = tls_keys::pinned_client(authority.fingerprint()).expect("client");
    handshake(pinned, server(&authority, &forged, &key)).expect_err("forged");
}

#[test]
fn a_token_survives_its_text_form_and_bad_ones_are_refused() {
    let authority = Authority::create("lab", now()).expect("authority");
    let token = JoinToken::generate(authority.fingerprint());
    let text = token.to_string();
    assert_eq!(text.parse::<JoinToken>(), Ok(token.clone()));
    let (id, hash) = JoinToken::split_credential(&token.credential()).expect("splits");
    assert_eq!((id, hash), (token.id.clone(), token.secret_hash()));
    assert!(!format!("{token:?}").contains(&token.credential()));
    for bad in ["", "hf1.a.b.c", "hf1.a.b", &text[..text.len() - 1], "x.y.z.w"] {
        assert_eq!(bad.parse::<JoinToken>(), Err(TokenError::Form), "{bad}");
    }
    let newer = text.replacen("hf1", "hf2", 1);
    assert_eq!(newer.parse::<JoinToken>(), Err(TokenError::Version { found: "hf2".into() }));
}

#[test]
fn a_kubeconfig_embeds_everything() {
    let text = kubeconfig(&KubeconfigInput {
        cluster_name: "lab",
        server: "https://10.0.0.1:6443",
        ca_pem: "CA",
        user: "admin",
        certificate_pem: "CERT",
        key_pem: "KEY",
    });
    let document: serde_json::Value = serde_json::from_str(&text).expect("json");
    assert_eq!(document["clusters"][0]["cluster"]["certificate-authority-data"], "Q0E=");
    assert_eq!(document["users"][0]["user"]["client-key-data"], "S0VZ");
    assert_eq!(document["current-context"], "admin@lab");
}

#[test]
fn an_etcd_clients_certificate_names_its_user_and_its_group_only() {
    let authority = Authority::create("lab", now()).expect("authority");
    let (certificate, _) = authority.issue_etcd_client("patroni", now()).expect("issued");
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).expect("pem");
    let subject = pem.parse_x509().expect("x509").subject().to_string();
    assert_eq!(subject, "O=holdfast:etcd-clients, CN=patroni");
    for bad in ["", "admin", "ca", "a/b", ".hidden", "system:node:a1", "a b"] {
        check_client_name(bad).expect_err(bad);
    }
}
