//! Simulated nodes on a real lab: how fast pods are placed, and what the API does meanwhile.
//!
//! What is simulated is the agents alone, by their own requests to the API of three real
//! masters; controllers, scheduler, API and store know nothing of it. Everything runs on one
//! machine, so the fleet takes its part of the cores, too.

mod clients;
mod fleet;
mod probe;

use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use holdfast::client::{HttpApi, ObjectApi, ResourceRef};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Value, json};

pub(crate) use clients::Clients;
use fleet::Fleet;
use probe::Probe;

/// Deployments that the pods are divided among.
const DEPLOYMENTS: usize = 30;
/// How long all pods may take to be seen by their nodes.
const PATIENCE: Duration = Duration::from_secs(900);
/// Where the pods are.
const NAMESPACE: &str = "load";
const DEPLOYMENT: ResourceRef = ResourceRef::of::<Deployment>(true);

/// One line of the table: what, measured, goal.
pub(crate) type Line = (String, String, &'static str);

/// Registers the nodes, has the pods made and waits until all of them run.
pub(crate) fn measure(
    kubeconfig: &Path,
    lab: &Path,
    nodes: usize,
    pods: usize,
    resident: impl Fn() -> u64,
) -> Result<Vec<Line>, anyhow::Error> {
    holdfast::sys::tls::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let clients = Clients::of(kubeconfig, lab, nodes.div_ceil(20).max(3))?;
        let api = clients.of_turn(0).clone();
        let object = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE}});
        api.create(&ResourceRef::of::<Namespace>(false), None, &object).await?;
        let mut lines = Vec::new();
        let names: Vec<String> = (0..nodes).map(|number| format!("sim-{number:05}")).collect();
        let own = clients.of_nodes(&names)?;
        let started = Instant::now();
        let fleet = Fleet::register(names, own).await?;
        let each = started.elapsed() / u32::try_from(nodes)?;
        lines.push((format!("{nodes} nodes register, each"), milliseconds(each), "–"));
        let before = resident();
        let probe = Probe::start(&clients).await?;
        let rounds =
            [("", pods, json!([]), "≥ 500 /s"), (" spread", pods / 3, spread(), "≥ 200 /s")];
        for (how, pods, constraints, goal) in rounds {
            let rate = round(&api, &fleet, how.trim(), pods, &constraints).await?;
            lines.push((format!("{pods} pods{how}: placed"), format!("{rate:.0} /s"), goal));
        }
        lines.extend(probe.end().await?);
        let grown = resident().saturating_sub(before);
        let each = grown as f64 / (pods + pods / 3) as f64;
        let text = format!("{:.0} MB; {each:.1} kB for each pod", grown as f64 / 1e3);
        lines.push(("memory of the fullest master, grown by".to_owned(), text, "–"));
        Ok(lines)
    })
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

/// Evenly over the centers.
fn spread() -> Value {
    json!([{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"round": "spread"}}}])
}

/// Pods a second, from the first that a node sees to the last.
async fn round(
    api: &HttpApi,
    fleet: &Fleet,
    name: &str,
    pods: usize,
    constraints: &Value,
) -> Result<f64, anyhow::Error> {
    let name = if name.is_empty() { "plain" } else { name };
    let seen = fleet.seen();
    let started = Instant::now();
    let replicas = pods / DEPLOYMENTS;
    let all = (0..DEPLOYMENTS).map(|turn| {
        let extra = usize::from(turn < pods % DEPLOYMENTS);
        deployment(&format!("{name}-{turn}"), name, replicas + extra, constraints)
    });
    let all: Vec<Value> = all.collect();
    try_join_all(all.iter().map(|one| api.create(&DEPLOYMENT, Some(NAMESPACE), one))).await?;
    let (first, last) = fleet.until(seen, seen + pods, started, PATIENCE).await?;
    Ok(pods as f64 / (last - first).as_secs_f64())
}

fn deployment(name: &str, round: &str, replicas: usize, constraints: &Value) -> Value {
    let labels = json!({"app": name, "round": round});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "nodeSelector": {fleet::LABEL: "true"},
                    "topologySpreadConstraints": constraints,
                    "containers": [{"name": "app", "image": "holdfast/pause:1",
                        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}],
                },
            },
        },
    })
}
