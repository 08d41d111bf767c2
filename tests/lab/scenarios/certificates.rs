//! Certificates that are renewed while nodes run, and one that ended while its node was off.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast::install::apply::read_config;
use holdfast::pki::{Authority, NodeKey, NodeNames, describe};
use holdfast::sys::{clock, files, tls_keys};
use jiff::SignedDuration;
use libtest_mimic::Failed;

use crate::harness::{
    Lab, Outcome, PATIENCE, contains, ensure, eventually, failed, output, run, succeed, text,
};
use crate::scenarios::NODES;

const PKI: &str = "etc/holdfast/pki";

fn certificate(root: &Path) -> Result<String, Failed> {
    let path = root.join(PKI).join("node.crt");
    files::read_text(&path).map_err(|error| failed("node.crt", error))
}

/// Days that the certificate in a host's file lasts.
pub(super) fn days_left(root: &Path) -> Result<i64, Failed> {
    let info = describe(&certificate(root)?, "node").map_err(|error| failed("node.crt", error))?;
    Ok(info.days_left(clock::now()))
}

/// Makes a node's certificate as if it had been signed so many days ago; `master` holds the
/// cluster's authority.
pub(super) fn age(root: &Path, master: &Path, days: i64) -> Outcome {
    let bad = |error: &dyn std::fmt::Display| failed("an old certificate", error.to_string());
    let config = read_config(&root.join("etc/holdfast/node.yaml")).map_err(|e| bad(&e))?;
    let authority = Authority::load(&master.join(PKI)).map_err(|e| bad(&e))?;
    let key = NodeKey::load_or_create(&root.join(PKI).join("node.key")).map_err(|e| bad(&e))?;
    let request = key.request().map_err(|e| bad(&e))?;
    let then = clock::now() - SignedDuration::from_hours(days * 24);
    let signed = authority.sign_node(&request, &NodeNames::of(&config), then);
    let chain = signed.map_err(|e| bad(&e))? + authority.certificate_pem();
    files::write_atomic(&root.join(PKI).join("node.crt"), chain.as_bytes(), 0o644)
        .map_err(|e| bad(&e))
}

/// The certificate that a node shows, DER; each call is a handshake of its own.
fn shown(lab: &Lab, node: &str) -> Result<Vec<u8>, Failed> {
    let facts = lab.facts()?;
    let port = facts["forwards"]["hosts"][node]["api"].as_u64().ok_or("no port of the API")?;
    run(async {
        let client = reqwest::Client::builder()
            .tls_certs_only([])
            .tls_danger_accept_invalid_certs(true)
            .tls_info(true)
            .no_proxy()
            .build()
            .map_err(|error| failed("client", error))?;
        let asked = client.get(format!("https://127.0.0.1:{port}/livez")).send().await;
        let answer = asked.map_err(|error| failed("GET /livez", error))?;
        let info = answer.extensions().get::<reqwest::tls::TlsInfo>();
        let shown = info.and_then(|info| info.peer_certificate()).ok_or("no certificate")?;
        Ok(shown.to_vec())
    })
}

fn in_file(lab: &Lab, node: &str) -> Result<Vec<u8>, Failed> {
    let text = certificate(&lab.root(node))?;
    let all = tls_keys::certificates(&text).map_err(|error| failed("node.crt", error))?;
    Ok(all[0].to_vec())
}

/// Waits until the node shows what is in its file, and that is another one than before.
fn shows_another(lab: &Lab, node: &str, before: &[u8]) -> Outcome {
    eventually(&format!("{node} shows a new certificate"), PATIENCE, || {
        let (shown, written) = (shown(lab, node)?, in_file(lab, node)?);
        let days = days_left(&lab.root(node))?;
        let fresh = shown == written && shown != before && days > 300;
        ensure(fresh, || format!("{days} days left, from its file: {}", shown == written))
    })?;
    let root = lab.root(node);
    let config = read_config(&root.join("etc/holdfast/node.yaml"));
    let address = config.map_err(|error| failed("node.yaml", error))?.address;
    let engine = root.join(format!("etc/docker/certs.d/{address}:5000/client.cert"));
    eventually(&format!("the engine of {node} has it too"), PATIENCE, || {
        let engine = files::read_text(&engine).map_err(|error| failed("client.cert", error))?;
        ensure(engine == certificate(&root)?, || "it has another one".into())
    })
}

pub(crate) fn renewed_while_serving(lab: &Lab) -> Outcome {
    let before = NODES.map(|node| in_file(lab, node));
    let over = AtomicBool::new(false);
    let (asked, done) = std::thread::scope(|scope| {
        // Each is a program of its own, and so a new connection.
        let asking = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::SeqCst) {
                for node in NODES {
                    let answer = output(&mut lab.on(node, &["holdfast", "get", "nodes"]))?;
                    // A change of leader on a busy machine (75, try again) is another matter.
                    let done = [Some(0), Some(75)].contains(&answer.status.code());
                    let said = text(&answer);
                    ensure(done && !said.contains("certificate"), || said.clone())?;
                    count += usize::from(answer.status.success());
                }
            }
            Ok::<usize, Failed>(count)
        });
        let done = rotate_and_age(lab, before);
        over.store(true, Ordering::SeqCst);
        (asking.join(), done)
    });
    done?;
    let count = asked.map_err(|_| "the asking one panicked")??;
    ensure(count >= NODES.len(), || "nothing was asked meanwhile".into())?;
    let listed = succeed(&mut lab.on("b1", &["holdfast", "cert", "list"]))?;
    contains("cert list", &listed, &["DAYS LEFT", "system:node:b1", "system:masters", "364"])?;
    lab.settled(3)
}

fn rotate_and_age(lab: &Lab, before: [Result<Vec<u8>, Failed>; 3]) -> Outcome {
    for (node, before) in NODES.iter().zip(before) {
        let said = succeed(&mut lab.on(node, &["holdfast", "certificate", "rotate"]))?;
        contains("certificate rotate", &said, &["node: renewed, until", "admin: renewed, until"])?;
        shows_another(lab, node, &before?)?;
    }
    // Of this one more than two thirds are over, so it is replaced without being asked.
    let (root, before) = (lab.root("b1"), in_file(lab, "b1")?);
    age(&root, &root, 300)?;
    shows_another(lab, "b1", &before)
}
