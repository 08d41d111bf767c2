//! Claims, volumes and the pods that wait for them, with all controllers at work.

use serde_json::{Value, json};

use super::lab::{Lab, name_of};
use crate::client::fake::eventually;
use crate::logic::volume_binding::{DEFAULT_CLASS, LOCAL_PATH, VOLUMES_DIRECTORY};

async fn start() -> Lab {
    let lab = Lab::start(&["a1", "b1"]).await;
    for node in ["a1", "b1"] {
        let patch = json!({"metadata": {"labels": {"kubernetes.io/hostname": node},
            "annotations": {VOLUMES_DIRECTORY: "/data/volumes"}}});
        lab.patch_in("nodes", None, node, patch).await;
    }
    lab.create(
        "storageclasses",
        json!({"metadata": {"name": "local-path", "annotations": {DEFAULT_CLASS: "true"}},
            "provisioner": LOCAL_PATH, "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer"}),
    )
    .await;
    lab
}

fn stateful(replicas: i32, when_scaled: &str) -> Value {
    json!({"metadata": {"name": "db", "namespace": "shop"}, "spec": {
        "replicas": replicas, "serviceName": "peers",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "persistentVolumeClaimRetentionPolicy":
            {"whenDeleted": "Retain", "whenScaled": when_scaled},
        "selector": {"matchLabels": {"app": "db"}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}],
        "template": {"metadata": {"labels": {"app": "db"}},
            "spec": {"containers": [{"name": "c", "image": "hello:1"}]}}}})
}

fn claim(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop",
            "finalizers": ["kubernetes.io/pvc-protection"]},
        "spec": {"storageClassName": "", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}})
}

fn volume(name: &str, size: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"capacity": {"storage": size},
        "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "", "hostPath": {"path": "/data"}}})
}

fn phase(lab: &Lab, plural: &str, name: &str) -> String {
    lab.get(plural, name)["status"]["phase"].as_str().unwrap_or_default().to_owned()
}

/// The node that the claim's volume is on.
fn home(lab: &Lab, claim: &str) -> String {
    let volume = lab.get("persistentvolumeclaims", claim)["spec"]["volumeName"].clone();
    let volume = lab.get("persistentvolumes", volume.as_str().unwrap_or_default());
    volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]
        ["values"][0]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test]
async fn a_stateful_set_gets_volumes_where_its_pods_go_and_comes_back_to_them() {
    let lab = start().await;
    lab.create("statefulsets", stateful(2, "Delete")).await;
    eventually("both pods are ready", || lab.ready_pods("db").len() == 2).await;
    for ordinal in 0..2 {
        let (pod, claim) = (format!("db-{ordinal}"), format!("data-db-{ordinal}"));
        assert_eq!(phase(&lab, "persistentvolumeclaims", &claim), "Bound");
        let node = lab.get("pods", &pod)["spec"]["nodeName"].clone();
        assert_eq!(node.as_str(), Some(home(&lab, &claim).as_str()));
    }
    let (before, node) =
        (lab.get("pods", "db-0")["metadata"]["uid"].clone(), home(&lab, "data-db-0"));
    lab.delete("pods", "db-0", None).await;
    eventually("the pod is back on its node", || {
        let pod = lab.get("pods", "db-0");
        pod["metadata"]["uid"] != before && pod["spec"]["nodeName"] == node.as_str()
    })
    .await;
    eventually("both pods are ready again", || lab.ready_pods("db").len() == 2).await;
    // Only what the set has become too small for goes.
    lab.patch("statefulsets", "db", json!({"spec": {"replicas": 1}})).await;
    eventually("the second claim goes with its pod", || {
        lab.get("persistentvolumeclaims", "data-db-1").is_null()
    })
    .await;
    lab.delete("statefulsets", "db", None).await;
    eventually("no pod is left", || lab.fake.all("pods").is_empty()).await;
    assert_eq!(phase(&lab, "persistentvolumeclaims", "data-db-0"), "Bound");
    lab.stop().await;
}

#[tokio::test]
async fn one_volume_goes_to_one_of_two_claims_and_never_to_the_other() {
    let mut lab = start().await;
    lab.create("persistentvolumes", volume("disk", "1Gi")).await;
    for name in ["one", "two"] {
        lab.create("persistentvolumeclaims", claim(name)).await;
    }
    let bound = |lab: &Lab| -> Vec<String> {
        let all = lab.fake.all("persistentvolumeclaims").into_iter();
        all.filter(|claim| claim["status"]["phase"] == "Bound")
            .map(|claim| name_of(&claim))
            .collect()
    };
    eventually("one is bound", || bound(&lab).len() == 1).await;
    eventually("the volume says so", || phase(&lab, "persistentvolumes", "disk") == "Bound").await;
    lab.change_leader().await;
    let first = bound(&lab).remove(0);
    lab.delete("persistentvolumeclaims", &first, None).await;
    eventually("the volume is released", || phase(&lab, "persistentvolumes", "disk") == "Released")
        .await;
    // A second volume shows that the other claim was looked at since.
    lab.create("persistentvolumes", volume("later", "2Gi")).await;
    let other = if first == "one" { "two" } else { "one" };
    eventually("the other is bound", || bound(&lab) == [other]).await;
    assert_eq!(lab.get("persistentvolumeclaims", other)["spec"]["volumeName"], "later");
    assert_eq!(phase(&lab, "persistentvolumes", "disk"), "Released");
    lab.stop().await;
}

#[tokio::test]
async fn a_claim_that_a_pod_uses_outlives_its_deletion() {
    let lab = start().await;
    lab.create("persistentvolumes", volume("disk", "1Gi")).await;
    lab.create("persistentvolumeclaims", claim("one")).await;
    lab.create(
        "pods",
        json!({"metadata": {"name": "user", "namespace": "shop", "labels": {"app": "user"}},
            "spec": {"containers": [{"name": "c", "image": "hello:1"}], "volumes": [
                {"name": "v", "persistentVolumeClaim": {"claimName": "one"}}]}}),
    )
    .await;
    eventually("the pod runs", || lab.ready_pods("user").len() == 1).await;
    lab.delete("persistentvolumeclaims", "one", None).await;
    eventually("it is being deleted", || {
        lab.get("persistentvolumeclaims", "one")["metadata"]["deletionTimestamp"].is_string()
    })
    .await;
    // The binder has looked since: a volume made now becomes available.
    lab.create("persistentvolumes", volume("later", "1Gi")).await;
    eventually("it was looked", || phase(&lab, "persistentvolumes", "later") == "Available").await;
    assert!(!lab.get("persistentvolumeclaims", "one").is_null());
    lab.delete("pods", "user", None).await;
    eventually("it goes with its last pod", || lab.get("persistentvolumeclaims", "one").is_null())
        .await;
    lab.stop().await;
}

#[tokio::test]
async fn a_pod_waits_for_a_claim_that_is_not_there_and_says_so() {
    let lab = start().await;
    lab.create(
        "pods",
        json!({"metadata": {"name": "user", "namespace": "shop", "labels": {"app": "user"}},
            "spec": {"containers": [{"name": "c", "image": "hello:1"}], "volumes": [
                {"name": "v", "persistentVolumeClaim": {"claimName": "none"}}]}}),
    )
    .await;
    eventually("it says why it waits", || {
        let conditions = lab.get("pods", "user")["status"]["conditions"].clone();
        let text = conditions[0]["message"].as_str().unwrap_or_default().to_owned();
        text == "0/2 nodes are available: persistentvolumeclaim \"none\" not found."
    })
    .await;
    let mut wanted = claim("none");
    wanted["spec"]["storageClassName"] = json!("local-path");
    lab.create("persistentvolumeclaims", wanted).await;
    eventually("the pod runs", || lab.ready_pods("user").len() == 1).await;
    lab.stop().await;
}
