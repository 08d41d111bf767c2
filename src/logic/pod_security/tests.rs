//! The words and the rules are those of Kubernetes.

use serde_json::{Value, json};

use super::{
    Level, Standard, Version, about_existing, details, is_significant, policy_of, violations,
};

fn namespace(labels: &[(&str, &str)]) -> Value {
    let mut all = json!({});
    for (name, value) in labels {
        all[format!("pod-security.kubernetes.io/{name}")] = (*value).into();
    }
    json!({"metadata": {"name": "ns", "labels": all}})
}

fn judged(level: Level, minor: Option<u32>, spec: &Value) -> String {
    let version = minor.map_or(Version::Latest, Version::Minor);
    details(&violations(Standard { level, version }, &json!({}), spec))
}

/// A pod that the strictest level takes.
fn careful() -> Value {
    json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        "volumes": [{"name": "t", "projected": {"sources": []}}, {"name": "e", "emptyDir": {}}],
    })
}

fn changed(patch: Value) -> Value {
    let mut spec = careful();
    json_patch::merge(&mut spec, &patch);
    spec
}

#[test]
fn labels_say_three_policies_and_bad_ones_are_named() {
    let of = |labels: &[(&str, &str)]| {
        let (policy, bad) = policy_of(&namespace(labels));
        let bad: Vec<String> = bad.iter().map(ToString::to_string).collect();
        (policy.enforce.to_string(), policy.audit.to_string(), policy.warn.to_string(), bad)
    };
    let (enforce, audit, warn, bad) = of(&[]);
    assert_eq!(
        (&*enforce, &*audit, &*warn),
        ("privileged:latest", "privileged:latest", "privileged:latest")
    );
    assert!(bad.is_empty());
    let (enforce, audit, warn, _) = of(&[
        ("enforce", "baseline"),
        ("enforce-version", "v1.24"),
        ("audit", "restricted"),
        ("warn", "privileged"),
    ]);
    assert_eq!(
        (&*enforce, &*audit, &*warn),
        ("baseline:v1.24", "restricted:latest", "privileged:latest")
    );
    let (_, _, warn, _) = of(&[("enforce", "restricted"), ("enforce-version", "v1.24")]);
    assert_eq!(warn, "restricted:v1.24", "who enforces warns");
    let (enforce, audit, warn, bad) =
        of(&[("enforce", "strict"), ("audit", "x"), ("warn-version", "1.2")]);
    assert_eq!(
        (&*enforce, &*audit, &*warn),
        ("restricted:latest", "privileged:latest", "privileged:latest")
    );
    assert_eq!(
        bad,
        [
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"x\": must be one of privileged, baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.2\": must be \"latest\" or \"v1.x\"",
        ]
    );
    assert_eq!(Version::parse("v1.01"), None);
    assert_eq!(Version::parse("v1."), None);
    assert_eq!(Version::parse("v1.+1"), None);
    assert_eq!(Version::parse("v1.0"), Some(Version::Minor(0)));
}

#[test]
fn an_ordinary_pod_is_told_what_restricted_wants() {
    let spec = json!({"containers": [{"name": "nginx"}]});
    assert_eq!(judged(Level::Baseline, None, &spec), "");
    assert_eq!(
        judged(Level::Restricted, None, &spec),
        "allowPrivilegeEscalation != false (container \"nginx\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"nginx\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"nginx\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"nginx\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    assert_eq!(judged(Level::Restricted, None, &careful()), "");
    assert_eq!(judged(Level::Privileged, None, &changed(json!({"hostPID": true}))), "");
}

#[test]
fn every_rule_of_baseline_refuses_what_it_is_for() {
    for (spec, text) in [
        (
            json!({"hostNetwork": true, "hostIPC": true}),
            "host namespaces (hostNetwork=true, hostIPC=true)",
        ),
        (
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            "hostPath volumes (volume \"v\")",
        ),
        (
            json!({"containers": [{"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 443}]}]}),
            "hostPort (container \"a\" uses hostPorts 443, 80)",
        ),
        (
            json!({"containers": [{"name": "a", "securityContext": {"privileged": true}}],
                "initContainers": [{"name": "i", "securityContext": {"privileged": true}}]}),
            "privileged (containers \"i\", \"a\" must not set securityContext.privileged=true)",
        ),
        (
            json!({"containers": [{"name": "a",
                "securityContext": {"capabilities": {"add": ["SYS_ADMIN", "CHOWN", "NET_RAW"]}}}]}),
            "non-default capabilities (container \"a\" must not include \"NET_RAW\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            json!({"containers": [{"name": "a", "securityContext": {"procMount": "Unmasked"}}]}),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            json!({"securityContext": {"seLinuxOptions": {"type": "x_t", "user": "u"}}}),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"x_t\"; user may not be set)",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            json!({"containers": [{"name": "a", "securityContext":
                {"appArmorProfile": {"type": "Unconfined"}}}]}),
            "forbidden AppArmor profile (container \"a\" must not set AppArmor profile type to \"Unconfined\")",
        ),
    ] {
        assert_eq!(judged(Level::Baseline, None, &spec), text);
    }
}

#[test]
fn restricted_says_more_than_baseline_and_says_it_once() {
    for (patch, text) in [
        (
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}, {"name": "n", "nfs": {}}]}),
            "restricted volume types (volumes \"v\", \"n\" use restricted volume types \"hostPath\", \"nfs\")",
        ),
        (
            json!({"securityContext": {"runAsUser": 0}}),
            "runAsUser=0 (pod must not set runAsUser=0)",
        ),
        (
            json!({"securityContext": {"runAsNonRoot": false}}),
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
        ),
        (
            json!({"containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "NET_BIND_SERVICE"]}}}]}),
            "unrestricted capabilities (container \"a\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
    ] {
        assert_eq!(judged(Level::Restricted, None, &changed(patch)), text);
    }
}

#[test]
fn older_releases_have_their_own_rules() {
    let spec = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
    assert_eq!(judged(Level::Baseline, Some(31), &spec), "forbidden sysctls (net.ipv4.tcp_rmem)");
    assert_eq!(judged(Level::Baseline, Some(32), &spec), "");
    assert_eq!(judged(Level::Baseline, Some(99), &spec), "", "no release after ours is known");
    let bare = json!({"containers": [{"name": "a"}]});
    assert_eq!(
        judged(Level::Restricted, Some(7), &bare),
        "runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true)"
    );
    let raw = json!({"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "a",
        "securityContext": {"capabilities": {"add": ["NET_RAW"]}}}]});
    assert_eq!(
        judged(Level::Restricted, Some(7), &raw),
        "non-default capabilities (container \"a\" must not include \"NET_RAW\" in securityContext.capabilities.add)"
    );
    let windows =
        changed(json!({"os": {"name": "windows"}, "securityContext": {"seccompProfile": null},
        "containers": [{"name": "a"}]}));
    assert_eq!(judged(Level::Restricted, Some(25), &windows), "");
    assert_ne!(judged(Level::Restricted, Some(24), &windows), "");
}

#[test]
fn pods_that_are_there_are_counted_by_what_they_break() {
    let pod = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let root = json!({"containers": [{"name": "a", "securityContext": {"privileged": true}}]});
    let host = json!({"hostPID": true});
    let pods = [
        pod("c", root.clone()),
        pod("b", root.clone()),
        pod("a", root),
        pod("z", host),
        pod("fine", careful()),
    ];
    let enforce = Standard { level: Level::Baseline, version: Version::Latest };
    assert_eq!(
        about_existing("shop", enforce, &pods),
        [
            "existing pods in namespace \"shop\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 2 other pods): privileged",
            "z: host namespaces",
        ]
    );
    assert!(about_existing("shop", enforce, &pods[4..]).is_empty());
}

#[test]
fn only_another_image_or_container_is_judged_anew() {
    let old = json!({"metadata": {"labels": {}}, "spec": {"containers": [{"name": "a", "image": "i:1"}]}});
    let mut new = old.clone();
    new["metadata"]["labels"]["x"] = "y".into();
    assert!(!is_significant(&old, &new));
    new["spec"]["containers"][0]["image"] = "i:2".into();
    assert!(is_significant(&old, &new));
    let mut debugged = old.clone();
    debugged["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "sh"}]);
    assert!(is_significant(&old, &debugged));
    assert!(!is_significant(&debugged, &debugged));
}
