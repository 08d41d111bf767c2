//! Jobs and cron jobs: counting over changes of leader, ends, indexes, schedules.

use std::time::Duration;

use serde_json::{Value, json};

use super::lab::{Lab, name_of};
use crate::client::fake::eventually;

fn job(name: &str, image: &str, extra: Value) -> Value {
    let mut spec = json!({
        "completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
        "selector": {"matchLabels": {"job": name}},
        "template": {"metadata": {"labels": {"job": name, "app": name}}, "spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": image}]}}});
    json_patch::merge(&mut spec, &extra);
    json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

fn truth(lab: &Lab, name: &str, kind: &str) -> Option<String> {
    lab.condition_status(&lab.get("jobs", name), kind).filter(|truth| truth == "True")?;
    lab.condition(&lab.get("jobs", name), kind)
}

fn tracked(lab: &Lab) -> usize {
    let held =
        |pod: &Value| pod["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    lab.fake.all("pods").iter().filter(|pod| held(pod)).count()
}

#[tokio::test]
async fn a_job_runs_to_its_end_and_counts_every_pod() {
    let lab = Lab::start(&["a1", "b1"]).await;
    let wanted = json!({"completions": 5, "parallelism": 2});
    lab.create("jobs", job("sum", "exit:0", wanted)).await;
    eventually("it is complete", || truth(&lab, "sum", "Complete").is_some()).await;
    let status = &lab.get("jobs", "sum")["status"];
    assert_eq!(status["succeeded"], 5);
    assert_eq!(truth(&lab, "sum", "SuccessCriteriaMet").as_deref(), Some("CompletionsReached"));
    assert!(status["completionTime"].is_string() && status["active"].is_null());
    assert_eq!((lab.fake.creations("pods"), tracked(&lab)), (5, 0));
    eventually("it says so", || {
        lab.fake.all("events").iter().any(|event| event["reason"] == "Completed")
    })
    .await;
    lab.delete("jobs", "sum", None).await;
    eventually("its pods go with it", || lab.fake.all("pods").is_empty()).await;
    lab.stop().await;
}

#[tokio::test]
async fn a_job_counts_right_through_changes_of_leader() {
    let mut lab = Lab::start(&["a1", "b1"]).await;
    let wanted = json!({"completions": 12, "parallelism": 4});
    lab.create("jobs", job("sum", "exit:0", wanted)).await;
    let mut changes = 0;
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    while truth(&lab, "sum", "Complete").is_none() {
        assert!(tokio::time::Instant::now() < patience, "{}", lab.get("jobs", "sum"));
        // Long enough to list and to act, short enough to fall in the middle.
        tokio::time::sleep(Duration::from_millis(40 + 7 * (changes % 9))).await;
        lab.change_leader().await;
        changes += 1;
    }
    let status = &lab.get("jobs", "sum")["status"];
    assert_eq!(status["succeeded"], 12);
    assert!(status["failed"].is_null(), "{status}");
    assert_eq!((lab.fake.creations("pods"), tracked(&lab)), (12, 0));
    // No write ever counted a pod before or beside its end.
    let mut seen = 0;
    for (_, object) in lab.fake.history("jobs") {
        let now = object["status"]["succeeded"].as_i64().unwrap_or(0);
        assert!(now >= seen, "the count went down");
        seen = now;
    }
    lab.stop().await;
}

#[tokio::test]
async fn a_failing_job_stops_at_its_limit() {
    let lab = Lab::start(&["a1"]).await;
    lab.create("jobs", job("bad", "exit:1", json!({"backoffLimit": 2}))).await;
    eventually("it has failed", || truth(&lab, "bad", "Failed").is_some()).await;
    assert_eq!(truth(&lab, "bad", "Failed").as_deref(), Some("BackoffLimitExceeded"));
    assert_eq!(lab.get("jobs", "bad")["status"]["failed"], 3);
    assert_eq!((lab.fake.creations("pods"), tracked(&lab)), (3, 0));
    let policy = json!({"podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes":
        {"operator": "In", "values": [42]}}]}, "podReplacementPolicy": "Failed"});
    lab.create("jobs", job("fatal", "exit:42", policy)).await;
    eventually("it has failed at once", || truth(&lab, "fatal", "Failed").is_some()).await;
    assert_eq!(truth(&lab, "fatal", "Failed").as_deref(), Some("PodFailurePolicy"));
    assert_eq!(lab.fake.creations("pods"), 4);
    lab.stop().await;
}

#[tokio::test]
async fn an_indexed_job_has_each_index_done_once() {
    let lab = Lab::start(&["a1", "b1"]).await;
    let wanted = json!({"completions": 4, "parallelism": 3, "completionMode": "Indexed"});
    lab.create("jobs", job("part", "exit:0", wanted)).await;
    eventually("it is complete", || truth(&lab, "part", "Complete").is_some()).await;
    let status = &lab.get("jobs", "part")["status"];
    assert_eq!((&status["completedIndexes"], &status["succeeded"]), (&json!("0-3"), &json!(4)));
    let mut indexes = Vec::new();
    for pod in lab.fake.all("pods") {
        let index = &pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"];
        let index = index.as_str().unwrap().to_owned();
        assert_eq!(pod["spec"]["hostname"], format!("part-{index}"));
        assert!(name_of(&pod).starts_with(&format!("part-{index}-")));
        let variable = &pod["spec"]["containers"][0]["env"][0];
        assert_eq!(variable["name"], "JOB_COMPLETION_INDEX");
        indexes.push(index);
    }
    indexes.sort();
    assert_eq!(indexes, ["0", "1", "2", "3"]);
    let wanted = json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed",
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 0});
    lab.create("jobs", job("each", "exit:1", wanted)).await;
    eventually("it has failed", || truth(&lab, "each", "Failed").is_some()).await;
    assert_eq!(truth(&lab, "each", "Failed").as_deref(), Some("FailedIndexes"));
    let status = &lab.get("jobs", "each")["status"];
    assert_eq!((&status["failedIndexes"], &status["failed"]), (&json!("0,1"), &json!(2)));
    lab.stop().await;
}

#[tokio::test]
async fn a_suspended_job_has_no_pods_and_goes_on_when_resumed() {
    let lab = Lab::start(&["a1"]).await;
    lab.create("jobs", job("slow", "hello:1", json!({"suspend": true}))).await;
    eventually("it is suspended", || truth(&lab, "slow", "Suspended").is_some()).await;
    assert!(lab.fake.all("pods").is_empty());
    assert!(lab.get("jobs", "slow")["status"]["startTime"].is_null());
    lab.patch("jobs", "slow", json!({"spec": {"suspend": false}})).await;
    eventually("it runs", || lab.ready_pods("slow").len() == 1).await;
    lab.patch("jobs", "slow", json!({"spec": {"suspend": true}})).await;
    eventually("it is stopped", || lab.fake.all("pods").is_empty()).await;
    eventually("it says so", || truth(&lab, "slow", "Suspended").is_some()).await;
    assert!(lab.get("jobs", "slow")["status"]["failed"].is_null());
    let hurried = json!({"spec": {"suspend": false, "activeDeadlineSeconds": 1}});
    lab.patch("jobs", "slow", hurried).await;
    eventually("its time is over", || truth(&lab, "slow", "Failed").is_some()).await;
    assert_eq!(truth(&lab, "slow", "Failed").as_deref(), Some("DeadlineExceeded"));
    assert!(lab.fake.all("pods").iter().all(|pod| pod["status"]["phase"] != "Running"));
    lab.stop().await;
}

#[tokio::test]
async fn a_pod_on_a_dead_node_is_counted_and_replaced() {
    let lab = Lab::start(&["a1", "b1", "c1"]).await;
    lab.create("jobs", job("long", "hello:1", json!({}))).await;
    eventually("it runs", || lab.ready_pods("long").len() == 1).await;
    let first = lab.ready_pods("long").remove(0);
    lab.kill(first["spec"]["nodeName"].as_str().unwrap());
    eventually("the loss is counted once", || lab.get("jobs", "long")["status"]["failed"] == 1)
        .await;
    assert!(lab.get("pods", &name_of(&first)).is_null() || tracked(&lab) <= 1);
    lab.stop().await;
}

#[tokio::test]
async fn a_finished_job_goes_when_its_time_to_live_is_over() {
    let lab = Lab::start(&["a1"]).await;
    lab.create("jobs", job("brief", "exit:0", json!({"ttlSecondsAfterFinished": 1}))).await;
    eventually("it is complete", || {
        lab.fake
            .history("jobs")
            .iter()
            .any(|(_, job)| lab.condition_status(job, "Complete").as_deref() == Some("True"))
    })
    .await;
    eventually("job and pod are gone", || {
        lab.fake.all("jobs").is_empty() && lab.fake.all("pods").is_empty()
    })
    .await;
    lab.stop().await;
}

#[tokio::test]
async fn a_cron_job_starts_its_jobs_and_clears_old_ones() {
    let lab = Lab::start(&["a1"]).await;
    let cron = json!({"metadata": {"name": "tick", "namespace": "shop"}, "spec": {
        "schedule": "@every 1s", "concurrencyPolicy": "Allow", "suspend": false,
        "successfulJobsHistoryLimit": 2, "failedJobsHistoryLimit": 1,
        "startingDeadlineSeconds": 10,
        "jobTemplate": {"metadata": {"labels": {"cron": "tick"}},
            "spec": job("x", "exit:0", json!({}))["spec"]}}});
    lab.create("cronjobs", cron).await;
    eventually("a job was started and has ended", || {
        let status = &lab.get("cronjobs", "tick")["status"];
        status["lastScheduleTime"].is_string() && status["lastSuccessfulTime"].is_string()
    })
    .await;
    let job = lab.fake.history("jobs").remove(0).1;
    let annotations = &job["metadata"]["annotations"];
    let due = annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"].as_str().unwrap();
    let minutes = due.parse::<jiff::Timestamp>().unwrap().as_second() / 60;
    assert_eq!(name_of(&job), format!("tick-{minutes}"));
    assert_eq!(job["metadata"]["labels"]["cron"], "tick");
    assert_eq!(job["metadata"]["ownerReferences"][0]["kind"], "CronJob");
    lab.patch(
        "cronjobs",
        "tick",
        json!({"spec": {"suspend": true, "successfulJobsHistoryLimit": 0}}),
    )
    .await;
    eventually("old jobs are cleared", || lab.fake.all("jobs").is_empty()).await;
    lab.stop().await;
}
