//! Sets and jobs on real hosts: order, names, hosts that are killed, rollouts by kubectl.

use std::fs;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::harness::{
    Lab, Outcome, PATIENCE, brief, contains, ensure, eventually, failed, has_kubectl, is_ready,
    succeed,
};
use crate::install::{BUNDLE, TRUST};
use crate::scenarios::NODES;
use crate::scenarios::interrupted::{init_command, write_cluster};
use crate::scenarios::masters::{ask_sample, deploy_sample};
use crate::scenarios::replaced::{TWO_LISTED, join_as};

const CONTAINER: &str = "{name: main, image: 'hello:1', ports: [{containerPort: 8080}], \
    readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}, \
    env: [{name: VERSION, value: one}, \
          {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}";

fn stateful() -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: peers, namespace: default}}\n\
         spec: {{clusterIP: None, selector: {{app: db}}, ports: [{{port: 8080}}]}}\n---\n\
         apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: db, namespace: default}}\n\
         spec:\n  serviceName: peers\n  replicas: 3\n  selector: {{matchLabels: {{app: db}}}}\n  \
         template:\n    metadata: {{labels: {{app: db}}}}\n    spec:\n      \
         terminationGracePeriodSeconds: 2\n      containers: [{CONTAINER}]\n"
    )
}

fn daemon() -> String {
    format!(
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: agent, namespace: default}}\n\
         spec:\n  selector: {{matchLabels: {{app: agent}}}}\n  template:\n    \
         metadata: {{labels: {{app: agent}}}}\n    spec:\n      \
         terminationGracePeriodSeconds: 2\n      containers: [{CONTAINER}]\n"
    )
}

/// Pods that work for two seconds and then succeed.
const JOB: &str = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: sum, namespace: default}\n\
    spec:\n  completions: 12\n  parallelism: 3\n  template:\n    \
    metadata: {labels: {app: sum}}\n    spec:\n      restartPolicy: Never\n      containers: \
    [{name: main, image: 'hello:1', env: [{name: EXIT_AFTER_MS, value: '2000'}, \
    {name: EXIT_CODE, value: '0'}]}]\n";

const CRON: &str = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: tick, namespace: default}\n\
    spec:\n  schedule: '* * * * *'\n  timeZone: Asia/Shanghai\n  jobTemplate:\n    spec:\n      \
    template:\n        spec:\n          restartPolicy: OnFailure\n          containers: \
    [{name: main, image: 'hello:1', env: [{name: EXIT_AFTER_MS, value: '200'}, \
    {name: EXIT_CODE, value: '0'}]}]\n";

fn apply(lab: &Lab, manifest: &str) -> Outcome {
    let place = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let file = place.path().join("workload.yaml");
    fs::write(&file, manifest).map_err(|error| failed("manifest", error))?;
    let path = file.to_string_lossy().into_owned();
    succeed(&mut lab.holdfast(&["apply", "-f", &path])?).map(|_| ())
}

fn find(lab: &Lab, kind: &str, name: &str) -> Result<Value, Failed> {
    let all = lab.objects(kind)?;
    let found = all.into_iter().find(|object| object["metadata"]["name"] == name);
    found.ok_or_else(|| format!("there is no {kind}/{name}").into())
}

fn none_left(lab: &Lab, app: &str) -> Outcome {
    eventually(&format!("no pod of {app} is left"), PATIENCE, || {
        let pods = lab.objects("pods")?;
        let left = pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == app);
        ensure(left.count() == 0, || brief(&pods))
    })
}

/// When the pod was made, and when it became ready.
fn times(pod: &Value) -> (String, String) {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|one| one["type"] == "Ready");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ready = ready.map(|one| text(&one["lastTransitionTime"])).unwrap_or_default();
    (text(&pod["metadata"]["creationTimestamp"]), ready)
}

pub(crate) fn stateful_order_and_names(lab: &Lab) -> Outcome {
    apply(lab, &stateful())?;
    let mut pods = lab.pods_ready("db", 3, |_| true)?;
    pods.sort_by_key(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned());
    let names: Vec<&Value> = pods.iter().map(|pod| &pod["metadata"]["name"]).collect();
    ensure(names == ["db-0", "db-1", "db-2"], || format!("{names:?}"))?;
    for pair in pods.windows(2) {
        let (ready, next) = (times(&pair[0]).1, times(&pair[1]).0);
        ensure(ready <= next, || format!("made at {next}, the one before ready at {ready}"))?;
    }
    for pod in &pods {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let address = pod["status"]["podIP"].as_str().unwrap_or_default();
        eventually(&format!("{name} is found by its name"), PATIENCE, || {
            let url = format!("{address}:8080/lookup?name={name}.peers");
            let found = ask_sample(lab, "a1", &url)?;
            ensure(found["addresses"][0] == address, || found.to_string())
        })?;
        let said = ask_sample(lab, "b1", &format!("{address}:8080/"))?;
        ensure(said["hostname"] == name, || said.to_string())?;
    }
    let described = succeed(&mut lab.holdfast(&["describe", "statefulset", "db"])?)?;
    contains("describe", &described, &["3 desired | 3 total", "SuccessfulCreate"])
}

pub(crate) fn stateful_host_killed(lab: &Lab) -> Outcome {
    deploy_sample(lab)?;
    apply(lab, &stateful())?;
    let pods = lab.pods_ready("db", 3, |_| true)?;
    let leader = lab.leader("a1")?;
    let lost = pods.iter().find(|pod| pod["spec"]["nodeName"] != leader.as_str());
    let lost = lost.ok_or("all pods are on the leader's host")?;
    let name = lost["metadata"]["name"].as_str().unwrap_or_default();
    let host = lost["spec"]["nodeName"].as_str().unwrap_or_default();
    lab.fault("kill", host)?;
    eventually("its deletion is asked for", PATIENCE, || {
        let pod = find(lab, "pods", name)?;
        ensure(pod["metadata"]["deletionTimestamp"].is_string(), || pod.to_string())
    })?;
    // The stateless pods of the same host are replaced; this one keeps its place.
    lab.pods_ready("hello", 3, |node| node != host)?;
    let pod = find(lab, "pods", name)?;
    ensure(pod["metadata"]["uid"] == lost["metadata"]["uid"], || {
        format!("{name} was made again while its host was silent: {pod}")
    })?;
    lab.fault("start", host)?;
    lab.settled(3)?;
    eventually("it runs again, as another object of the same name", PATIENCE, || {
        let pod = find(lab, "pods", name)?;
        let other = pod["metadata"]["uid"] != lost["metadata"]["uid"];
        ensure(other && is_ready(&pod), || pod.to_string())
    })?;
    lab.pods_ready("db", 3, |_| true)?;
    succeed(&mut lab.holdfast(&["delete", "statefulset", "db"])?)?;
    succeed(&mut lab.holdfast(&["delete", "service", "peers"])?)?;
    none_left(lab, "db")
}

pub(crate) fn daemon_everywhere(lab: &Lab) -> Outcome {
    apply(lab, &daemon())?;
    let pods = lab.pods_ready("agent", 3, |_| true)?;
    for node in NODES {
        ensure(pods.iter().any(|pod| pod["spec"]["nodeName"] == node), || brief(&pods))?;
    }
    eventually("its status says so", PATIENCE, || {
        let status = &find(lab, "daemonsets", "agent")?["status"];
        ensure(status["numberAvailable"] == 3 && status["desiredNumberScheduled"] == 3, || {
            status.to_string()
        })
    })?;
    succeed(&mut lab.holdfast(&["delete", "daemonset", "agent"])?)?;
    none_left(lab, "agent")
}

pub(crate) fn daemon_follows_a_join() -> Outcome {
    let lab = Lab::up("three", true)?;
    write_cluster(&lab, "a1", TWO_LISTED)?;
    succeed(&mut lab.on("a1", &init_command(BUNDLE, TRUST)))?;
    let place = lab.dir().join("hosts/a1/root/var/daemon.yaml");
    fs::write(place, daemon()).map_err(|error| failed("manifest", error))?;
    succeed(&mut lab.on("a1", &["holdfast", "apply", "-f", "/var/daemon.yaml"]))?;
    let runs_on = |wanted: &[&str]| {
        eventually(&format!("it runs on {wanted:?}"), PATIENCE, || {
            let made = succeed(&mut lab.on("a1", &["holdfast", "get", "pods", "-o", "json"]))?;
            let list: Value = serde_json::from_str(&made).map_err(|e| failed(made.clone(), e))?;
            let pods = list["items"].as_array().cloned().unwrap_or_default();
            let mut nodes: Vec<&str> = pods
                .iter()
                .filter(|pod| is_ready(pod))
                .filter_map(|pod| pod["spec"]["nodeName"].as_str())
                .collect();
            nodes.sort_unstable();
            ensure(nodes == wanted, || brief(&pods))
        })
    };
    runs_on(&["a1"])?;
    join_as(&lab, "c1", ("a1", "10.77.0.11"), &["--role", "worker"])?;
    runs_on(&["a1", "c1"])
}

fn has(job: &Value, kind: &str) -> bool {
    let conditions = job["status"]["conditions"].as_array();
    conditions
        .is_some_and(|all| all.iter().any(|one| one["type"] == kind && one["status"] == "True"))
}

pub(crate) fn job_counts_right(lab: &Lab) -> Outcome {
    apply(lab, JOB)?;
    eventually("some of it is done", PATIENCE, || {
        let job = find(lab, "jobs", "sum")?;
        ensure(job["status"]["succeeded"].as_i64() >= Some(2), || job["status"].to_string())
    })?;
    let leader = lab.leader("a1")?;
    lab.fault("kill", &leader)?;
    eventually("it is complete", PATIENCE, || {
        let job = find(lab, "jobs", "sum")?;
        ensure(has(&job, "Complete"), || job["status"].to_string())
    })?;
    lab.fault("start", &leader)?;
    lab.settled(3)?;
    let job = find(lab, "jobs", "sum")?;
    let pods = lab.objects("pods")?;
    let own = || pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == "sum");
    let done = own().filter(|pod| pod["status"]["phase"] == "Succeeded").count();
    ensure(job["status"]["succeeded"] == 12 && done == 12, || {
        format!("{done} succeeded: {}\n{}", job["status"], brief(&pods))
    })?;
    let held = own().filter(|pod| pod["metadata"]["finalizers"].is_array()).count();
    ensure(held == 0, || format!("{held} pods are not counted"))?;
    succeed(&mut lab.holdfast(&["delete", "job", "sum"])?)?;
    none_left(lab, "sum")
}

pub(crate) fn cron_job_fires(lab: &Lab) -> Outcome {
    apply(lab, CRON)?;
    eventually("it has fired and its job has succeeded", PATIENCE, || {
        let status = find(lab, "cronjobs", "tick")?["status"].clone();
        ensure(status["lastSuccessfulTime"].is_string(), || status.to_string())
    })?;
    let jobs = lab.objects("jobs")?;
    let own = jobs
        .iter()
        .find(|job| job["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("tick-")));
    let zoned = own.map(|job| {
        job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"].clone()
    });
    let shanghai = zoned.as_ref().and_then(Value::as_str).is_some_and(|at| at.ends_with("+08:00"));
    ensure(shanghai, || format!("{zoned:?}"))?;
    succeed(&mut lab.holdfast(&["delete", "cronjob", "tick"])?)?;
    eventually("its jobs go with it", PATIENCE, || {
        let jobs = lab.objects("jobs")?;
        ensure(jobs.is_empty(), || format!("{} are left", jobs.len()))
    })
}

/// The version that each pod of the app says.
fn versions(lab: &Lab, app: &str, count: usize) -> Result<Vec<String>, Failed> {
    let pods = lab.pods_ready(app, count, |_| true)?;
    let env = |pod: &Value| {
        let variables = pod["spec"]["containers"][0]["env"].as_array().cloned();
        let all = variables.unwrap_or_default();
        let found = all.iter().find(|variable| variable["name"] == "VERSION");
        found.and_then(|one| one["value"].as_str()).unwrap_or_default().to_owned()
    };
    Ok(pods.iter().map(env).collect())
}

pub(crate) fn rollout_verbs(lab: &Lab) -> Outcome {
    if !has_kubectl() {
        println!("SKIPPED t35: no kubectl on the PATH");
        return Ok(());
    }
    let kubectl = |arguments: &[&str]| succeed(&mut lab.kubectl(arguments)?);
    let front = daemon()
        .replace("kind: DaemonSet", "kind: Deployment")
        .replace("spec:\n  selector", "spec:\n  replicas: 3\n  selector")
        .replace("agent", "front");
    apply(lab, &front)?;
    apply(lab, &stateful())?;
    apply(lab, &daemon())?;
    for (target, app) in
        [("deployment/front", "front"), ("statefulset/db", "db"), ("daemonset/agent", "agent")]
    {
        let status = ["rollout", "status", target, "--timeout=120s"];
        kubectl(&status)?;
        kubectl(&["set", "env", target, "VERSION=two"])?;
        kubectl(&status)?;
        let now = versions(lab, app, 3)?;
        ensure(now == ["two"; 3], || format!("{target}: {now:?}"))?;
        let history = kubectl(&["rollout", "history", target])?;
        contains(target, &history, &["REVISION", "1", "2"])?;
        kubectl(&["rollout", "undo", target])?;
        kubectl(&status)?;
        let now = versions(lab, app, 3)?;
        ensure(now == ["one"; 3], || format!("{target}: {now:?}"))?;
        kubectl(&["rollout", "restart", target])?;
        kubectl(&status)?;
        lab.pods_ready(app, 3, |_| true)?;
        kubectl(&["delete", target])?;
        none_left(lab, app)?;
    }
    kubectl(&["delete", "service", "peers"]).map(|_| ())
}
