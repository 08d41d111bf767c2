//! Deploys a sample on a fresh lab and waits until it serves.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::Lab;
use super::command::run_on;
use super::error::{LabError, files};
use super::host::Host;
use crate::sys::tree;
use crate::sys::waiting::wait_until;

/// Where the manifest lies on the first master.
const MANIFEST: &str = "/var/sample.yaml";
const ASK_LIMIT: Duration = Duration::from_secs(30);
const READY_LIMIT: Duration = Duration::from_secs(180);

/// Applies the manifest and waits until all replicas of all deployments are available.
pub(super) fn deploy(lab: &Lab, manifest: &Path) -> Result<(), LabError> {
    let hosts: Vec<Host<'_>> = lab.each_host().collect();
    let Some(first) = hosts.first() else { return Ok(()) };
    let text = tree::read(manifest).map_err(files("read the sample"))?.unwrap_or_default();
    let place = first.root().join(MANIFEST.trim_start_matches('/'));
    tree::replace(&place, text.as_bytes(), 0o644).map_err(files("put the sample in place"))?;
    run_on(first, first.holdfast(&["apply", "-f", MANIFEST]), ASK_LIMIT)?;
    let mut last = "no answer yet".to_owned();
    let ready = wait_until(READY_LIMIT, Duration::from_millis(250), || {
        let verb = ["get", "deployments", "-A", "-o", "json"];
        match run_on(first, first.holdfast(&verb), ASK_LIMIT) {
            Ok(answer) => match unavailable(&answer.stdout) {
                Ok(missing) if missing.is_empty() => return true,
                Ok(missing) => last = format!("not available: {}", missing.join(", ")),
                Err(reason) => last = reason,
            },
            Err(error) => last = error.to_string(),
        }
        false
    });
    let limit_seconds = READY_LIMIT.as_secs();
    if ready { Ok(()) } else { Err(LabError::NotReady { limit_seconds, last }) }
}

/// Deployments that have fewer available replicas than they ask for.
fn unavailable(document: &str) -> Result<Vec<String>, String> {
    let list: Value = serde_json::from_str(document).map_err(|error| error.to_string())?;
    let items = list.get("items").and_then(Value::as_array).ok_or("it is no list")?;
    let lacks = |item: &&Value| {
        let wanted = item.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
        item.pointer("/status/availableReplicas").and_then(Value::as_i64).unwrap_or(0) < wanted
    };
    let name = |item: &Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    Ok(items.iter().filter(lacks).map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::unavailable;

    #[test]
    fn a_deployment_without_status_is_not_available() {
        let document = r#"{"items": [
            {"metadata": {"name": "young"}, "spec": {"replicas": 2}},
            {"metadata": {"name": "done"}, "spec": {"replicas": 1}, "status": {"availableReplicas": 1}}
        ]}"#;
        assert_eq!(unavailable(document).unwrap(), ["young"]);
        assert!(unavailable("nonsense").is_err());
    }
}
