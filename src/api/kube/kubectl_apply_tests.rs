//! The real kubectl: server-side apply, its migration, diff, explain.

use serde_json::Value;

use super::kubectl_tests::Kubectl;

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
        ports: [{containerPort: 53}, {containerPort: 53, protocol: UDP}]
        resources: {limits: {cpu: 1, memory: 64Mi}}
";

impl Kubectl {
    /// manager/operation of every entry of an object, by name.
    async fn managers(&self, what: &str) -> Vec<String> {
        let out = self.run(&["get", what, "--show-managed-fields", "-o", "json"]).await;
        let object: Value = serde_json::from_str(&out).unwrap();
        let list = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let mut found: Vec<String> = list
            .iter()
            .map(|entry| {
                let text = |field: &str| entry[field].as_str().unwrap_or_default();
                format!("{}/{}", text("manager"), text("operation"))
            })
            .collect();
        found.sort();
        found
    }
}

#[tokio::test]
async fn apply_on_the_server_conflicts_and_is_forced() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let apply = ["apply", "--server-side", "-f", "-"];
    let out = kubectl.run_with(&apply, MANIFEST).await;
    assert_eq!(out.trim(), "deployment.apps/hello serverside-applied");
    assert_eq!(kubectl.managers("deploy/hello").await, ["kubectl/Apply"]);
    kubectl.run(&["scale", "deploy", "hello", "--replicas=5"]).await;
    let refused = kubectl.try_run(&apply, MANIFEST).await;
    assert!(!refused.ok, "{refused:?}");
    assert!(
        refused.err.contains(
            "conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas"
        ),
        "{refused:?}"
    );
    assert!(refused.err.contains("Please review the fields above"), "{refused:?}");
    let diff =
        kubectl.try_run(&["diff", "--server-side", "--force-conflicts", "-f", "-"], MANIFEST).await;
    assert!(diff.out.contains("-  replicas: 5") && diff.out.contains("+  replicas: 2"), "{diff:?}");
    kubectl.run_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], MANIFEST).await;
    let replicas = ["get", "deploy", "hello", "-o", "jsonpath={.spec.replicas}"];
    assert_eq!(kubectl.run(&replicas).await, "2");
    let diff = kubectl.try_run(&["diff", "--server-side", "-f", "-"], MANIFEST).await;
    assert!(diff.ok && diff.out.is_empty(), "{diff:?}");
    let without = MANIFEST.replace("        resources: {limits: {cpu: 1, memory: 64Mi}}\n", "");
    kubectl.run_with(&apply, &without).await;
    let limits = "jsonpath={.spec.template.spec.containers[0].resources}";
    assert_eq!(kubectl.run(&["get", "deploy", "hello", "-o", limits]).await, "{}");
    let dry = kubectl
        .run_with(&["apply", "--server-side", "--dry-run=server", "-f", "-"], MANIFEST)
        .await;
    assert!(dry.contains("serverside-applied (server dry run)"), "{dry}");
    let bad = MANIFEST.replace("replicas: 2", "replicaz: 2");
    let bad = kubectl.try_run(&apply, &bad).await;
    assert!(bad.err.contains(".spec.replicaz: field not declared in schema"), "{bad:?}");
}

#[tokio::test]
async fn apply_moves_from_the_client_to_the_server() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.run_with(&["apply", "-f", "-"], MANIFEST).await;
    assert_eq!(kubectl.managers("deploy/hello").await, ["kubectl-client-side-apply/Update"]);
    let changed = MANIFEST.replace("hello:1", "hello:2").replace("replicas: 2", "replicas: 3");
    kubectl.run_with(&["apply", "--server-side", "-f", "-"], &changed).await;
    // The second is kubectl's own, for the annotation that it keeps up to date.
    let managers = kubectl.managers("deploy/hello").await;
    assert_eq!(managers, ["kubectl-last-applied/Apply", "kubectl/Apply"]);
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    assert_eq!(kubectl.run(&["get", "deploy", "hello", "-o", image]).await, "hello:2");
    // And back: the older apply still finds what was applied last.
    let back = kubectl.run_with(&["apply", "-f", "-"], &changed).await;
    assert!(back.contains("deployment.apps/hello"), "{back}");
    let last = ["apply", "view-last-applied", "deploy/hello", "-o", "json"];
    let last: Value = serde_json::from_str(&kubectl.run(&last).await).unwrap();
    assert_eq!(last["spec"]["replicas"], 3);
}

#[tokio::test]
async fn explain_tells_every_kind_and_field() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let out = kubectl.run(&["explain", "pods"]).await;
    assert!(out.contains("KIND:       Pod") && out.contains("VERSION:    v1"), "{out}");
    assert!(out.contains("Pod is a collection of containers"), "{out}");
    let out = kubectl.run(&["explain", "deploy.spec.template.spec.containers.ports"]).await;
    assert!(out.contains("containerPort\t<integer> -required-"), "{out}");
    assert!(out.contains("FIELD: ports <[]ContainerPort>"), "{out}");
    let out = kubectl.run(&["explain", "service.spec", "--recursive"]).await;
    assert!(out.contains("sessionAffinityConfig") && out.contains("timeoutSeconds"), "{out}");
    for kind in crate::model::kinds::KINDS {
        let version = format!("--api-version={}", kind.api_version());
        let out = kubectl.run(&["explain", kind.plural, &version]).await;
        assert!(out.contains(&format!("KIND:       {}", kind.kind)), "{out}");
    }
    let missing = kubectl.try_run(&["explain", "pods.spec.nope"], "").await;
    assert!(missing.err.contains("field \"nope\" does not exist"), "{missing:?}");
}
