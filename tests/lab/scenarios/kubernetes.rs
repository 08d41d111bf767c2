//! The API as its users meet it: unmodified kubectl, and our own verbs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{
    Lab, Outcome, PATIENCE, contains, ensure, eventually, failed, get_page, has_kubectl, output,
    run, succeed, text,
};

const CONFIG_MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: greeting, namespace: demo}\ndata: {hello: world}\n";
const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: lone, namespace: demo, labels: {app: lone}}\nspec:\n  terminationGracePeriodSeconds: 2\n  containers:\n    - name: main\n      image: hello:1\n      ports: [{containerPort: 8080}]\n      readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}\n";

fn feed(command: &mut Command, input: &str) -> Result<String, libtest_mimic::Failed> {
    let spawned =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| failed(format!("{command:?}"), error))?;
    if let Some(stdin) = child.stdin.as_mut() {
        stdin.write_all(input.as_bytes()).map_err(|error| failed("stdin", error))?;
    }
    let output = child.wait_with_output().map_err(|error| failed("wait", error))?;
    ensure(output.status.success(), || format!("{command:?}\n{}", text(&output)))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) fn kubectl_transcript(lab: &Lab) -> Outcome {
    if !has_kubectl() {
        println!("SKIPPED t20: no kubectl on the PATH; t21 makes the same calls without it");
        return Ok(());
    }
    let kubectl = |arguments: &[&str]| succeed(&mut lab.kubectl(arguments)?);
    feed(
        &mut lab.kubectl(&["create", "-f", "-"])?,
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: demo}\n",
    )?;
    contains("get ns", &kubectl(&["get", "namespaces"])?, &["NAME", "STATUS", "demo", "Active"])?;
    contains(
        "get nodes",
        &kubectl(&["get", "nodes", "-o", "wide"])?,
        &["a1", "b1", "c1", "Ready", "control-plane", "10.77.0.11"],
    )?;
    feed(&mut lab.kubectl(&["create", "-f", "-"])?, CONFIG_MAP)?;
    contains(
        "get cm",
        &kubectl(&["get", "cm", "-n", "demo", "greeting", "-o", "yaml"])?,
        &["hello: world"],
    )?;
    kubectl(&[
        "patch",
        "cm",
        "greeting",
        "-n",
        "demo",
        "--type=merge",
        "-p",
        r#"{"data":{"hello":"again"}}"#,
    ])?;
    kubectl(&[
        "patch",
        "cm",
        "greeting",
        "-n",
        "demo",
        "--type=json",
        "-p",
        r#"[{"op":"add","path":"/data/more","value":"1"}]"#,
    ])?;
    contains(
        "patched",
        &kubectl(&["get", "cm", "-n", "demo", "greeting", "-o", "json"])?,
        &["again", "more"],
    )?;
    kubectl(&["label", "cm", "greeting", "-n", "demo", "tier=gold"])?;
    contains(
        "by label",
        &kubectl(&["get", "cm", "-n", "demo", "-l", "tier=gold", "-o", "name"])?,
        &["configmap/greeting"],
    )?;
    contains(
        "by field",
        &kubectl(&[
            "get",
            "cm",
            "-n",
            "demo",
            "--field-selector",
            "metadata.name=greeting",
            "-o",
            "name",
        ])?,
        &["configmap/greeting"],
    )?;
    watched_pod(lab)?;
    contains("logs", &kubectl(&["logs", "-n", "demo", "lone"])?, &["GET"])?;
    contains(
        "describe pod",
        &kubectl(&["describe", "pod", "lone", "-n", "demo"])?,
        &["Name:", "lone", "Events:", "Started", "Pulled", "Scheduled"],
    )?;
    contains(
        "describe node",
        &kubectl(&["describe", "node", "a1"])?,
        &["Conditions:", "Capacity:", "MemoryPressure"],
    )?;
    contains(
        "describe deployment",
        &kubectl(&["describe", "deployment", "hello"])?,
        &["Replicas:", "3 available", "RollingUpdateStrategy"],
    )?;
    contains(
        "get deploy",
        &kubectl(&["get", "deployments"])?,
        &["READY", "3/3", "UP-TO-DATE", "AVAILABLE"],
    )?;
    contains(
        "get all kinds",
        &kubectl(&["get", "rs,svc,endpointslices,events"])?,
        &["replicaset.apps/hello", "service/kubernetes", "endpointslice"],
    )?;
    contains(
        "api-resources",
        &kubectl(&["api-resources"])?,
        &["deployments", "deploy", "configmaps", "cm"],
    )?;
    rolling_update(lab)?;
    kubectl(&["delete", "pod", "lone", "-n", "demo"])?;
    let missing = output(&mut lab.kubectl(&["get", "pod", "lone", "-n", "demo"])?)?;
    contains(
        "NotFound",
        &text(&missing),
        &["Error from server (NotFound): pods \"lone\" not found"],
    )?;
    let unknown = output(&mut lab.kubectl(&["get", "widgets"])?)?;
    contains(
        "unknown kind",
        &text(&unknown),
        &["the server doesn't have a resource type \"widgets\""],
    )?;
    kubectl(&["delete", "namespace", "demo", "--timeout=60s"])?;
    let gone = output(&mut lab.kubectl(&["get", "ns", "demo"])?)?;
    contains("namespace gone", &text(&gone), &["NotFound"])
}

/// Creates a pod while `get -w` is running and sees it come Ready on the watch.
fn watched_pod(lab: &Lab) -> Outcome {
    let mut watch = lab
        .kubectl(&["get", "pods", "-n", "demo", "-w"])?
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed("kubectl get -w", error))?;
    let lines = watch.stdout.take().ok_or("no stdout")?;
    let reader = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for line in BufReader::new(lines).lines().map_while(Result::ok) {
            let ready = line.contains("1/1") && line.contains("Running");
            seen.push(line);
            if ready {
                return Ok(());
            }
        }
        Err(seen.join("\n"))
    });
    feed(&mut lab.kubectl(&["create", "-f", "-"])?, POD)?;
    let waited = succeed(&mut lab.kubectl(&[
        "wait",
        "-n",
        "demo",
        "--for=condition=Ready",
        "pod/lone",
        "--timeout=90s",
    ])?);
    if waited.is_err() {
        let _already_dead = watch.kill();
    }
    waited?;
    let finished = eventually("the watch shows the pod Running", PATIENCE, || {
        ensure(reader.is_finished(), || "not seen yet".into())
    });
    let _already_dead = watch.kill();
    let _reaped = watch.wait();
    finished?;
    reader
        .join()
        .map_err(|_| "reader panicked")?
        .map_err(|seen| format!("watch showed:\n{seen}").into())
}

fn rolling_update(lab: &Lab) -> Outcome {
    let patch = r#"{"spec":{"template":{"metadata":{"annotations":{"round":"two"}}}}}"#;
    succeed(&mut lab.kubectl(&["patch", "deployment", "hello", "--type=merge", "-p", patch])?)?;
    succeed(&mut lab.kubectl(&["rollout", "status", "deployment/hello", "--timeout=120s"])?)?;
    succeed(&mut lab.kubectl(&["scale", "deployment/hello", "--replicas=2"])?)?;
    lab.pods_ready("hello", 2, |_| true)?;
    succeed(&mut lab.kubectl(&["scale", "deployment/hello", "--replicas=3"])?)?;
    lab.pods_ready("hello", 3, |_| true).map(|_| ())
}

pub(crate) fn own_verbs(lab: &Lab) -> Outcome {
    let own = |arguments: &[&str]| succeed(&mut lab.holdfast(arguments)?);
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: own, namespace: default}\ndata: {a: b}\n";
    feed(&mut lab.holdfast(&["apply", "-f", "-"])?, manifest)?;
    feed(&mut lab.holdfast(&["apply", "-f", "-"])?, &manifest.replace("a: b", "a: c"))?;
    let shown: Value = serde_json::from_str(&own(&["get", "configmap", "own", "-o", "json"])?)
        .map_err(|error| failed("get -o json", error))?;
    ensure(shown["data"]["a"] == "c", || shown.to_string())?;
    contains("get", &own(&["get", "pods"])?, &["NAME", "READY", "hello-"])?;
    contains("describe", &own(&["describe", "deployment", "hello"])?, &["hello"])?;
    let pods = lab.pods_ready("hello", 3, |_| true)?;
    let name = pods[0]["metadata"]["name"].as_str().unwrap_or_default();
    contains("logs", &own(&["logs", name])?, &["GET"])?;
    contains("logs of a workload", &own(&["logs", "deploy/hello"])?, &["GET"])?;
    own(&["delete", "configmap", "own"])?;
    let gone = output(&mut lab.holdfast(&["get", "configmap", "own"])?)?;
    ensure(gone.status.code() == Some(1), || text(&gone))?;
    contains("NotFound", &text(&gone), &["not found"])?;
    let usage = output(&mut lab.holdfast(&["get"])?)?;
    ensure(usage.status.code() == Some(64), || text(&usage))?;
    own_verbs_on_many(lab)
}

/// Several kinds, all kinds, a folder of manifests, and what `describe` puts together.
fn own_verbs_on_many(lab: &Lab) -> Outcome {
    let own = |arguments: &[&str]| succeed(&mut lab.holdfast(arguments)?);
    contains(
        "get all",
        &own(&["get", "all"])?,
        &["pod/hello-", "deployment.apps/hello", "replicaset.apps/hello-", "service/hello"],
    )?;
    contains(
        "get of two kinds",
        &own(&["get", "services,deployments"])?,
        &["service/hello", "deployment.apps/hello"],
    )?;
    let described = own(&["describe", "deployment", "hello"])?;
    contains(
        "describe",
        &described,
        &["Replicas:", "StrategyType:", "NewReplicaSet:", "Conditions:", "Events:"],
    )?;
    contains(
        "describe node",
        &own(&["describe", "node", "a1"])?,
        &["Conditions:", "Capacity:", "Non-terminated Pods:"],
    )?;
    let folder = tempfile::tempdir().map_err(|error| failed("folder", error))?;
    for (file, key) in [("1.yaml", "first"), ("2.yml", "second")] {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {key}, namespace: default}}\n"
        );
        fs::write(folder.path().join(file), text).map_err(|error| failed(file, error))?;
    }
    let path = folder.path().to_string_lossy().into_owned();
    contains(
        "apply of a folder",
        &own(&["apply", "-f", &path])?,
        &["configmap/first created", "configmap/second created"],
    )?;
    own(&["delete", "configmap", "first", "second"])?;
    Ok(())
}

/// The page as a browser gets it; the certificate is the cluster's own.
pub(crate) fn admin_page(lab: &Lab) -> Outcome {
    let url = lab.env("HOLDFAST_ADMIN_URL")?;
    let password = lab.env("HOLDFAST_ADMIN_PASSWORD")?;
    let status = url.replace("/ui/", "/holdfast/v1/status");
    run(async {
        let ask = async |url: &str, password: Option<&str>| {
            let answer = get_page(url, password).await?;
            let policy = answer.headers().get("content-security-policy").cloned();
            let code = answer.status();
            let body = answer.text().await.map_err(|error| failed("body", error))?;
            Ok::<_, libtest_mimic::Failed>((code, policy, body))
        };
        let (code, policy, body) = ask(&url, None).await?;
        ensure(code == 200 && policy.is_some(), || format!("{code} {policy:?}"))?;
        ensure(!body.contains("10.77."), || format!("a stranger is told of the cluster: {body}"))?;
        let (code, _, _) = ask(&status, None).await?;
        ensure(code == 401, || format!("without a password: {code}"))?;
        let (code, _, _) = ask(&status, Some("wrong")).await?;
        ensure(code == 401, || format!("with a wrong password: {code}"))?;
        let (code, _, body) = ask(&status, Some(&password)).await?;
        ensure(code == 200, || format!("{code}"))?;
        contains("the document", &body, &["10.77.0.11:2380", "\"leader\":true", "certificates"])
    })
}
