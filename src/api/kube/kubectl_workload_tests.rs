//! The real kubectl against the sets and jobs: made, shown, refused, rolled back.

use serde_json::{Value, json};

use super::kubectl_tests::Kubectl;

const SETS: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: peers
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: c, image: 'hello:1'}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: c, image: 'hello:1'}]}
";

async fn json_of(kubectl: &Kubectl, what: &[&str]) -> Value {
    let arguments: Vec<&str> = ["get", "-o", "json"].iter().chain(what).copied().collect();
    serde_json::from_str(&kubectl.run(&arguments).await).unwrap()
}

/// What the controller keeps of a template.
async fn create_revision(kubectl: &Kubectl, kind: &str, object: &Value, number: i64, image: &str) {
    let name = object["metadata"]["name"].as_str().unwrap();
    let mut template = object["spec"]["template"].clone();
    template["spec"]["containers"][0]["image"] = image.into();
    template["$patch"] = "replace".into();
    let revision = json!({
        "metadata": {"name": format!("{name}-{number}"), "labels": {"app": name},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": name,
                "uid": object["metadata"]["uid"], "controller": true}]},
        "data": {"spec": {"template": template}}, "revision": number});
    kubectl.create("apps", "controllerrevisions", revision).await;
}

#[tokio::test]
async fn sets_are_made_scaled_shown_and_described() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let out = kubectl.run_with(&["apply", "-f", "-"], SETS).await;
    assert!(out.contains("statefulset.apps/db created"), "{out}");
    assert!(out.contains("daemonset.apps/agent created"), "{out}");
    let out = kubectl.run_with(&["apply", "-f", "-"], SETS).await;
    assert!(out.contains("db unchanged") && out.contains("agent unchanged"), "{out}");
    kubectl.run(&["scale", "sts", "db", "--replicas=3"]).await;
    let db = json_of(&kubectl, &["sts", "db"]).await;
    assert_eq!(db["spec"]["replicas"], 3);
    assert_eq!(db["spec"]["podManagementPolicy"], "OrderedReady");
    assert_eq!(db["spec"]["updateStrategy"]["rollingUpdate"]["partition"], 0);
    let status = json!({"replicas": 3, "readyReplicas": 2, "observedGeneration": 2});
    kubectl.write_status("apps", "statefulsets", "db", status).await;
    let out = kubectl.run(&["get", "sts"]).await;
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words[..5], ["NAME", "READY", "AGE", "db", "2/3"], "{out}");
    let out = kubectl.run(&["get", "ds"]).await;
    assert!(out.contains("DESIRED") && out.contains("NODE SELECTOR"), "{out}");
    let out = kubectl.run(&["describe", "sts", "db"]).await;
    assert!(out.contains("3 desired | 3 total") && out.contains("hello:1"), "{out}");
    let out = kubectl.run(&["describe", "ds", "agent"]).await;
    assert!(out.contains("Desired Number of Nodes Scheduled: 0"), "{out}");
    let out = kubectl.run(&["get", "all"]).await;
    assert!(out.contains("statefulset.apps/db") && out.contains("daemonset.apps/agent"), "{out}");
}

#[tokio::test]
async fn what_a_set_may_not_be_is_refused_in_kubernetes_words() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let claims = SETS.replace(
        "  replicas: 2",
        "  replicas: 2\n  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [Sometimes], resources: {requests: {storage: 1Gi}}}}]",
    );
    let claims = claims.split("---").next().unwrap();
    let refused = kubectl.try_run(&["create", "-f", "-"], claims).await;
    let why = "spec.volumeClaimTemplates[0].spec.accessModes: Unsupported value: \"Sometimes\"";
    assert!(!refused.ok && refused.err.contains(why), "{refused:?}");
    kubectl.run_with(&["create", "-f", "-"], SETS).await;
    let patch = ["patch", "sts", "db", "-p", "{\"spec\":{\"serviceName\":\"other\"}}"];
    let refused = kubectl.try_run(&patch, "").await;
    assert!(
        refused.err.contains("updates to statefulset spec for fields other than"),
        "{refused:?}"
    );
    let patch =
        ["patch", "ds", "agent", "-p", "{\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}}}}"];
    let refused = kubectl.try_run(&patch, "").await;
    assert!(refused.err.contains("field is immutable"), "{refused:?}");
}

#[tokio::test]
async fn rollouts_are_followed_restarted_and_undone() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.run_with(&["create", "-f", "-"], SETS).await;
    for (kind, plural, name) in
        [("StatefulSet", "statefulsets", "db"), ("DaemonSet", "daemonsets", "agent")]
    {
        let target = format!("{plural}/{name}");
        kubectl.run(&["set", "image", &target, "c=hello:2"]).await;
        kubectl.run(&["rollout", "restart", &target]).await;
        let object = json_of(&kubectl, &[&target]).await;
        let template = &object["spec"]["template"];
        assert!(
            template["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"].is_string()
        );
        create_revision(&kubectl, kind, &object, 1, "hello:1").await;
        create_revision(&kubectl, kind, &object, 2, "hello:2").await;
        let out = kubectl.run(&["rollout", "history", &target]).await;
        let numbers: Vec<&str> =
            out.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert!(numbers.contains(&"1") && numbers.contains(&"2"), "{out}");
        let out = kubectl.run(&["rollout", "history", &target, "--revision=1"]).await;
        assert!(out.contains("hello:1"), "{out}");
        kubectl.run(&["rollout", "undo", &target, "--to-revision=1"]).await;
        let image = "jsonpath={.spec.template.spec.containers[0].image}";
        assert_eq!(kubectl.run(&["get", &target, "-o", image]).await, "hello:1");
        let generation = json_of(&kubectl, &[&target]).await["metadata"]["generation"].clone();
        let status = json!({"observedGeneration": generation, "replicas": 2, "readyReplicas": 2,
            "updatedReplicas": 2, "currentRevision": "x", "updateRevision": "x",
            "desiredNumberScheduled": 1, "currentNumberScheduled": 1, "numberMisscheduled": 0,
            "updatedNumberScheduled": 1, "numberAvailable": 1, "numberReady": 1});
        kubectl.write_status("apps", plural, name, status).await;
        let out = kubectl.run(&["rollout", "status", &target, "--timeout=60s"]).await;
        assert!(out.contains("successfully rolled out") || out.contains("complete"), "{out}");
    }
    let out = kubectl.run(&["get", "controllerrevisions"]).await;
    assert!(out.contains("statefulset.apps/db") && out.contains("daemonset.apps/agent"), "{out}");
}

#[tokio::test]
async fn a_deployment_is_paused_and_resumed() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.run(&["create", "deployment", "web", "--image=hello:1"]).await;
    kubectl.run(&["rollout", "pause", "deploy/web"]).await;
    assert_eq!(json_of(&kubectl, &["deploy", "web"]).await["spec"]["paused"], true);
    let refused = kubectl.try_run(&["rollout", "restart", "deploy/web"], "").await;
    assert!(!refused.ok && refused.err.contains("paused"), "{refused:?}");
    kubectl.run(&["rollout", "resume", "deploy/web"]).await;
    assert_ne!(json_of(&kubectl, &["deploy", "web"]).await["spec"]["paused"], true);
}

#[tokio::test]
async fn jobs_and_cron_jobs_are_made_and_shown() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.run(&["create", "job", "sum", "--image=hello:1", "--", "add", "1"]).await;
    let job = json_of(&kubectl, &["job", "sum"]).await;
    let uid = &job["metadata"]["uid"];
    assert_eq!(&job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], uid);
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    assert_eq!((&labels["job-name"], &labels["controller-uid"]), (&json!("sum"), uid));
    assert_eq!((&job["spec"]["backoffLimit"], &job["spec"]["completions"]), (&json!(6), &json!(1)));
    let status = json!({"startTime": "2026-01-01T00:00:00Z",
        "completionTime": "2026-01-01T00:02:05Z", "succeeded": 1,
        "conditions": [{"type": "Complete", "status": "True"}]});
    kubectl.write_status("batch", "jobs", "sum", status).await;
    let out = kubectl.run(&["get", "jobs"]).await;
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words[..5], ["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"], "{out}");
    assert_eq!(words[5..9], ["sum", "Complete", "1/1", "2m5s"], "{out}");
    kubectl.run(&["wait", "--for=condition=complete", "job/sum", "--timeout=60s"]).await;
    let out = kubectl.run(&["describe", "job", "sum"]).await;
    assert!(out.contains("1 Succeeded") && out.contains("Completed At:"), "{out}");
    let create = ["create", "cronjob", "tick", "--image=hello:1", "--schedule=*/5 * * * *"];
    kubectl.run(&create).await;
    let out = kubectl.run(&["get", "cj"]).await;
    assert!(out.contains("*/5 * * * *") && out.contains("LAST SCHEDULE"), "{out}");
    kubectl.run(&["create", "job", "now", "--from=cronjob/tick"]).await;
    let job = json_of(&kubectl, &["job", "now"]).await;
    assert_eq!(job["metadata"]["ownerReferences"][0]["kind"], "CronJob");
    let out = kubectl.run(&["describe", "cj", "tick"]).await;
    assert!(out.contains("Concurrency Policy:"), "{out}");
}

#[tokio::test]
async fn what_a_job_may_not_be_is_refused() {
    let Some(kubectl) = Kubectl::start().await else { return };
    for (schedule, why) in [
        ("61 * * * *", "end of range (61) above maximum (59)"),
        ("* * *", "expected exactly 5 fields, found 3"),
        ("TZ=UTC * * * * *", "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"),
    ] {
        let schedule = format!("--schedule={schedule}");
        let create = ["create", "cronjob", "bad", "--image=hello:1", &schedule];
        let refused = kubectl.try_run(&create, "").await;
        assert!(!refused.ok && refused.err.contains(why), "{refused:?}");
    }
    let zone = "
apiVersion: batch/v1
kind: CronJob
metadata: {name: zoned}
spec:
  schedule: '@daily'
  timeZone: Mars/Olympus
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'hello:1'}]}}}}
";
    let refused = kubectl.try_run(&["create", "-f", "-"], zone).await;
    assert!(refused.err.contains("unknown time zone Mars/Olympus"), "{refused:?}");
    kubectl.run_with(&["create", "-f", "-"], &zone.replace("Mars/Olympus", "Asia/Shanghai")).await;
    let job = "
apiVersion: batch/v1
kind: Job
metadata: {name: wrong}
spec:
  completionMode: Indexed
  backoffLimit: -1
  template: {spec: {containers: [{name: c, image: 'hello:1'}]}}
";
    let refused = kubectl.try_run(&["create", "-f", "-"], job).await;
    for why in ["spec.backoffLimit", "spec.template.spec.restartPolicy: Required value"] {
        assert!(refused.err.contains(why), "{why}: {refused:?}");
    }
    kubectl.run(&["create", "job", "sum", "--image=hello:1"]).await;
    let patch = ["patch", "job", "sum", "-p", "{\"spec\":{\"completions\":3}}"];
    let refused = kubectl.try_run(&patch, "").await;
    assert!(
        refused.err.contains("spec.completions: Invalid value: 3: field is immutable"),
        "{refused:?}"
    );
}

const VOLUMES: &str = "apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec:
  capacity: {storage: 5Gi}
  accessModes: [ReadWriteOnce, ReadOnlyMany]
  hostPath: {path: /data}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
";

#[tokio::test]
async fn secrets_and_volumes_are_made_and_shown() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let literal = "--from-literal=password=hunter2";
    kubectl.run(&["create", "secret", "generic", "db", literal]).await;
    let out = kubectl.run(&["get", "secret", "db", "-o", "jsonpath={.data.password}"]).await;
    assert_eq!(out, "aHVudGVyMg==");
    let login = ["--docker-server=r", "--docker-username=u", "--docker-password=p"];
    kubectl.run(&[&["create", "secret", "docker-registry", "pull"], &login[..]].concat()).await;
    let out = kubectl.run(&["get", "secrets"]).await;
    assert!(out.contains("Opaque") && out.contains("kubernetes.io/dockerconfigjson"), "{out}");
    let out = kubectl.run(&["describe", "secret", "db"]).await;
    assert!(out.contains("password:  7 bytes") && !out.contains("hunter2"), "{out}");
    kubectl.run_with(&["apply", "-f", "-"], VOLUMES).await;
    let out = kubectl.run(&["get", "pv"]).await;
    assert!(out.contains("5Gi") && out.contains("RWO,ROX") && out.contains("Retain"), "{out}");
    let out = kubectl.run(&["get", "pvc,sc"]).await;
    assert!(out.contains("persistentvolumeclaim/data"), "{out}");
    let grown = "{\"spec\":{\"resources\":{\"requests\":{\"storage\":\"2Gi\"}}}}";
    let refused = kubectl.try_run(&["patch", "pvc", "data", "-p", grown], "").await;
    assert!(refused.err.contains("only dynamically provisioned pvc can be resized"), "{refused:?}");
    kubectl.run(&["delete", "pvc", "data", "--wait=false"]).await;
    let out = kubectl.run(&["get", "pvc"]).await;
    assert!(out.contains("Terminating"), "{out}");
}
