//! What is made and deleted many times leaves nothing behind on any node.

use std::fs;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::harness::{Lab, Outcome, PATIENCE, brief, ensure, eventually, failed, succeed};
use crate::host_state::HostState;
use crate::scenarios::NODES;

/// How many pods are made and deleted; `HOLDFAST_LEAK_PODS=1000` for the whole of it.
const PODS: usize = 24;
/// So many at a time, over three nodes.
const AT_ONCE: usize = 24;
const NAMESPACE: &str = "leaks";

/// What goes on living on a host while pods come and go: the state, what the programs say,
/// images, and where they put what they are about to write.
const LIVES: [&str; 15] = [
    // Copies for pods of others, which move as they please.
    "/agent/configmaps/default_",
    "/var/lib/holdfast/control-nodes.json",
    // Who gave an address back when; who holds one is compared apart.
    "/var/lib/holdfast/network/addresses.json",
    "/var/lib/holdfast/store",
    "/var/lib/holdfast/registry",
    "/var/lib/holdfast/log/",
    ".log ",
    "/image/overlay2",
    "/overlay2 ",
    "/buildkit",
    "/containerd/",
    "/network/files",
    "/tmp ",
    "/volumes",
    "process ",
];

/// Everything that a pod may take of a node, in one round with a number of its own.
fn manifest(round: usize, pods: usize) -> String {
    let name = format!("leak-{round}");
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{round: \"{round}\"}}\n\
         ---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{a: b}}\n\
         ---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{type: NodePort, selector: {{app: {name}}}, ports: [{{port: 80, targetPort: 8080}}]}}\n\
         ---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\n\
         spec: {{podSelector: {{matchLabels: {{app: {name}}}}}, ingress: [{{from: [{{podSelector: {{}}}}]}}]}}\n\
         ---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\n\
         spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}\n\
         ---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  \
         terminationGracePeriodSeconds: 0\n  containers:\n    - name: main\n      image: hello:1\n      \
         volumeMounts: [{{name: kept, mountPath: /kept}}]\n  \
         volumes: [{{name: kept, persistentVolumeClaim: {{claimName: {name}}}}}]\n\
         ---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  \
         replicas: {}\n  selector: {{matchLabels: {{app: {name}, kind: many}}}}\n  template:\n    \
         metadata: {{labels: {{app: {name}, kind: many}}}}\n    spec:\n      \
         terminationGracePeriodSeconds: 0\n      \
         topologySpreadConstraints: [{{maxSkew: 1, topologyKey: kubernetes.io/hostname, \
         whenUnsatisfiable: DoNotSchedule, labelSelector: {{matchLabels: {{app: {name}, kind: many}}}}}}]\n      \
         containers:\n        - name: main\n          image: hello:1\n          \
         volumeMounts: [{{name: map, mountPath: /map}}, {{name: secret, mountPath: /secret}}, \
         {{name: memory, mountPath: /memory}}, {{name: empty, mountPath: /empty}}]\n      \
         volumes: [{{name: map, configMap: {{name: {name}}}}}, {{name: secret, secret: {{secretName: {name}}}}}, \
         {{name: memory, emptyDir: {{medium: Memory}}}}, {{name: empty, emptyDir: {{}}}}]\n",
        pods.saturating_sub(1)
    )
}

/// Makes so many pods and all that belongs to them, sees them Ready, and deletes it all.
fn round(lab: &Lab, number: usize, pods: usize) -> Outcome {
    let place = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let file = place.path().join("round.yaml");
    fs::write(&file, manifest(number, pods)).map_err(|error| failed("manifest", error))?;
    let path = file.to_string_lossy().into_owned();
    succeed(&mut lab.holdfast(&["apply", "-n", NAMESPACE, "-f", &path])?)?;
    let name = format!("leak-{number}");
    lab.pods_ready(&name, pods, |_| true)?;
    for kind in ["deployment", "pod", "pvc", "networkpolicy", "service", "secret", "configmap"] {
        succeed(&mut lab.holdfast(&["delete", kind, &name, "-n", NAMESPACE])?)?;
    }
    eventually("they are gone", PATIENCE, || {
        let left: Vec<_> = lab.objects("pods")?;
        let left: Vec<_> =
            left.into_iter().filter(|pod| pod["metadata"]["namespace"] == NAMESPACE).collect();
        ensure(left.is_empty(), || brief(&left))
    })
}

/// Who holds a pod's address on the node.
fn holders(lab: &Lab, node: &str) -> Result<Value, Failed> {
    let path = lab.root(node).join("var/lib/holdfast/network/addresses.json");
    let text = fs::read_to_string(path).map_err(|error| failed("the ledger", error))?;
    let ledger: Value = serde_json::from_str(&text).map_err(|e| failed(text.clone(), e))?;
    ensure(ledger["addresses"]["held"].is_object(), || text)?;
    Ok(ledger["addresses"]["held"].clone())
}

/// What the API still has of a namespace's objects.
fn objects(lab: &Lab) -> Result<usize, Failed> {
    let mut count = 0;
    for kind in ["endpointslices", "services", "networkpolicies", "persistentvolumes", "pods"] {
        let all = lab.objects(kind)?;
        let ours = all.iter().filter(|object| {
            let claim = &object["spec"]["claimRef"]["namespace"];
            object["metadata"]["namespace"] == NAMESPACE || claim == NAMESPACE
        });
        count += ours.count();
    }
    Ok(count)
}

pub(crate) fn nothing_leaks(lab: &Lab) -> Outcome {
    let asked = std::env::var("HOLDFAST_LEAK_PODS").ok();
    let pods = match asked {
        Some(text) => text.parse().map_err(|error| failed("HOLDFAST_LEAK_PODS", error))?,
        None => PODS,
    };
    let place = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let file = place.path().join("namespace.yaml");
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n");
    fs::write(&file, namespace).map_err(|error| failed("manifest", error))?;
    succeed(&mut lab.holdfast(&["apply", "-f", &file.to_string_lossy()])?)?;
    // The first round brings the images and makes the directories that stay.
    round(lab, 0, NODES.len() + 1)?;
    let look = |node| Ok::<_, Failed>(HostState::of(lab, node)?.without(&LIVES));
    let mut before = Vec::new();
    for node in NODES {
        let mut last = look(node)?;
        before.push(eventually("nothing of the first round is left", PATIENCE, || {
            let state = look(node)?;
            let changes = std::mem::replace(&mut last, state.clone()).changes(&state);
            ensure(changes.is_empty(), || changes.join("\n"))?;
            let left = ["leak-0", "leaks_"].map(|text| state.with(text)).concat();
            ensure(left.is_empty(), || format!("{left:?}"))?;
            Ok((state, holders(lab, node)?))
        })?);
    }
    let mut made = 0;
    let mut number = 0;
    while made < pods {
        number += 1;
        let now = AT_ONCE.min(pods - made).max(2);
        round(lab, number, now)?;
        made += now;
    }
    println!("t55: {made} pods in {number} rounds");
    for (node, before) in NODES.into_iter().zip(&before) {
        eventually(&format!("{node} has nothing more than before {made} pods"), PATIENCE, || {
            // What went meanwhile was of the first round, or of others before it.
            let mut changes = before.0.changes(&look(node)?);
            changes.retain(|line| line.starts_with('+'));
            ensure(changes.is_empty(), || changes.join("\n"))?;
            let holders = holders(lab, node)?;
            ensure(holders == before.1, || format!("addresses are held by {holders:?}"))
        })?;
    }
    eventually("no object is left", PATIENCE, || {
        let left = objects(lab)?;
        ensure(left == 0, || format!("{left} are"))
    })?;
    succeed(&mut lab.holdfast(&["delete", "namespace", NAMESPACE])?).map(drop)
}
