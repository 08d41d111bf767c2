//! An autoscaler's status while it is being found.

use jiff::Timestamp;
use serde_json::{Value, json};

/// What the status will be.
#[derive(Debug)]
pub(super) struct Draft {
    held: Value,
    now: Timestamp,
    conditions: Vec<Value>,
    pub(super) current: i64,
    pub(super) metrics: Vec<Value>,
}

impl Draft {
    /// Begins with what the autoscaler says.
    pub(super) fn of(autoscaler: &Value, now: Timestamp) -> Self {
        let held = autoscaler.get("status").cloned().unwrap_or_else(|| json!({}));
        Self {
            now: Timestamp::from_second(now.as_second()).unwrap_or(now),
            conditions: held["conditions"].as_array().cloned().unwrap_or_default(),
            current: held["currentReplicas"].as_i64().unwrap_or_default(),
            metrics: Vec::new(),
            held,
        }
    }

    /// Sets one; its time is that of its last change between True and False.
    pub(super) fn condition(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
        let mut since = Value::from(self.now.to_string());
        let at = self.conditions.iter().position(|condition| condition["type"] == kind);
        if let Some(held) = at.and_then(|at| self.conditions.get(at))
            && held["status"] == status
        {
            since = held["lastTransitionTime"].clone();
        }
        let condition = json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since,
        });
        match at.and_then(|at| self.conditions.get_mut(at)) {
            Some(held) => *held = condition,
            None => self.conditions.push(condition),
        }
    }

    /// The status, if it is another one than the autoscaler has.
    pub(super) fn status(self, desired: Option<i64>, rescaled: bool) -> Option<Value> {
        let held = self.held["desiredReplicas"].as_i64().unwrap_or_default();
        let mut status = json!({
            "currentReplicas": self.current,
            "desiredReplicas": desired.unwrap_or(held),
            "conditions": self.conditions,
        });
        if !self.metrics.is_empty() {
            status["currentMetrics"] = Value::Array(self.metrics);
        }
        if rescaled {
            status["lastScaleTime"] = self.now.to_string().into();
        } else if let Some(time) = self.held.get("lastScaleTime") {
            status["lastScaleTime"] = time.clone();
        }
        (status != self.held).then_some(status)
    }
}
