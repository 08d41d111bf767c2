//! Pods as clients of the API, and what bounds a namespace, with real containers.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{
    Lab, Outcome, PATIENCE, contains, ensure, eventually, failed, has_kubectl, output, succeed,
    text,
};
use crate::scenarios::NODES;

/// Where a pod finds the client: a file of its host.
const CLIENT: &str = "/opt/kubectl";

/// An account that may read what it must find, and a pod of it on each node, which asks who
/// it is and reads its own authority: by the files and variables of every pod alone.
const WHO: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: identity}\n---\n\
    apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: robot, namespace: identity}\n---\n\
    apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
    metadata: {name: robot, namespace: identity}\n\
    roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}\n\
    subjects: [{kind: ServiceAccount, name: robot, namespace: identity}]\n";

fn caller(node: &str) -> String {
    let container = |name: &str, words: &str| {
        format!(
            "  - name: {name}\n    image: hello:1\n    command: [/kubectl, {words}]\n    env: \
             [{{name: HOME, value: /tmp}}]\n    volumeMounts: [{{name: client, mountPath: /kubectl}}]\n"
        )
    };
    let who = container("who", "auth, whoami, -o, 'jsonpath={.status.userInfo.username}'");
    let read = container("read", "get, configmap, kube-root-ca.crt, -o, name");
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: caller-{node}, namespace: identity}}\n\
         spec:\n  serviceAccountName: robot\n  nodeName: {node}\n  restartPolicy: OnFailure\n  \
         volumes: [{{name: client, hostPath: {{path: {CLIENT}, type: File}}}}]\n  \
         initContainers:\n{who}  containers:\n{read}"
    )
}

fn put(lab: &Lab, node: &str, path: &str, content: &str) -> Outcome {
    let place = lab.root(node).join(path.trim_start_matches('/'));
    fs::write(&place, content).map_err(|error| failed(place.display(), error))
}

/// Hands an unmodified client to a host.
pub(super) fn hand_over_client(lab: &Lab, node: &str) -> Outcome {
    let found = std::env::var_os("PATH").into_iter();
    let found = found.flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let client = found.map(|dir| dir.join("kubectl")).find(|path| path.is_file());
    let client = client.ok_or("no kubectl on the PATH")?;
    let place = lab.root(node).join(CLIENT.trim_start_matches('/'));
    let parent = place.parent().ok_or("the client's place has no parent")?;
    fs::create_dir_all(parent).map_err(|error| failed(parent.display(), error))?;
    fs::copy(&client, &place).map_err(|error| failed(place.display(), error))?;
    Ok(())
}

/// The account and one pod on each of the nodes.
pub(super) fn callers(nodes: &[&str]) -> String {
    let pods: Vec<String> = nodes.iter().map(|node| caller(node)).collect();
    format!("{WHO}{}", pods.concat())
}

/// Waits until the node's pod has come to its end, and reads what its client said.
pub(super) fn has_called(lab: &Lab, on: &str, node: &str) -> Outcome {
    let pod = format!("caller-{node}");
    let ask = |arguments: &[&str]| {
        let mut command = vec!["holdfast"];
        command.extend(arguments);
        command.extend(["-n", "identity"]);
        succeed(&mut lab.on(on, &command))
    };
    eventually(&format!("{pod} has reached the API"), PATIENCE, || {
        let found = ask(&["get", "pod", &pod, "-o", "json"])?;
        ensure(found.contains("\"Succeeded\""), || found.clone())
    })?;
    let who = ask(&["logs", &pod, "-c", "who"])?;
    contains(&pod, &who, &["system:serviceaccount:identity:robot"])?;
    contains(&pod, &ask(&["logs", &pod, "-c", "read"])?, &["configmap/kube-root-ca.crt"])
}

/// An unmodified client in a pod on every master reaches the API as the pod's account.
pub(crate) fn pods_call_the_api(lab: &Lab) -> Outcome {
    if !has_kubectl() {
        println!("SKIPPED t46: no kubectl on the PATH, which is the client");
        return Ok(());
    }
    for node in NODES {
        hand_over_client(lab, node)?;
    }
    put(lab, "a1", "/root/callers.yaml", &callers(&NODES))?;
    succeed(&mut lab.on("a1", &["holdfast", "apply", "-f", "/root/callers.yaml"]))?;
    NODES.iter().try_for_each(|node| has_called(lab, "a1", node))?;
    succeed(&mut lab.on("a1", &["holdfast", "delete", "namespace", "identity"]))?;
    NODES.iter().try_for_each(|node| {
        let place = lab.root(node).join(CLIENT.trim_start_matches('/'));
        fs::remove_file(&place).map_err(|error| failed(place.display(), error))
    })
}

/// A namespace with room for three pods, none of which may take its host's network.
const BOUNDED: &str = "apiVersion: v1\nkind: Namespace\n\
    metadata: {name: bounded, labels: {pod-security.kubernetes.io/enforce: baseline}}\n---\n\
    apiVersion: v1\nkind: LimitRange\nmetadata: {name: usual, namespace: bounded}\n\
    spec: {limits: [{type: Container, defaultRequest: {cpu: 10m}}]}\n---\n\
    apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: room, namespace: bounded}\n\
    spec: {hard: {pods: 3, requests.cpu: 100m}}\n";

fn pod(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: bounded, labels: \
         {{app: bounded}}}}\nspec:\n  terminationGracePeriodSeconds: 1\n{more}  containers: \
         [{{name: main, image: 'hello:1'}}]\n"
    )
}

fn quota(lab: &Lab) -> Result<Value, libtest_mimic::Failed> {
    let quotas = lab.objects("resourcequotas")?;
    let own = quotas.into_iter().find(|quota| quota["metadata"]["name"] == "room");
    own.ok_or_else(|| "the quota is gone".into())
}

fn used(lab: &Lab, pods: &str, cpu: &str) -> Outcome {
    eventually(&format!("{pods} pods are counted"), PATIENCE, || {
        let quota = quota(lab)?;
        let used = &quota["status"]["used"];
        ensure(used["pods"] == pods && used["requests.cpu"] == cpu, || quota.to_string())
    })
}

/// Each master is asked for pods of its own at the same moment; what they answered.
fn all_at_once(lab: &Lab, each: usize) -> Result<(usize, String), libtest_mimic::Failed> {
    let mut running = Vec::new();
    for node in NODES {
        let pods: String = (0..each).map(|n| pod(&format!("{node}-{n}"), "")).collect();
        put(lab, node, "/root/bounded.yaml", &pods)?;
        let mut command = lab.on(node, &["holdfast", "apply", "-f", "/root/bounded.yaml"]);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        running.push(command.spawn().map_err(|error| failed("apply", error))?);
    }
    let mut said = String::new();
    for child in running {
        let done = child.wait_with_output().map_err(|error| failed("apply", error))?;
        said.push_str(&text(&done));
    }
    let pods = lab.objects("pods")?;
    let made = pods.iter().filter(|pod| pod["metadata"]["namespace"] == "bounded").count();
    Ok((made, said))
}

/// Quotas hold whichever master is asked, and give back what is gone.
pub(crate) fn quotas_hold(lab: &Lab) -> Outcome {
    put(lab, "a1", "/root/room.yaml", BOUNDED)?;
    succeed(&mut lab.on("a1", &["holdfast", "apply", "-f", "/root/room.yaml"]))?;
    used(lab, "0", "0")?;
    let (made, said) = all_at_once(lab, 4)?;
    ensure(made == 3, || format!("{made} pods were made:\n{said}"))?;
    let words = ["exceeded quota: room, requested: pods=1, used: pods=3, limited: pods=3"];
    contains("the refusals", &said, &words)?;
    used(lab, "3", "30m")?;
    lab.pods_ready("bounded", 3, |_| true)?;
    let shown = succeed(&mut lab.holdfast(&["get", "resourcequotas", "-n", "bounded"])?)?;
    contains("get", &shown, &["pods: 3/3", "requests.cpu: 30m/100m"])?;
    put(lab, "b1", "/root/host.yaml", &pod("host", "  hostNetwork: true\n"))?;
    let refused = output(&mut lab.on("b1", &["holdfast", "apply", "-f", "/root/host.yaml"]))?;
    let words = ["violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"];
    contains("the host's network", &text(&refused), &words)?;
    let pods = lab.objects("pods")?;
    let own = pods.iter().filter(|pod| pod["metadata"]["namespace"] == "bounded");
    let names: Vec<&str> = own.filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
    for name in &names[..2] {
        succeed(&mut lab.holdfast(&["delete", "pod", name, "-n", "bounded"])?)?;
    }
    used(lab, "1", "10m")?;
    let (made, said) = all_at_once(lab, 4)?;
    ensure(made == 3, || format!("{made} pods after two had gone:\n{said}"))?;
    succeed(&mut lab.holdfast(&["delete", "namespace", "bounded"])?).map(|_| ())
}
