//! Three masters: ready, serving, and still all there after kills.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use holdfast::client::{HttpApi, ObjectApi, ResourceRef};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use crate::harness::{Lab, Outcome, PATIENCE, ensure, eventually, failed, succeed};
use crate::scenarios::NODES;

pub(crate) fn three_are_ready(lab: &Lab) -> Outcome {
    lab.settled(3)?;
    let status = lab.status("b1")?;
    ensure(status["quorum"] == true, || status.to_string())?;
    let text = succeed(lab.command("status").args(["-o", "json"]))?;
    let document: Value = serde_json::from_str(&text).map_err(|e| failed("lab status", e))?;
    ensure(document["outboundPackets"] == 0, || document.to_string())
}

/// Asks the sample's Service address from inside a host.
pub(crate) fn ask_sample(
    lab: &Lab,
    node: &str,
    address: &str,
) -> Result<Value, libtest_mimic::Failed> {
    let url = format!("http://{address}");
    let text = succeed(&mut lab.on(node, &["holdfast", "probe", "fetch", &url]))?;
    serde_json::from_str(&text).map_err(|error| failed(format!("{node}: {text}"), error))
}

pub(crate) fn deploy_sample(lab: &Lab) -> Result<String, libtest_mimic::Failed> {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/bundle/samples/hello.yaml");
    succeed(&mut lab.holdfast(&["apply", "-f", sample])?)?;
    lab.pods_ready("hello", 3, |_| true)?;
    let services = lab.objects("services")?;
    let hello = services.iter().find(|item| item["metadata"]["name"] == "hello");
    let address = hello.and_then(|item| item["spec"]["clusterIP"].as_str().map(str::to_owned));
    address.ok_or_else(|| "the sample's Service has no address".into())
}

pub(crate) fn sample_answers(lab: &Lab) -> Outcome {
    let address = deploy_sample(lab)?;
    let nodes: BTreeSet<String> = lab
        .pods_ready("hello", 3, |_| true)?
        .iter()
        .map(|pod| pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned())
        .collect();
    ensure(nodes.len() == 3, || format!("replicas are not spread over nodes: {nodes:?}"))?;
    for node in NODES {
        let mut answered = BTreeSet::new();
        eventually(&format!("{node} reaches all replicas"), PATIENCE, || {
            let answer = ask_sample(lab, node, &address)?;
            answered.insert(answer["node"].as_str().unwrap_or_default().to_owned());
            ensure(answered.len() == 3, || format!("only {answered:?} answered"))
        })?;
    }
    Ok(())
}

pub(crate) fn names_resolve(lab: &Lab) -> Outcome {
    let services = lab.objects("services")?;
    let hello = services.iter().find(|item| item["metadata"]["name"] == "hello");
    let address = hello.and_then(|item| item["spec"]["clusterIP"].as_str()).ok_or("no address")?;
    for name in ["hello", "hello.default", "hello.default.svc.cluster.local", "kubernetes"] {
        eventually(&format!("a pod resolves {name}"), PATIENCE, || {
            let found = ask_sample(lab, "a1", &format!("{address}/lookup?name={name}"))?;
            let expected = if name == "kubernetes" { "10.96.0.1" } else { address };
            ensure(found["addresses"][0] == expected, || found.to_string())
        })?;
    }
    let outside = ask_sample(lab, "a1", &format!("{address}/lookup?name=example.com"))?;
    ensure(outside["addresses"].as_array().is_none_or(Vec::is_empty), || outside.to_string())
}

/// Creates config maps one after another until told to stop; keeps what was acknowledged.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<(String, Instant)>>,
}

impl Writer {
    pub(crate) fn start(lab: &Lab, prefix: &'static str) -> Result<Self, libtest_mimic::Failed> {
        let api = HttpApi::from_kubeconfig(&lab.kubeconfig()?)
            .map_err(|error| failed("client", error))?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made");
            let resource = ResourceRef::of::<ConfigMap>(true);
            let mut acknowledged = Vec::new();
            let mut number = 0_u32;
            while !seen.load(Ordering::Relaxed) {
                let name = format!("{prefix}-{number}");
                number += 1;
                let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {"name": name, "labels": {"writer": prefix}},
                    "data": {"n": number.to_string()}});
                let write = runtime.block_on(async {
                    let create = api.create(&resource, Some("default"), &object);
                    tokio::time::timeout(Duration::from_secs(10), create).await
                });
                if matches!(write, Ok(Ok(_))) {
                    acknowledged.push((name, Instant::now()));
                }
            }
            acknowledged
        });
        Ok(Self { stop, thread })
    }

    pub(crate) fn finish(self) -> Result<Vec<(String, Instant)>, libtest_mimic::Failed> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the writer panicked".into())
    }
}

/// Every acknowledged name is still there.
pub(crate) fn nothing_lost(lab: &Lab, acknowledged: &[(String, Instant)]) -> Outcome {
    let present: BTreeSet<String> = eventually("the config maps can be listed", PATIENCE, || {
        let list = lab.objects("configmaps")?;
        Ok(list
            .iter()
            .filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned))
            .collect())
    })?;
    let lost: Vec<&String> =
        acknowledged.iter().map(|(name, _)| name).filter(|name| !present.contains(*name)).collect();
    ensure(lost.is_empty(), || {
        format!("{} of {} acknowledged writes are lost: {lost:?}", lost.len(), acknowledged.len())
    })
}

pub(crate) fn clean_up(lab: &Lab, written: &[(String, Instant)]) -> Outcome {
    for names in written.chunks(100) {
        let mut arguments = vec!["delete", "configmap"];
        arguments.extend(names.iter().map(|(name, _)| name.as_str()));
        succeed(&mut lab.holdfast(&arguments)?)?;
    }
    Ok(())
}

pub(crate) fn leader_killed(lab: &Lab) -> Outcome {
    deploy_sample(lab)?;
    let leader = lab.leader("a1")?;
    let writer = Writer::start(lab, "one-killed")?;
    lab.fault("kill", &leader)?;
    let killed = Instant::now();
    let survivor = NODES.into_iter().find(|node| *node != leader).unwrap_or("a1");
    eventually("another leader", PATIENCE, || {
        let now = lab.leader(survivor)?;
        ensure(now != leader, || format!("{now} still leads"))
    })?;
    lab.pods_ready("hello", 3, |node| node != leader)?;
    lab.fault("start", &leader)?;
    lab.settled(3)?;
    let acknowledged = writer.finish()?;
    let after = acknowledged.iter().filter(|(_, at)| *at > killed).count();
    ensure(after > 0, || "no write was acknowledged after the kill".into())?;
    nothing_lost(lab, &acknowledged)?;
    clean_up(lab, &acknowledged)
}

pub(crate) fn all_killed(lab: &Lab) -> Outcome {
    let writer = Writer::start(lab, "all-killed")?;
    eventually("the writer is under way", PATIENCE, || {
        let list = lab.objects("configmaps")?;
        let count =
            list.iter().filter(|i| i["metadata"]["labels"]["writer"] == "all-killed").count();
        ensure(count > 20, || format!("{count} written"))
    })?;
    for node in NODES {
        lab.fault("kill", node)?;
    }
    let acknowledged = writer.finish()?;
    for node in NODES {
        lab.fault("start", node)?;
    }
    lab.settled(3)?;
    nothing_lost(lab, &acknowledged)?;
    clean_up(lab, &acknowledged)?;
    lab.pods_ready("hello", 3, |_| true).map(|_| ())
}
