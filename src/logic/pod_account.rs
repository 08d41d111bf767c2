//! What a service account brings to a pod that runs as it: names, pull secrets, and the
//! volume by which an unmodified client finds and trusts the API.
//!
//! Source: `plugin/pkg/admission/serviceaccount/admission.go`.
//! Invariants: a container that mounts something at the usual place keeps it; the pod's own
//! word about the token goes before the account's; ephemeral containers are left alone.
//! Not here: whether the account exists (`objects`), the files (`agent/volumes`).

use serde_json::{Value, json};

/// The config map with the cluster's authority, in every namespace.
pub const ROOT_CA: &str = "kube-root-ca.crt";
/// Where clients look for who they are.
pub const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME: &str = "kube-api-access-";
/// An hour, and seven seconds by which Kubernetes knows tokens that nobody asked for.
const TOKEN_SECONDS: i64 = 3_607;

fn is_empty(list: Option<&Value>) -> bool {
    list.and_then(Value::as_array).is_none_or(Vec::is_empty)
}

/// Makes `pod` run as the account of this name. `suffix` makes the volume's name its own.
pub fn run_as(pod: &mut Value, name: &str, account: &Value, suffix: &str) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for field in ["serviceAccountName", "serviceAccount"] {
        spec.insert(field.into(), name.into());
    }
    let said = |value: Option<&Value>| value.and_then(Value::as_bool);
    let own = said(spec.get("automountServiceAccountToken"));
    if own.or(said(account.get("automountServiceAccountToken"))).unwrap_or(true) {
        mount_token(&mut pod["spec"], suffix);
    }
    if is_empty(pod["spec"].get("imagePullSecrets"))
        && let Some(secrets) = account.get("imagePullSecrets")
        && !is_empty(Some(secrets))
    {
        pod["spec"]["imagePullSecrets"] = secrets.clone();
    }
}

fn mount_token(spec: &mut Value, suffix: &str) {
    let named = spec["volumes"].as_array().into_iter().flatten();
    let given = named.filter_map(|volume| volume["name"].as_str());
    let given = given.into_iter().find(|name| name.starts_with(VOLUME)).map(str::to_owned);
    let name = given.clone().unwrap_or_else(|| format!("{VOLUME}{suffix}"));
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let mounts = container["volumeMounts"].as_array();
            if mounts.into_iter().flatten().any(|mount| mount["mountPath"] == MOUNT_PATH) {
                continue;
            }
            if !container["volumeMounts"].is_array() {
                container["volumeMounts"] = json!([]);
            }
            if let Some(mounts) = container["volumeMounts"].as_array_mut() {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
            }
            needed = true;
        }
    }
    if !needed || given.is_some() {
        return;
    }
    if !spec["volumes"].is_array() {
        spec["volumes"] = json!([]);
    }
    if let Some(volumes) = spec["volumes"].as_array_mut() {
        volumes.push(json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef":
                {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({"spec": {
            "volumes": [{"name": "own", "emptyDir": {}}],
            "initContainers": [{"name": "i"}],
            "containers": [
                {"name": "a"},
                {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]},
            ],
            "ephemeralContainers": [{"name": "e"}],
        }})
    }

    #[test]
    fn every_container_but_one_with_its_own_mount_gets_the_token() {
        let mut pod = pod();
        run_as(&mut pod, "robot", &json!({}), "x7k2p");
        let spec = &pod["spec"];
        assert_eq!(spec["serviceAccountName"], "robot");
        assert_eq!(spec["serviceAccount"], "robot");
        let mount = json!([{"name": "kube-api-access-x7k2p", "readOnly": true,
            "mountPath": MOUNT_PATH}]);
        assert_eq!(spec["initContainers"][0]["volumeMounts"], mount);
        assert_eq!(spec["containers"][0]["volumeMounts"], mount);
        assert_eq!(spec["containers"][1]["volumeMounts"][0]["name"], "own");
        assert_eq!(spec["containers"][1]["volumeMounts"].as_array().map(Vec::len), Some(1));
        assert!(spec["ephemeralContainers"][0].get("volumeMounts").is_none());
        let volume = &spec["volumes"][1];
        assert_eq!(volume["name"], "kube-api-access-x7k2p");
        assert_eq!(volume["projected"]["defaultMode"], 420);
        let sources = &volume["projected"]["sources"];
        assert_eq!(sources[0]["serviceAccountToken"]["expirationSeconds"], 3_607);
        assert_eq!(sources[1]["configMap"]["name"], "kube-root-ca.crt");
        assert_eq!(sources[2]["downwardAPI"]["items"][0]["path"], "namespace");
    }

    #[test]
    fn the_pods_word_goes_before_the_accounts() {
        let mounted = |of_pod: Value, of_account: Value| {
            let mut pod = pod();
            if !of_pod.is_null() {
                pod["spec"]["automountServiceAccountToken"] = of_pod;
            }
            let account = json!({"automountServiceAccountToken": of_account});
            run_as(&mut pod, "default", &account, "aaaaa");
            pod["spec"]["volumes"].as_array().is_some_and(|volumes| volumes.len() == 2)
        };
        assert!(mounted(Value::Null, Value::Null));
        assert!(!mounted(Value::Null, false.into()));
        assert!(mounted(true.into(), false.into()));
        assert!(!mounted(false.into(), true.into()));
    }

    #[test]
    fn no_volume_is_made_that_nobody_mounts_or_that_is_there() {
        let mount = json!([{"name": "own", "mountPath": MOUNT_PATH}]);
        let mut all_own = json!({"spec": {"containers": [{"name": "a", "volumeMounts": mount}]}});
        run_as(&mut all_own, "default", &json!({}), "aaaaa");
        assert!(all_own["spec"].get("volumes").is_none());
        assert!(all_own["spec"].get("initContainers").is_none(), "nothing is left behind");
        let mut copied = json!({"spec": {"containers": [{"name": "a"}],
            "volumes": [{"name": "kube-api-access-old", "projected": {}}]}});
        run_as(&mut copied, "default", &json!({}), "aaaaa");
        assert_eq!(copied["spec"]["volumes"].as_array().map(Vec::len), Some(1));
        assert_eq!(
            copied["spec"]["containers"][0]["volumeMounts"][0]["name"],
            "kube-api-access-old"
        );
    }

    #[test]
    fn pull_secrets_are_taken_over_unless_the_pod_has_its_own() {
        let account = json!({"imagePullSecrets": [{"name": "s"}]});
        let mut bare = pod();
        run_as(&mut bare, "default", &account, "aaaaa");
        assert_eq!(bare["spec"]["imagePullSecrets"], json!([{"name": "s"}]));
        let mut own = pod();
        own["spec"]["imagePullSecrets"] = json!([{"name": "mine"}]);
        run_as(&mut own, "default", &account, "aaaaa");
        assert_eq!(own["spec"]["imagePullSecrets"], json!([{"name": "mine"}]));
    }
}
