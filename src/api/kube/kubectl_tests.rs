//! The real kubectl against the API. Skipped, and said so, where there is no kubectl.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::tests::Server;
use crate::model::kinds;
use crate::model::kinds::Subresource;
use crate::objects::{Address, WriteOptions};

/// How long one kubectl may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

pub(super) struct Kubectl {
    pub(super) server: Server,
    home: tempfile::TempDir,
}

#[derive(Debug)]
pub(super) struct Output {
    pub(super) ok: bool,
    pub(super) out: String,
    pub(super) err: String,
}

fn installed() -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("kubectl").exists()));
    if !found {
        println!("skipped: kubectl is not on PATH");
    }
    found
}

impl Kubectl {
    pub(super) async fn start() -> Option<Self> {
        if !installed() {
            return None;
        }
        Some(Self { server: Server::start().await, home: tempfile::tempdir().unwrap() })
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .arg(format!("--server=http://{}", self.server.address))
            .args(arguments)
            .env("HOME", self.home.path())
            .env("KUBECONFIG", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub(super) async fn try_run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let done = tokio::time::timeout(DEADLINE, child.wait_with_output()).await;
        let done = done.unwrap_or_else(|_| panic!("kubectl {arguments:?} hangs")).unwrap();
        Output {
            ok: done.status.success(),
            out: String::from_utf8(done.stdout).unwrap(),
            err: String::from_utf8(done.stderr).unwrap(),
        }
    }

    pub(super) async fn run_with(&self, arguments: &[&str], input: &str) -> String {
        let output = self.try_run(arguments, input).await;
        assert!(output.ok, "kubectl {arguments:?} failed: {output:#?}");
        output.out
    }

    pub(super) async fn run(&self, arguments: &[&str]) -> String {
        self.run_with(arguments, "").await
    }

    /// What the agent and the controllers would write.
    pub(super) async fn write_status(&self, group: &str, plural: &str, name: &str, status: Value) {
        let kind = kinds::by_path(group, "v1", plural).unwrap();
        let address = Address::new(kind, kind.namespaced.then_some("default"), name);
        let body = json!({"status": status});
        let part = Some(Subresource::Status);
        self.server.objects.update(&address, part, body, WriteOptions::default()).await.unwrap();
    }

    pub(super) async fn create(&self, group: &str, plural: &str, object: Value) {
        let kind = kinds::by_path(group, "v1", plural).unwrap();
        let namespace = kind.namespaced.then_some("default");
        let options = WriteOptions::default();
        self.server.objects.create(kind, namespace, object, options).await.unwrap();
    }

    /// A pod `web` that runs on node `n1`.
    pub(super) async fn create_running_pod(&self) {
        self.create(
            "",
            "nodes",
            json!({
                "metadata": {"name": "n1", "labels": {"node-role.kubernetes.io/control-plane": ""}},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True", "reason": "Ok"}],
                    "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                    "capacity": {"cpu": "2", "memory": "4Gi", "pods": "110"},
                    "allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"},
                    "nodeInfo": {"kubeletVersion": "v1.32.0+holdfast", "osImage": "Debian 12"},
                },
            }),
        )
        .await;
        self.create(
            "",
            "pods",
            json!({
                "metadata": {"name": "web", "labels": {"app": "web"}},
                "spec": {"nodeName": "n1", "containers": [{"name": "hello", "image": "hello:1"}]},
            }),
        )
        .await;
        let status = json!({
            "phase": "Running", "podIP": "10.1.0.5",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "hello", "ready": true, "restartCount": 0, "image": "hello:1",
                "imageID": "", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }],
        });
        self.write_status("", "pods", "web", status).await;
    }
}

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello, labels: {app: hello}}
spec:
  replicas: 2
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      containers:
      - name: hello
        image: hello:1
        ports: [{containerPort: 8080}]
        resources: {limits: {cpu: 1, memory: 64Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec:
  selector: {app: hello}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: hello}
data: {greeting: hi}
";

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn create_get_and_delete() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let file = write(kubectl.home.path(), "all.yaml", MANIFEST);
    let out = kubectl.run(&["create", "-f", &file]).await;
    for made in ["deployment.apps/hello", "service/hello", "configmap/hello"] {
        assert!(out.contains(&format!("{made} created")), "{out}");
    }
    let again = kubectl.try_run(&["create", "-f", &file], "").await;
    assert!(
        !again.ok && again.err.contains("deployments.apps \"hello\" already exists"),
        "{again:?}"
    );
    let out = kubectl.run(&["get", "deploy"]).await;
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words[..5], ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"], "{out}");
    assert_eq!(words[5..9], ["hello", "0/2", "0", "0"], "{out}");
    let out = kubectl.run(&["get", "deploy", "-o", "wide"]).await;
    assert!(out.contains("CONTAINERS") && out.contains("app=hello"), "{out}");
    let out = kubectl.run(&["get", "svc", "hello", "-o", "jsonpath={.spec.clusterIP}"]).await;
    assert!(out.starts_with("10.96.0."), "{out}");
    let out = kubectl.run(&["get", "all"]).await;
    assert!(out.contains("service/hello") && out.contains("deployment.apps/hello"), "{out}");
    let out = kubectl.run(&["get", "cm", "hello", "-o", "yaml"]).await;
    assert!(out.contains("greeting: hi"), "{out}");
    let out = kubectl.run(&["get", "deploy", "hello", "-o", "json"]).await;
    let json: Value = serde_json::from_str(&out).unwrap();
    let container = &json["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["resources"]["limits"]["cpu"], "1");
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    let missing = kubectl.try_run(&["get", "pod", "nope"], "").await;
    assert_eq!(missing.err.trim(), "Error from server (NotFound): pods \"nope\" not found");
    let out = kubectl.run(&["delete", "-f", &file]).await;
    assert!(out.contains("deployment.apps \"hello\" deleted"), "{out}");
    assert_eq!(kubectl.run(&["get", "deploy", "-o", "name"]).await, "");
}

#[tokio::test]
async fn created_without_a_file() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.run(&["create", "namespace", "shop"]).await;
    kubectl.run(&["create", "configmap", "c", "-n", "shop", "--from-literal=a=b"]).await;
    let data = ["get", "cm", "c", "-n", "shop", "-o", "jsonpath={.data.a}"];
    assert_eq!(kubectl.run(&data).await, "b");
    kubectl
        .run(&[
            "create",
            "deployment",
            "d",
            "-n",
            "shop",
            "--image=hello:1",
            "--replicas=3",
            "--port=80",
        ])
        .await;
    let spec = ["get", "deploy", "d", "-n", "shop", "-o", "json"];
    let object: Value = serde_json::from_str(&kubectl.run(&spec).await).unwrap();
    assert_eq!(object["spec"]["replicas"], 3);
    let container = &object["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        (container["name"].as_str(), container["ports"][0]["containerPort"].as_i64()),
        (Some("hello"), Some(80))
    );
    kubectl.run(&["create", "service", "clusterip", "s", "-n", "shop", "--tcp=80:8080"]).await;
    let port = ["get", "svc", "s", "-n", "shop", "-o", "jsonpath={.spec.ports[0].targetPort}"];
    assert_eq!(kubectl.run(&port).await, "8080");
    kubectl.run(&["run", "p", "-n", "shop", "--image=hello:1", "--env=K=V", "--", "serve"]).await;
    let pod: Value =
        serde_json::from_str(&kubectl.run(&["get", "pod", "p", "-n", "shop", "-o", "json"]).await)
            .unwrap();
    assert_eq!(pod["spec"]["containers"][0]["env"], json!([{"name": "K", "value": "V"}]));
    assert_eq!(pod["spec"]["containers"][0]["args"], json!(["serve"]));
    kubectl.run(&["expose", "deployment", "d", "-n", "shop", "--port=80"]).await;
    kubectl.run(&["delete", "namespace", "shop", "--wait=false"]).await;
    let phase = ["get", "ns", "shop", "-o", "jsonpath={.status.phase}"];
    assert_eq!(kubectl.run(&phase).await, "Terminating");
    let refused = kubectl.try_run(&["create", "cm", "late", "-n", "shop"], "").await;
    assert!(refused.err.contains("because it is being terminated"), "{refused:?}");
}

#[tokio::test]
async fn apply_edit_label_scale_and_restart() {
    let Some(kubectl) = Kubectl::start().await else { return };
    assert!(kubectl.run_with(&["apply", "-f", "-"], MANIFEST).await.contains("hello created"));
    assert!(kubectl.run_with(&["apply", "-f", "-"], MANIFEST).await.contains("hello unchanged"));
    let changed =
        MANIFEST.replace("replicas: 2", "replicas: 4").replace("greeting: hi", "other: yo");
    let out = kubectl.run_with(&["apply", "-f", "-"], &changed).await;
    assert!(out.contains("deployment.apps/hello configured"), "{out}");
    let data = kubectl.run(&["get", "cm", "hello", "-o", "jsonpath={.data}"]).await;
    assert_eq!(data, "{\"other\":\"yo\"}");
    kubectl.run(&["label", "deploy", "hello", "tier=front"]).await;
    kubectl.run(&["annotate", "deploy", "hello", "note=x"]).await;
    kubectl.run(&["scale", "deploy", "hello", "--replicas=5"]).await;
    kubectl.run(&["set", "image", "deploy/hello", "hello=hello:2"]).await;
    kubectl.run(&["set", "env", "deploy/hello", "A=B"]).await;
    kubectl.run(&["rollout", "restart", "deploy/hello"]).await;
    kubectl
        .run(&[
            "patch",
            "deploy",
            "hello",
            "--type=json",
            "-p",
            "[{\"op\":\"add\",\"path\":\"/spec/minReadySeconds\",\"value\":3}]",
        ])
        .await;
    kubectl
        .run(&[
            "patch",
            "deploy",
            "hello",
            "--type=merge",
            "-p",
            "{\"spec\":{\"revisionHistoryLimit\":2}}",
        ])
        .await;
    let out = kubectl.run(&["get", "deploy", "-l", "tier=front", "-o", "json"]).await;
    let list: Value = serde_json::from_str(&out).unwrap();
    let object = &list["items"][0];
    let spec = &object["spec"];
    assert_eq!(
        (
            spec["replicas"].as_i64(),
            spec["revisionHistoryLimit"].as_i64(),
            spec["minReadySeconds"].as_i64()
        ),
        (Some(5), Some(2), Some(3))
    );
    let container = &spec["template"]["spec"]["containers"][0];
    assert_eq!(
        (container["image"].as_str(), &container["env"]),
        (Some("hello:2"), &json!([{"name": "A", "value": "B"}]))
    );
    assert!(object["metadata"]["generation"].as_i64().unwrap() >= 7, "{object}");
    let bad = kubectl
        .try_run(&["apply", "-f", "-"], &MANIFEST.replace("replicas: 2", "replicaz: 2"))
        .await;
    assert!(bad.err.contains("unknown field \"spec.replicaz\""), "{bad:?}");
    let dry = kubectl
        .run_with(
            &["create", "--dry-run=server", "-f", "-"],
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: dry}",
        )
        .await;
    assert!(dry.contains("created (server dry run)"), "{dry}");
    assert!(!kubectl.try_run(&["get", "cm", "dry"], "").await.ok);
}

#[tokio::test]
async fn replace_conflicts_when_stale() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.run_with(&["create", "-f", "-"], MANIFEST).await;
    let old = kubectl.run(&["get", "cm", "hello", "-o", "yaml"]).await;
    kubectl.run(&["label", "cm", "hello", "a=b"]).await;
    let stale = kubectl.try_run(&["replace", "-f", "-"], &old).await;
    assert!(stale.err.contains("the object has been modified; please apply your changes to the latest version and try again"), "{stale:?}");
}

#[tokio::test]
async fn pods_show_describe_log_and_terminate() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.create_running_pod().await;
    let uid = kubectl.run(&["get", "pod", "web", "-o", "jsonpath={.metadata.uid}"]).await;
    kubectl
        .create("", "events", json!({
            "metadata": {"name": "web.1"}, "type": "Warning", "reason": "BackOff", "message": "it crashed",
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web", "uid": uid},
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z", "count": 3,
        }))
        .await;
    let out = kubectl.run(&["get", "pods", "-o", "wide"]).await;
    assert!(out.contains("NOMINATED NODE") && out.contains("10.1.0.5"), "{out}");
    assert!(out.lines().nth(1).unwrap().starts_with("web    1/1     Running   0"), "{out}");
    let out = kubectl.run(&["get", "nodes", "-o", "wide"]).await;
    assert!(
        out.contains("Ready") && out.contains("control-plane") && out.contains("192.0.2.1"),
        "{out}"
    );
    let out = kubectl.run(&["describe", "pod", "web"]).await;
    assert!(out.contains("n1/") && out.contains("it crashed"), "{out}");
    let out = kubectl.run(&["describe", "node", "n1"]).await;
    assert!(out.contains("Non-terminated Pods:") && out.contains("web"), "{out}");
    let out = kubectl.run(&["get", "events"]).await;
    assert!(out.contains("pod/web") && out.contains("BackOff"), "{out}");
    assert!(kubectl.run(&["events"]).await.contains("BackOff"));
    let out = kubectl.run(&["logs", "web", "--tail=5"]).await;
    assert_eq!(out, "hello from web/hello\ntail=Some(5) follow=false\n");
    let out = kubectl.run(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]).await;
    assert!(out.contains("condition met"), "{out}");
    kubectl.run(&["cordon", "n1"]).await;
    assert!(kubectl.run(&["get", "nodes"]).await.contains("Ready,SchedulingDisabled"));
    kubectl.run(&["delete", "pod", "web", "--wait=false"]).await;
    assert!(kubectl.run(&["get", "pods"]).await.contains("Terminating"));
    kubectl.run(&["delete", "pod", "web", "--grace-period=0", "--force"]).await;
    assert_eq!(kubectl.run(&["get", "pods", "-o", "name"]).await, "");
}

#[tokio::test]
async fn workloads_and_services_are_described() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.run_with(&["create", "-f", "-"], MANIFEST).await;
    let out = kubectl.run(&["describe", "deployment", "hello"]).await;
    assert!(out.contains("Replicas:               2 desired") && out.contains("Events:"), "{out}");
    let out = kubectl.run(&["describe", "service", "hello"]).await;
    assert!(out.contains("IP:") && out.contains("10.96.0."), "{out}");
    let status = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2,
        "readyReplicas": 2, "availableReplicas": 2,
        "conditions": [{"type": "Available", "status": "True"}]});
    kubectl.write_status("apps", "deployments", "hello", status).await;
    let out = kubectl.run(&["rollout", "status", "deploy/hello", "--timeout=60s"]).await;
    assert!(out.contains("successfully rolled out"), "{out}");
}

#[tokio::test]
async fn what_is_served_is_listed() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let out = kubectl.run(&["api-resources"]).await;
    for kind in kinds::KINDS {
        assert!(out.contains(kind.plural) && out.contains(kind.kind), "{} in {out}", kind.plural);
    }
    let out = kubectl.run(&["api-versions"]).await;
    assert_eq!(
        out.split_whitespace().collect::<Vec<_>>(),
        [
            "apiextensions.k8s.io/v1",
            "apps/v1",
            "authentication.k8s.io/v1",
            "authorization.k8s.io/v1",
            "autoscaling/v1",
            "autoscaling/v2",
            "batch/v1",
            "coordination.k8s.io/v1",
            "discovery.k8s.io/v1",
            "metrics.k8s.io/v1beta1",
            "networking.k8s.io/v1",
            "policy/v1",
            "rbac.authorization.k8s.io/v1",
            "scheduling.k8s.io/v1",
            "storage.k8s.io/v1",
            "v1"
        ]
    );
    assert!(kubectl.run(&["version"]).await.contains("v1.32.0+holdfast"));
    let unknown = kubectl.try_run(&["get", "ipaddresses"], "").await;
    assert!(
        unknown.err.contains("the server doesn't have a resource type \"ipaddresses\""),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn get_watch_shows_each_state() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.create_running_pod().await;
    let mut child = kubectl.command(&["get", "pods", "-w"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await;
        line.expect("the watch goes on").unwrap().expect("the watch is open")
    };
    assert!(next().await.starts_with("NAME"));
    assert!(next().await.contains("Running"));
    let status = json!({"phase": "Running", "containerStatuses": [{
        "name": "hello", "ready": false, "restartCount": 2, "image": "", "imageID": "",
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
    kubectl.write_status("", "pods", "web", status).await;
    assert!(next().await.contains("CrashLoopBackOff"));
    kubectl.run(&["delete", "pod", "web", "--wait=false"]).await;
    assert!(next().await.contains("Terminating"));
    child.kill().await.unwrap();
}

#[tokio::test]
async fn edit_select_diff_and_delete_all() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.run_with(&["apply", "-f", "-"], MANIFEST).await;
    kubectl.create_running_pod().await;
    let mut edit = kubectl.command(&["edit", "deploy", "hello"]);
    let done = edit.env("KUBE_EDITOR", "sed -i s/hello:1/hello:9/").output().await.unwrap();
    assert!(done.status.success(), "{done:?}");
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    assert_eq!(kubectl.run(&["get", "deploy", "hello", "-o", image]).await, "hello:9");
    let diff = kubectl.try_run(&["diff", "-f", "-"], MANIFEST).await;
    assert!(diff.out.contains("hello:9") && diff.out.contains("hello:1"), "{diff:?}");
    let chosen = [
        "get",
        "pods",
        "-A",
        "--field-selector=spec.nodeName=n1,status.phase=Running",
        "-o",
        "name",
    ];
    assert_eq!(kubectl.run(&chosen).await.trim(), "pod/web");
    let chunked = kubectl.run(&["get", "ns", "--chunk-size=1", "-o", "name"]).await;
    assert_eq!(chunked.lines().count(), 4, "{chunked}");
    kubectl.run(&["drain", "n1", "--force", "--disable-eviction", "--grace-period=0"]).await;
    assert_eq!(kubectl.run(&["get", "pods", "-o", "name"]).await, "");
    kubectl.run(&["delete", "deploy,svc", "--all"]).await;
    assert_eq!(kubectl.run(&["get", "deploy,svc", "-o", "name"]).await, "");
}
