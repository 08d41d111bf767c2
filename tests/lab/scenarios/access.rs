//! Who may do what and who did what, on three control nodes: tokens, roles, audit log.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{
    Lab, Outcome, PATIENCE, contains, ensure, eventually, failed, has_kubectl, output, succeed,
    text,
};
use crate::scenarios::NODES;

/// On a host, what a token's bearer uses.
const TOKEN_CONFIG: &str = "/root/token.kubeconfig";

/// Roles by our own verbs: a role over config maps, bound to a user and to an account.
const RIGHTS: &str = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: robot, namespace: default}\n---\n\
    apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n\
    metadata: {name: maps, namespace: default}\n\
    rules: [{apiGroups: [''], resources: [configmaps], verbs: [get, list, create]}]\n---\n\
    apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
    metadata: {name: maps, namespace: default}\n\
    roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: maps}\n\
    subjects:\n- {apiGroup: rbac.authorization.k8s.io, kind: User, name: jane}\n\
    - {kind: ServiceAccount, name: robot, namespace: default}\n";

fn parsed(text: &str) -> Result<Value, libtest_mimic::Failed> {
    serde_json::from_str(text).map_err(|error| failed("JSON", error))
}

fn apply(lab: &Lab, manifest: &str) -> Outcome {
    let file = tempfile::NamedTempFile::with_suffix(".yaml");
    let file = file.map_err(|error| failed("manifest", error))?;
    fs::write(file.path(), manifest).map_err(|error| failed("manifest", error))?;
    let path = file.path().to_string_lossy().into_owned();
    succeed(&mut lab.holdfast(&["apply", "-f", &path])?).map(|_| ())
}

/// Puts a kubeconfig with this token on every host, for its own control node.
fn hand_out(lab: &Lab, token: &str) -> Outcome {
    for node in NODES {
        let root = lab.root(node);
        let authority = fs::read_to_string(root.join("etc/holdfast/pki/ca.crt"));
        let authority = authority.map_err(|error| failed("the authority", error))?;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443",
                "certificate-authority": "/etc/holdfast/pki/ca.crt"}}],
        });
        ensure(authority.contains("BEGIN CERTIFICATE"), || authority.clone())?;
        fs::write(root.join(&TOKEN_CONFIG[1..]), config.to_string())
            .map_err(|error| failed("the kubeconfig", error))?;
    }
    Ok(())
}

/// What the bearer sees on every control node: exit code and words.
fn everywhere(lab: &Lab, arguments: &[&str], code: i32, words: &[&str]) -> Outcome {
    for node in NODES {
        let mut command = vec!["holdfast"];
        command.extend(arguments);
        command.extend(["--kubeconfig", TOKEN_CONFIG]);
        eventually(&format!("{arguments:?} on {node} ends with {code}"), PATIENCE, || {
            let done = output(&mut lab.on(node, &command))?;
            ensure(done.status.code() == Some(code), || text(&done))?;
            contains(&format!("{arguments:?} on {node}"), &text(&done), words)
        })?;
    }
    Ok(())
}

/// Tokens are good on every control node, give what roles give, and end.
pub(crate) fn tokens_and_roles(lab: &Lab) -> Outcome {
    let own = |arguments: &[&str]| succeed(&mut lab.holdfast(arguments)?);
    apply(lab, RIGHTS)?;
    let made = own(&["access", "user-token", "create", "--user", "jane", "-o", "json"])?;
    let made = parsed(&made)?;
    hand_out(lab, made["token"].as_str().unwrap_or_default())?;
    everywhere(lab, &["get", "configmaps"], 0, &[])?;
    let denied = "User \"jane\" cannot list resource \"nodes\"";
    everywhere(lab, &["get", "nodes"], 1, &[denied])?;
    if has_kubectl() {
        let kubectl = |arguments: &[&str]| succeed(&mut lab.kubectl(arguments)?);
        contains(
            "can-i",
            &kubectl(&["auth", "can-i", "list", "configmaps", "--as=jane"])?,
            &["yes"],
        )?;
        let wide = kubectl(&["get", "rolebindings", "-o", "wide"])?;
        contains("rolebindings", &wide, &["Role/maps", "jane", "default/robot"])?;
        let token = kubectl(&["create", "token", "robot"])?;
        hand_out(lab, token.trim())?;
        everywhere(lab, &["get", "configmaps"], 0, &[])?;
        everywhere(lab, &["get", "nodes"], 1, &["system:serviceaccount:default:robot"])?;
        own(&["access", "signing-key", "rotate"])?;
        everywhere(lab, &["get", "configmaps"], 0, &[])?;
        own(&["delete", "serviceaccount", "robot"])?;
        everywhere(lab, &["get", "configmaps"], 1, &["Unauthorized"])?;
    } else {
        println!("t38: no kubectl on the PATH; the service account's token was not asked for");
    }
    hand_out(lab, made["token"].as_str().unwrap_or_default())?;
    everywhere(lab, &["get", "configmaps"], 0, &[])?;
    own(&["access", "user-token", "revoke", made["info"]["id"].as_str().unwrap_or_default()])?;
    everywhere(lab, &["get", "configmaps"], 1, &["Unauthorized"])?;
    accounts_come_back(lab)?;
    audited(lab)
}

/// Every pod runs as an account; a namespace's first one comes back.
fn accounts_come_back(lab: &Lab) -> Outcome {
    let accounts = lab.objects("serviceaccounts")?;
    let in_namespace = |namespace: &str| {
        accounts.iter().any(|account| {
            account["metadata"]["namespace"] == namespace
                && account["metadata"]["name"] == "default"
        })
    };
    ensure(in_namespace("default") && in_namespace("kube-system"), || format!("{accounts:?}"))?;
    let uid = |accounts: &[Value]| {
        let found = accounts.iter().find(|account| {
            account["metadata"]["namespace"] == "kube-public"
                && account["metadata"]["name"] == "default"
        });
        found.map(|account| account["metadata"]["uid"].clone())
    };
    let before = uid(&accounts);
    succeed(&mut lab.holdfast(&["delete", "serviceaccount", "default", "-n", "kube-public"])?)?;
    eventually("the account comes back", PATIENCE, || {
        let now = uid(&lab.objects("serviceaccounts")?);
        ensure(now.is_some() && now != before, || format!("{now:?}"))
    })?;
    let admin = lab.objects("clusterroles")?;
    let admin = admin.iter().find(|role| role["metadata"]["name"] == "admin");
    let gathered = admin.is_some_and(|role| role.to_string().contains("rolebindings"));
    ensure(gathered, || format!("admin gathers its rules: {admin:?}"))
}

/// What was done above stands in the log on every node, and the log verifies.
fn audited(lab: &Lab) -> Outcome {
    let listed = succeed(&mut lab.holdfast(&["audit", "list", "-o", "json"])?)?;
    let listed = parsed(&listed)?;
    let items = listed["items"].as_array().cloned().unwrap_or_default();
    let has = |verb: &str, resource: &str, name: &str| {
        items.iter().any(|item| {
            let record = &item["record"];
            record["verb"] == verb
                && record["resource"] == resource
                && record["name"] == name
                && record["actor"]["user"] == "admin"
                && !record["source"].as_str().unwrap_or_default().is_empty()
        })
    };
    ensure(has("delete", "serviceaccounts", "default"), || "the delete is not recorded".into())?;
    for node in NODES {
        let verified = eventually(&format!("all is chained, seen from {node}"), PATIENCE, || {
            let verify = ["holdfast", "audit", "verify", "-o", "json"];
            let done = parsed(&succeed(&mut lab.on(node, &verify))?)?;
            ensure(done["whole"] == true && done["pending"] == 0, || done.to_string())?;
            Ok(done)
        })?;
        let records = verified["records"].as_u64().unwrap_or_default();
        ensure(records >= items.len() as u64 / 2, || verified.to_string())?;
    }
    let place = tempfile::tempdir().map_err(|error| failed("folder", error))?;
    let file = place.path().join("audit.jsonl").to_string_lossy().into_owned();
    succeed(&mut lab.holdfast(&["audit", "export", "--out", &file])?)?;
    let check = ["audit", "verify", "--file", &file];
    succeed(&mut lab.holdfast(&check)?)?;
    let exported = fs::read_to_string(&file).map_err(|error| failed("export", error))?;
    let forged = exported.replacen("\"user\":\"admin\"", "\"user\":\"nobody\"", 1);
    ensure(forged != exported, || "no record of admin".into())?;
    fs::write(&file, forged).map_err(|error| failed("forged export", error))?;
    let found = output(&mut lab.holdfast(&check)?)?;
    ensure(found.status.code() == Some(1), || text(&found))?;
    contains("a forged record", &text(&found), &["was changed"])
}
