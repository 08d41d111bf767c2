//! The pages as text.

use serde_json::json;

use super::sheet::Sheet;
use super::{batch, events, network, networking, node, pod, sets, workload};

const NOW: &str = "2026-01-01T01:00:00Z";

fn render(fill: impl FnOnce(&mut Sheet)) -> String {
    let mut sheet = Sheet::default();
    fill(&mut sheet);
    sheet.render()
}

#[test]
fn fields_share_a_column_until_a_heading_comes() {
    let text = render(|sheet| {
        sheet.field(0, "Name", "web");
        sheet.many(0, "Labels", &["a=1".into(), "b=2".into()]);
        sheet.heading(0, "IPs");
        sheet.field(1, "IP", "10.0.0.1");
        sheet.field(0, "Controlled By", "ReplicaSet/web-1");
    });
    let wanted = "Name:    web\nLabels:  a=1\n         b=2\nIPs:\n  IP:           10.0.0.1\n\
                  Controlled By:  ReplicaSet/web-1\n";
    assert_eq!(text, wanted);
}

#[test]
fn a_pod_is_described_as_kubectl_does_and_without_its_last_manifest() {
    let object = json!({
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "x"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web", "controller": true}]},
        "spec": {"nodeName": "a1", "containers": [{"name": "app", "image": "shop:1",
            "ports": [{"containerPort": 8080, "protocol": "TCP"}],
            "env": [{"name": "COLOR", "value": "red"}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080, "scheme": "HTTP"},
                "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1,
                "failureThreshold": 3}}]},
        "status": {"phase": "Running", "hostIP": "10.77.0.11", "podIP": "10.244.0.5",
            "containerStatuses": [{"name": "app", "ready": false, "restartCount": 4,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 3, "reason": "Error",
                    "startedAt": "2026-01-01T00:00:00Z"}}}],
            "conditions": [{"type": "Ready", "status": "False"}]}});
    let text = render(|sheet| pod::describe(sheet, &object, NOW.parse().unwrap()));
    for line in [
        "Node:             a1/10.77.0.11",
        "Annotations:      note: x",
        "Controlled By:  ReplicaSet/web",
        "    Image:         shop:1",
        "    State:         Waiting",
        "      Reason:      CrashLoopBackOff",
        "      Exit Code:   3",
        "      Started:     Thu, 01 Jan 2026 00:00:00 +0000",
        "    Restart Count:  4",
        "      COLOR:  red",
        "  Ready                       False",
    ] {
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let found = text.lines().any(|own| squeezed(own) == squeezed(line));
        assert!(found, "{line:?} is missing in\n{text}");
    }
    assert!(text.contains("http-get http://:8080/ready delay=0s timeout=1s period=10s"), "{text}");
    assert!(!text.contains("last-applied"), "{text}");
}

#[test]
fn events_come_in_order_of_time_with_age_and_count() {
    let event = |reason: &str, first: &str, last: &str, count: i64| {
        json!({"type": "Normal", "reason": reason, "message": "m", "count": count,
            "source": {"component": "agent"}, "firstTimestamp": first, "lastTimestamp": last})
    };
    let all = vec![
        event("Late", "2026-01-01T00:50:00Z", "2026-01-01T00:59:50Z", 5),
        event("Early", "2026-01-01T00:10:00Z", "2026-01-01T00:10:00Z", 1),
    ];
    let text = render(|sheet| events::describe(sheet, all, NOW.parse().unwrap()));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[1].split_whitespace().collect::<Vec<_>>(),
        ["Type", "Reason", "Age", "From", "Message"]
    );
    assert!(lines[3].contains("Early") && lines[3].contains("50m"), "{text}");
    assert!(lines[4].contains("Late") && lines[4].contains("10s (x5 over 10m)"), "{text}");
    let at = |line: &str, word: &str| line.find(word).unwrap();
    assert_eq!(at(lines[3], "agent"), at(lines[4], "agent"), "{text}");
    assert!(
        render(|sheet| events::describe(sheet, Vec::new(), NOW.parse().unwrap()))
            .contains("<none>")
    );
}

#[test]
fn services_nodes_and_deployments_show_what_stands_behind_them() {
    let service = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {
        "clusterIP": "10.96.0.9", "type": "ClusterIP", "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]}});
    let slices = [json!({"ports": [{"name": "http", "port": 8080}], "endpoints": [
        {"addresses": ["10.244.1.4"], "conditions": {"ready": true}},
        {"addresses": ["10.244.0.5"], "conditions": {"ready": true}},
        {"addresses": ["10.244.2.6"], "conditions": {"ready": false}}]})];
    let text = render(|sheet| network::service(sheet, &service, &slices));
    assert!(text.contains("10.244.0.5:8080,10.244.1.4:8080\n"), "{text}");

    let object = json!({"metadata": {"name": "a1", "labels": {"node-role.kubernetes.io/worker": ""}},
        "spec": {"podCIDR": "10.244.0.0/24"},
        "status": {"allocatable": {"cpu": "2", "memory": "2Gi"}, "conditions": []}});
    let lease = json!({"spec": {"holderIdentity": "a1", "renewTime": "2026-01-01T00:59:58Z"}});
    let pods = [json!({"metadata": {"name": "p", "namespace": "shop",
        "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"containers": [{"name": "c",
        "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}}}]}})];
    let text = render(|sheet| node::describe(sheet, &object, &lease, &pods, NOW.parse().unwrap()));
    assert!(text.contains("500m (25%)") && text.contains("512Mi (25%)"), "{text}");
    assert!(text.contains("Thu, 01 Jan 2026 00:59:58 +0000"), "{text}");

    let deployment = json!({"metadata": {"name": "web", "uid": "d",
        "annotations": {"deployment.kubernetes.io/revision": "2"}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {}},
        "status": {"replicas": 3, "updatedReplicas": 2, "availableReplicas": 3}});
    let set = |name: &str, revision: &str| {
        json!({"metadata": {"name": name, "ownerReferences": [{"uid": "d"}],
            "annotations": {"deployment.kubernetes.io/revision": revision}},
            "spec": {"replicas": 1}, "status": {"replicas": 1}})
    };
    let sets = [set("web-old", "1"), set("web-new", "2")];
    let text = render(|sheet| workload::deployment(sheet, &deployment, &sets));
    assert!(
        text.contains("3 desired | 2 updated | 3 total | 3 available | 0 unavailable"),
        "{text}"
    );
    let new = text.lines().find(|line| line.starts_with("NewReplicaSet:")).unwrap();
    assert!(new.ends_with("  web-new (1/1 replicas created)"), "{text}");
}

#[test]
fn a_job_says_how_far_it_is() {
    let object = json!({
        "metadata": {"name": "sum", "namespace": "shop"},
        "spec": {"parallelism": 2, "completions": 3, "completionMode": "Indexed",
            "template": {"spec": {"containers": [{"name": "c", "image": "hello:1"}]}}},
        "status": {"startTime": "2026-01-01T00:58:00Z", "active": 1, "ready": 1, "succeeded": 2,
            "completedIndexes": "0,1"}});
    let text = render(|sheet| batch::job(sheet, &object, NOW.parse().unwrap()));
    for part in [
        "Completions:        3\n",
        "Duration:           2m\n",
        "1 Active (1 Ready) / 2 Succeeded / 0 Failed",
        "Completed Indexes:  0,1\n",
        "hello:1",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let cron = json!({"metadata": {"name": "tick"}, "spec": {"schedule": "*/5 * * * *",
        "jobTemplate": {"spec": object["spec"].clone()}},
        "status": {"active": [{"name": "tick-1"}]}});
    let text = render(|sheet| batch::cron_job(sheet, &cron));
    assert!(text.contains("*/5 * * * *") && text.contains("tick-1"), "{text}");
}

#[test]
fn sets_say_what_they_hold() {
    let object = json!({
        "metadata": {"name": "db", "namespace": "shop", "uid": "u"},
        "spec": {"replicas": 3, "updateStrategy": {"type": "RollingUpdate",
            "rollingUpdate": {"partition": 1}}, "template": {"spec": {"containers": []}}},
        "status": {"replicas": 2, "desiredNumberScheduled": 4}});
    let pods = [json!({"metadata": {"ownerReferences": [{"uid": "u"}]},
        "status": {"phase": "Running"}})];
    let text = render(|sheet| sets::stateful_set(sheet, &object, &pods));
    assert!(text.contains("3 desired | 2 total") && text.contains("Partition"), "{text}");
    assert!(text.contains("1 Running / 0 Waiting"), "{text}");
    let text = render(|sheet| sets::daemon_set(sheet, &object, &pods));
    assert!(text.contains("Desired Number of Nodes Scheduled:               4"), "{text}");
}

#[test]
fn ingresses_and_policies_are_told_rule_by_rule() {
    let ingress = json!({"metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ingressClassName": "holdfast",
            "tls": [{"hosts": ["a.example.com"], "secretName": "cert"}],
            "rules": [{"host": "a.example.com", "http": {"paths": [
                {"path": "/", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}}});
    let text = render(|sheet| networking::ingress(sheet, &ingress));
    for part in ["10.0.0.1,10.0.0.2", "cert terminates a.example.com", "/ (web:80)"] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    let policy = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": {
        "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{
            "ports": [{"port": 80, "endPort": 90, "protocol": "TCP"}],
            "from": [{"podSelector": {"matchLabels": {"app": "web"}}},
                     {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}]}});
    let text = render(|sheet| networking::policy(sheet, &policy));
    for part in [
        "To Port: 80-90/TCP",
        "PodSelector: app=web",
        "Except: 10.1.0.0/16",
        "<none> (Selected pods are isolated for egress connectivity)",
        "Policy Types: Ingress, Egress",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}
