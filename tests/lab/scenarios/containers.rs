//! Containers and images: they go on when the programs around them die.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{Lab, Outcome, PATIENCE, ensure, eventually, failed, succeed};

/// Container id and start time of each container of the sample, by pod.
fn containers(lab: &Lab) -> Result<BTreeMap<String, String>, libtest_mimic::Failed> {
    let pods = lab.pods_ready("hello", 3, |_| true)?;
    Ok(pods
        .iter()
        .map(|pod| {
            let status = &pod["status"]["containerStatuses"][0];
            let identity = format!(
                "{} {} {}",
                status["containerID"],
                status["state"]["running"]["startedAt"],
                status["restartCount"]
            );
            (pod["metadata"]["name"].as_str().unwrap_or_default().to_owned(), identity)
        })
        .collect())
}

pub(crate) fn service_pid(
    lab: &Lab,
    node: &str,
    service: &str,
) -> Result<i64, libtest_mimic::Failed> {
    let text = succeed(&mut lab.on(node, &["holdfast", "probe", "service", service]))?;
    let answer: Value = serde_json::from_str(&text).map_err(|e| failed(text.clone(), e))?;
    answer["pid"].as_i64().ok_or_else(|| format!("{service} has no pid: {text}").into())
}

/// Kills a service's main process on every node; its supervisor starts it again.
fn kill_everywhere(lab: &Lab, service: &str) -> Outcome {
    let before = containers(lab)?;
    for node in ["a1", "b1", "c1"] {
        let pid = service_pid(lab, node, service)?;
        succeed(&mut lab.on(node, &["holdfast", "probe", "kill", &pid.to_string()]))?;
        eventually(&format!("{service} is back on {node}"), PATIENCE, || {
            let now = service_pid(lab, node, service)?;
            ensure(now != pid, || format!("still pid {pid}"))
        })?;
    }
    lab.settled(3)?;
    let after = containers(lab)?;
    ensure(before == after, || format!("containers changed: {before:?} became {after:?}"))
}

pub(crate) fn killed_agent(lab: &Lab) -> Outcome {
    kill_everywhere(lab, "holdfast")
}

pub(crate) fn killed_daemon(lab: &Lab) -> Outcome {
    kill_everywhere(lab, "holdfast-engine")
}

pub(crate) fn second_import_moves_nothing(lab: &Lab) -> Outcome {
    let command = [
        "holdfast",
        "registry",
        "import",
        "--bundle",
        "/bundle.hfb",
        "--trust",
        "/bundle.pub",
        "-o",
        "json",
    ];
    let text = succeed(&mut lab.on("a1", &command))?;
    let report: Value = serde_json::from_str(&text).map_err(|e| failed(text.clone(), e))?;
    ensure(report["blobsMoved"] == 0 && report["blobsPresent"].as_u64() > Some(3), || text)
}

pub(crate) fn failing_container(lab: &Lab) -> Outcome {
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: brittle, namespace: default, labels: {app: brittle}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n    - name: main\n      image: hello:1\n      env: [{name: EXIT_AFTER_MS, value: '300'}]\n";
    let place = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let file = place.path().join("brittle.yaml");
    std::fs::write(&file, manifest).map_err(|error| failed("manifest", error))?;
    let path = file.to_string_lossy().into_owned();
    succeed(&mut lab.holdfast(&["apply", "-f", &path])?)?;
    eventually("the container is restarted and then held back", PATIENCE, || {
        let pods = lab.objects("pods")?;
        let pod = pods.iter().find(|pod| pod["metadata"]["name"] == "brittle").ok_or("no pod")?;
        let status = &pod["status"]["containerStatuses"][0];
        let restarted = status["restartCount"].as_u64() >= Some(2);
        let held = status["state"]["waiting"]["reason"] == "CrashLoopBackOff";
        ensure(restarted && held, || status.to_string())
    })?;
    succeed(&mut lab.holdfast(&["delete", "pod", "brittle"])?)?;
    eventually("the pod is gone", PATIENCE, || {
        let left = lab.objects("pods")?.iter().any(|pod| pod["metadata"]["name"] == "brittle");
        ensure(!left, || "still listed".into())
    })
}
