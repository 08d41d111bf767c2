//! Secrets and volumes on real hosts: what reaches a container, what lies on the disks, what
//! comes back with its pod, and what is left.

use std::fs;
use std::path::Path;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::harness::{Lab, Outcome, PATIENCE, ensure, eventually, failed, succeed};
use crate::scenarios::NODES;
use crate::scenarios::masters::ask_sample;

/// Text that stands nowhere else on this machine.
const SECRET: &str = "quiet-otter-8841-brine";
/// The same in base64, as an object holds it.
const SECRET_BASE64: &str = "cXVpZXQtb3R0ZXItODg0MS1icmluZQ==";

const MANIFEST: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: vault, namespace: default}\n\
    stringData: {version: quiet-otter-8841-brine}\n---\n\
    apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: store, namespace: default}\n\
    spec:\n  serviceName: store\n  replicas: 2\n  selector: {matchLabels: {app: store}}\n  \
    persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete}\n  \
    volumeClaimTemplates:\n  - metadata: {name: data}\n    spec: {accessModes: [ReadWriteOnce], \
    resources: {requests: {storage: 64Mi}}}\n  template:\n    metadata: {labels: {app: store}}\n    \
    spec:\n      terminationGracePeriodSeconds: 2\n      volumes:\n      - {name: vault, secret: \
    {secretName: vault}}\n      containers:\n      - name: main\n        image: 'hello:1'\n        \
    ports: [{containerPort: 8080}]\n        readinessProbe: {httpGet: {path: /readyz, port: 8080}, \
    periodSeconds: 1}\n        env:\n        - {name: VERSION, valueFrom: {secretKeyRef: {name: \
    vault, key: version}}}\n        volumeMounts:\n        - {name: vault, mountPath: /vault}\n        \
    - {name: data, mountPath: /data}\n";

/// The first file below a folder that holds one of the texts; the folder may be absent.
fn find_text(folder: &Path, texts: &[&str]) -> Result<Option<String>, Failed> {
    let mut pending: Vec<_> = folder.is_dir().then(|| folder.to_owned()).into_iter().collect();
    while let Some(next) = pending.pop() {
        let entries = fs::read_dir(&next).map_err(|error| failed(next.display(), error))?;
        for entry in entries {
            let path = entry.map_err(|error| failed(next.display(), error))?.path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            // A segment of the log may be put aside while this looks.
            let Ok(bytes) = fs::read(&path) else { continue };
            let held = |text: &&str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
            if texts.iter().any(held) {
                return Ok(Some(path.display().to_string()));
            }
        }
    }
    Ok(None)
}

fn claims(lab: &Lab) -> Result<Vec<Value>, Failed> {
    let mut all = lab.objects("persistentvolumeclaims")?;
    all.retain(|claim| {
        claim["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("data-store-"))
    });
    Ok(all)
}

pub(crate) fn secrets_and_volumes(lab: &Lab) -> Outcome {
    let place = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let file = place.path().join("storage.yaml");
    fs::write(&file, MANIFEST).map_err(|error| failed("manifest", error))?;
    succeed(&mut lab.holdfast(&["apply", "-f", &file.to_string_lossy()])?)?;
    let pods = lab.pods_ready("store", 2, |_| true)?;
    for pod in &pods {
        let address = pod["status"]["podIP"].as_str().unwrap_or_default();
        let said = ask_sample(lab, "a1", &format!("{address}:8080/"))?;
        ensure(said["version"] == SECRET, || said.to_string())?;
    }
    // A directory of its own for each, on the pod's node, which keeps the pod there.
    let held = claims(lab)?;
    ensure(held.len() == 2, || format!("{held:?}"))?;
    let mut directories = Vec::new();
    for claim in &held {
        ensure(claim["status"]["phase"] == "Bound", || claim.to_string())?;
        let ordinal = claim["metadata"]["name"].as_str().unwrap_or_default().replace("data-", "");
        let pod = pods.iter().find(|pod| pod["metadata"]["name"] == ordinal.as_str());
        let node = pod.and_then(|pod| pod["spec"]["nodeName"].as_str()).unwrap_or_default();
        let volume = claim["spec"]["volumeName"].as_str().unwrap_or_default();
        let path = lab.root(node).join("var/lib/holdfast/volumes").join(volume);
        ensure(path.is_dir(), || format!("{} is not there", path.display()))?;
        directories.push((node.to_owned(), path));
    }
    let (node, first) = &directories[0];
    fs::write(first.join("kept"), b"kept").map_err(|error| failed("write", error))?;
    let name = held[0]["metadata"]["name"].as_str().unwrap_or_default().replace("data-", "");
    let uid = |lab: &Lab| -> Result<(String, bool), Failed> {
        let pods = lab.objects("pods")?;
        let pod = pods.iter().find(|pod| pod["metadata"]["name"] == name.as_str());
        let pod = pod.ok_or_else(|| format!("{name} is not there"))?;
        let at_home = pod["spec"]["nodeName"] == node.as_str() && crate::harness::is_ready(pod);
        Ok((pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned(), at_home))
    };
    let before = uid(lab)?.0;
    succeed(&mut lab.holdfast(&["delete", "pod", &name])?)?;
    eventually("the pod comes back to its volume", PATIENCE, || {
        let (now, at_home) = uid(lab)?;
        ensure(now != before && at_home, || format!("{now} {at_home}"))
    })?;
    ensure(first.join("kept").is_file(), || "the file is gone".into())?;
    nothing_in_the_clear(lab)?;
    rotate(lab)?;
    remove(lab, &directories)
}

fn nothing_in_the_clear(lab: &Lab) -> Outcome {
    for node in NODES {
        for folder in ["var/lib/holdfast/store", "var/lib/holdfast/agent"] {
            let found = find_text(&lab.root(node).join(folder), &[SECRET, SECRET_BASE64])?;
            ensure(found.is_none(), || format!("in the clear: {found:?}"))?;
        }
        let key = lab.root(node).join("etc/holdfast/pki/secret-keys.json");
        ensure(key.is_file(), || format!("{node} has no key"))?;
    }
    let saved = "/var/holdfast-secrets.hfs";
    succeed(&mut lab.on("a1", &["holdfast", "store", "snapshot", "save", "-o", saved]))?;
    let copy = lab.root("a1").join("var/holdfast-secrets.hfs");
    let bytes = fs::read(&copy).map_err(|error| failed(copy.display(), error))?;
    fs::remove_file(&copy).map_err(|error| failed(copy.display(), error))?;
    for text in [SECRET, SECRET_BASE64] {
        let held = bytes.windows(text.len()).any(|part| part == text.as_bytes());
        ensure(!held, || "the snapshot holds it in the clear".into())?;
    }
    Ok(())
}

fn rotate(lab: &Lab) -> Outcome {
    let status = ["holdfast", "secrets", "status", "-o", "json"];
    let read = |lab: &Lab| -> Result<Value, Failed> {
        let told = crate::harness::output(&mut lab.on("b1", &status))?;
        serde_json::from_slice(&told.stdout).map_err(|error| failed("secrets status", error))
    };
    let before = read(lab)?["active"].clone();
    succeed(&mut lab.on("c1", &["holdfast", "secrets", "rotate-key"]))?;
    eventually("everything is under the new key", PATIENCE, || {
        let now = read(lab)?;
        let active = now["active"].as_str().unwrap_or_default().to_owned();
        let settled = now["swept"] == active.as_str()
            && now["active"] != before
            && now["values"].as_object().is_some_and(|held| held.len() == 1);
        ensure(settled, || now.to_string())
    })?;
    let secrets = lab.objects("secrets")?;
    let vault = secrets.iter().find(|one| one["metadata"]["name"] == "vault");
    let text = vault.map(|vault| vault["data"]["version"].clone()).unwrap_or_default();
    ensure(text == SECRET_BASE64, || text.to_string())
}

fn remove(lab: &Lab, directories: &[(String, std::path::PathBuf)]) -> Outcome {
    succeed(&mut lab.holdfast(&["delete", "statefulset", "store"])?)?;
    succeed(&mut lab.holdfast(&["delete", "secret", "vault"])?)?;
    eventually("claims, volumes and directories are gone", PATIENCE, || {
        let left = claims(lab)?;
        ensure(left.is_empty(), || format!("{left:?}"))?;
        let volumes = lab.objects("persistentvolumes")?;
        ensure(volumes.is_empty(), || format!("{volumes:?}"))?;
        let there = directories.iter().find(|(_, path)| path.exists());
        ensure(there.is_none(), || format!("{there:?}"))
    })?;
    eventually("nothing of the pods is mounted", PATIENCE, || {
        let pods = lab.objects("pods")?;
        for node in NODES {
            let table = fs::read_to_string(format!("/proc/{}/mountinfo", lab.pid(node)?))
                .map_err(|error| failed("mountinfo", error))?;
            let known = |line: &str| {
                pods.iter().any(|pod| {
                    pod["metadata"]["uid"].as_str().is_some_and(|uid| line.contains(uid))
                })
            };
            let stray = table.lines().find(|line| line.contains("/holdfast/pods/") && !known(line));
            ensure(stray.is_none(), || format!("{node}: {stray:?}"))?;
        }
        Ok(())
    })
}
