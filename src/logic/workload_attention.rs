//! Which workloads an operator should look at: rollouts that do not go on, jobs that failed.
//!
//! Why besides the pods: a rollout can be stuck while every pod that there is serves, and
//! the pods of a failed job may be gone.
//! Not here: how it is told (`app/status`).

use serde_json::Value;

use super::conditions::condition;
use super::pod_attention::named;

/// One sentence for each kind of trouble.
pub fn sentences(deployments: &[Value], jobs: &[Value]) -> Vec<String> {
    let stuck = troubled(deployments, "Progressing", "False");
    let failed = troubled(jobs, "Failed", "True");
    let tell = |found: Vec<String>, one: &str, many: &str| {
        let what = if found.len() == 1 { one } else { many };
        (!found.is_empty()).then(|| format!("{} {what}: {}.", found.len(), named(&found)))
    };
    let both = [
        tell(stuck, "Deployment does not progress", "Deployments do not progress"),
        tell(failed, "Job has failed", "Jobs have failed"),
    ];
    both.into_iter().flatten().collect()
}

/// Those whose condition has this status, with what it says.
fn troubled(objects: &[Value], kind: &str, status: &str) -> Vec<String> {
    let told = |object: &Value| {
        let found = condition(object, kind).filter(|found| found["status"] == status)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let why = Some(text(&found["message"])).filter(|message| !message.is_empty());
        let why = why.unwrap_or_else(|| text(&found["reason"]));
        let metadata = &object["metadata"];
        let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
        Some(format!("{namespace}/{name} ({})", why.trim_end_matches('.')))
    };
    objects.iter().filter_map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(name: &str, condition: Value) -> Value {
        json!({"metadata": {"name": name, "namespace": "shop"},
            "status": {"conditions": [condition]}})
    }

    #[test]
    fn what_is_stuck_or_failed_is_told_and_what_is_well_is_not() {
        let well = with("well", json!({"type": "Progressing", "status": "True"}));
        let stuck = with(
            "web",
            json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                "message": "ReplicaSet \"web-1\" has timed out progressing."}),
        );
        let done = with("done", json!({"type": "Complete", "status": "True"}));
        let failed = |name: &str| {
            with(name, json!({"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}))
        };
        assert_eq!(sentences(std::slice::from_ref(&well), std::slice::from_ref(&done)), [""; 0]);
        assert_eq!(
            sentences(&[well, stuck], &[failed("one"), done, failed("two")]),
            [
                "1 Deployment does not progress: shop/web (ReplicaSet \"web-1\" has timed out \
                 progressing).",
                "2 Jobs have failed: shop/one (DeadlineExceeded); shop/two (DeadlineExceeded).",
            ]
        );
    }
}
