//! Budgets hold drains back, priorities make room, and load scales: with unmodified kubectl.

use std::fs;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::harness::{
    Lab, Outcome, PATIENCE, contains, ensure, eventually, failed, has_kubectl, output, succeed,
    text,
};
use crate::scenarios::replication::import;
use crate::test_bundle;

/// Two pods of which both must stay, a pod that does nothing but spin, and its autoscaler.
const WORK: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: guard, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: guard}}
  template:
    metadata: {labels: {app: guard}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: 'tools-0:1', args: [-c, sleep 100000]}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: guard, namespace: default}
spec: {minAvailable: 2, selector: {matchLabels: {app: guard}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: burner, namespace: default}
spec:
  replicas: 1
  selector: {matchLabels: {app: burner}}
  template:
    metadata: {labels: {app: burner}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: spin
        image: 'tools-0:1'
        args: [-c, 'while :; do :; done']
        resources: {requests: {cpu: 50m}, limits: {cpu: 100m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: burner, namespace: default}
spec:
  minReplicas: 1
  maxReplicas: 2
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: burner}
  metrics:
  - type: Resource
    resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: urgent}
value: 1000
";

/// A pod on b1 that wants most of what is there.
fn large_pod(name: &str, class: &str, cpu_milli: i64) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         nodeSelector: {{kubernetes.io/hostname: b1}}\n  terminationGracePeriodSeconds: 1\n{class}  \
         containers:\n  - name: c\n    image: 'tools-0:1'\n    args: [-c, sleep 100000]\n    \
         resources: {{requests: {{cpu: {cpu_milli}m}}}}\n"
    )
}

fn apply(lab: &Lab, manifest: &str) -> Outcome {
    let place = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let file = place.path().join("scaling.yaml");
    fs::write(&file, manifest).map_err(|error| failed("manifest", error))?;
    let path = file.to_string_lossy().into_owned();
    succeed(&mut lab.kubectl(&["apply", "-f", &path])?).map(drop)
}

pub(crate) fn budgets_priorities_and_load(lab: &Lab) -> Outcome {
    if !has_kubectl() {
        println!("SKIPPED t39: no kubectl on the PATH");
        return Ok(());
    }
    import(lab, "a1", "tools-scaling", |file| test_bundle::with_tools(file, "tools"))?;
    apply(lab, WORK)?;
    drain_waits(lab)?;
    urgent_goes_first(lab)?;
    load_scales(lab)?;
    let gone = ["delete", "deploy/guard", "deploy/burner", "pdb/guard", "hpa/burner", "pod/urgent"];
    succeed(&mut lab.kubectl(&gone)?)?;
    succeed(&mut lab.kubectl(&["delete", "pc/urgent"])?).map(drop)
}

fn drain_waits(lab: &Lab) -> Outcome {
    let pods = lab.pods_ready("guard", 2, |_| true)?;
    let node = pods[0]["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
    eventually("the budget is full", PATIENCE, || {
        let budgets = lab.objects("poddisruptionbudgets")?;
        let full = budgets.iter().any(|one| one["status"]["currentHealthy"] == 2);
        ensure(full, || format!("{budgets:?}"))
    })?;
    let drain = ["drain", &node, "--pod-selector=app=guard", "--ignore-daemonsets", "--force"];
    let refused = output(lab.kubectl(&drain)?.arg("--timeout=1s"))?;
    ensure(!refused.status.success(), || text(&refused))?;
    let why = "Cannot evict pod as it would violate the pod's disruption budget.";
    contains("a drain that must wait", &text(&refused), &[why])?;
    succeed(&mut lab.kubectl(&["scale", "deploy/guard", "--replicas=3"])?)?;
    let done = succeed(lab.kubectl(&drain)?.arg("--timeout=120s"))?;
    contains("a drain that may", &done, &["evicted", "drained"])?;
    succeed(&mut lab.kubectl(&["uncordon", &node])?).map(drop)
}

fn urgent_goes_first(lab: &Lab) -> Outcome {
    let nodes = lab.objects("nodes")?;
    let node = nodes.iter().find(|node| node["metadata"]["name"] == "b1").ok_or("no b1")?;
    let cores: i64 = node["status"]["allocatable"]["cpu"]
        .as_str()
        .and_then(|cores| cores.parse().ok())
        .ok_or("b1 does not say how many processors it has")?;
    // Twice as much does not fit, whatever else is there.
    let most = cores * 1_000 * 3 / 5;
    apply(lab, &large_pod("filler", "", most))?;
    let wait =
        |name: &str| ["wait", "--for=condition=Ready", name, "--timeout=120s"].map(str::to_owned);
    let ready = |name: &str| {
        let arguments = wait(name);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        succeed(&mut lab.kubectl(&arguments)?)
    };
    ready("pod/filler")?;
    apply(lab, &large_pod("urgent", "  priorityClassName: urgent\n", most))?;
    ready("pod/urgent")?;
    let left = output(&mut lab.kubectl(&["get", "pod", "filler"])?)?;
    ensure(!left.status.success(), || format!("the filler is still there: {}", text(&left)))?;
    eventually("the event of the preemption", PATIENCE, || {
        let events = lab.objects("events")?;
        let told = |event: &Value| {
            event["reason"] == "Preempted" && event["involvedObject"]["name"] == "filler"
        };
        ensure(events.iter().any(told), || "no event Preempted about filler".to_owned())
    })
}

fn load_scales(lab: &Lab) -> Result<(), Failed> {
    eventually("what the burner uses is known", PATIENCE, || {
        let top =
            output(&mut lab.kubectl(&["top", "pods", "--containers", "-l", "app=burner"])?)?;
        ensure(top.status.success(), || text(&top))?;
        contains("kubectl top pods", &text(&top), &["burner", "spin"])
    })?;
    let top = succeed(&mut lab.kubectl(&["top", "nodes"])?)?;
    contains("kubectl top nodes", &top, &["a1", "b1", "c1", "%"])?;
    lab.pods_ready("burner", 2, |_| true)?;
    let shown = succeed(&mut lab.kubectl(&["describe", "hpa", "burner"])?)?;
    let wanted =
        ["SuccessfulRescale", "cpu resource utilization (percentage of request) above target"];
    contains("kubectl describe hpa", &shown, &wanted)
}
