//! From a proposal to the count that is set: not back and forth, not too fast, within bounds.
//!
//! Invariants: the count is within min and max unless a policy holds it back on its way there;
//! it never moves against the stabilized proposal; a workload shrinks only when nothing in the
//! window wanted more.

use std::time::Duration;

use serde_json::{Value, json};

/// How long proposals are remembered where the autoscaler does not say.
const DOWN_WINDOW_SECONDS: u64 = 300;
/// Without behavior a workload may double, and always grow to this.
const GROWTH_MIN: i64 = 4;

/// A count and when it was proposed or set, on a monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at: Duration,
    pub count: i64,
}

/// What is remembered of an autoscaler.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub proposals: Vec<Entry>,
    /// By how much it grew or shrank, and when.
    pub grown: Vec<Entry>,
    pub shrunk: Vec<Entry>,
}

/// A rule of `behavior.scaleUp` or `scaleDown`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub window_seconds: u64,
    pub select: Select,
    pub policies: Vec<Policy>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    Max,
    Min,
    Disabled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub is_percent: bool,
    pub value: i64,
    pub period_seconds: u64,
}

/// Both directions; `None` of a whole is what Kubernetes did before there was any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behavior {
    pub up: Rules,
    pub down: Rules,
}

/// The bounds, and where the workload is.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub current: i64,
    pub min: i64,
    pub max: i64,
}

/// A condition's reason and message.
pub type Words = (&'static str, &'static str);

/// What is to be done, and why it is not what was proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub count: i64,
    /// For `AbleToScale`, which is True.
    pub able: Words,
    /// For `ScalingLimited`.
    pub limited: bool,
    pub limit: Words,
}

const IN_RANGE: Words = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_MANY: Words =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: Words =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const UP_LIMIT: Words =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Words = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);
const READY: Words = ("ReadyForNewScale", "recommended size matches current size");
const HELD_UP: Words = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const HELD_DOWN: Words = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);

impl Rules {
    fn parse(value: &Value, window: u64) -> Self {
        let number = |value: &Value, field: &str| value[field].as_u64().unwrap_or_default();
        let policies = value["policies"].as_array().into_iter().flatten();
        Self {
            window_seconds: value["stabilizationWindowSeconds"].as_u64().unwrap_or(window),
            select: match value["selectPolicy"].as_str() {
                Some("Min") => Select::Min,
                Some("Disabled") => Select::Disabled,
                _ => Select::Max,
            },
            policies: policies
                .map(|policy| Policy {
                    is_percent: policy["type"] == "Percent",
                    value: policy["value"].as_i64().unwrap_or_default(),
                    period_seconds: number(policy, "periodSeconds"),
                })
                .collect(),
        }
    }

    fn longest_period(&self) -> Duration {
        let longest = self.policies.iter().map(|policy| policy.period_seconds).max();
        Duration::from_secs(longest.unwrap_or_default())
    }
}

impl Behavior {
    /// From a defaulted `spec.behavior`.
    pub fn parse(behavior: &Value) -> Self {
        Self {
            up: Rules::parse(&behavior["scaleUp"], 0),
            down: Rules::parse(&behavior["scaleDown"], DOWN_WINDOW_SECONDS),
        }
    }

    /// What Kubernetes fills in.
    pub fn default_rules(up: bool) -> Value {
        let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        if up {
            let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
            json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max",
                "policies": [pods, percent]})
        } else {
            json!({"selectPolicy": "Max", "policies": [percent]})
        }
    }
}

fn within(entries: &[Entry], now: Duration, seconds: u64) -> impl Iterator<Item = i64> + '_ {
    let window = Duration::from_secs(seconds);
    let recent = move |entry: &&Entry| entry.at + window > now;
    entries.iter().filter(recent).map(|entry| entry.count)
}

impl Memory {
    /// The first look: what is there is what was wanted.
    pub fn begin(&mut self, now: Duration, current: i64) {
        if self.proposals.is_empty() {
            self.proposals.push(Entry { at: now, count: current });
        }
    }

    /// Notes that the count was set.
    pub fn changed(&mut self, now: Duration, behavior: Option<&Behavior>, from: i64, to: i64) {
        let Some(behavior) = behavior else { return };
        let (entries, rules) = if to > from {
            (&mut self.grown, &behavior.up)
        } else {
            (&mut self.shrunk, &behavior.down)
        };
        entries.retain(|entry| entry.at + rules.longest_period() > now);
        entries.push(Entry { at: now, count: (to - from).abs() });
    }

    fn remember(&mut self, now: Duration, count: i64, seconds: u64) {
        let window = Duration::from_secs(seconds.max(1));
        self.proposals.retain(|entry| entry.at + window > now);
        self.proposals.push(Entry { at: now, count });
    }

    /// The count to set for a proposal.
    pub fn decide(
        &mut self,
        now: Duration,
        behavior: Option<&Behavior>,
        at: Bounds,
        proposed: i64,
    ) -> Decision {
        match behavior {
            None => self.decide_plainly(now, at, proposed),
            Some(behavior) => self.decide_by(now, behavior, at, proposed),
        }
    }

    fn decide_plainly(&mut self, now: Duration, at: Bounds, proposed: i64) -> Decision {
        let highest = within(&self.proposals, now, DOWN_WINDOW_SECONDS).max();
        let stable = highest.unwrap_or(proposed).max(proposed);
        self.remember(now, proposed, DOWN_WINDOW_SECONDS);
        let able = if stable == proposed { READY } else { HELD_UP };
        let growth = (2 * at.current).max(GROWTH_MIN);
        let (most, why) = if at.max > growth { (growth, UP_LIMIT) } else { (at.max, TOO_MANY) };
        let (count, limit) = if stable < at.min {
            (at.min, TOO_FEW)
        } else if stable > most {
            (most, why)
        } else {
            (stable, IN_RANGE)
        };
        Decision { count, able, limited: count != stable, limit }
    }

    fn decide_by(
        &mut self,
        now: Duration,
        behavior: &Behavior,
        at: Bounds,
        proposed: i64,
    ) -> Decision {
        let (up, down) = (behavior.up.window_seconds, behavior.down.window_seconds);
        let lowest = within(&self.proposals, now, up).fold(proposed, i64::min);
        let highest = within(&self.proposals, now, down).fold(proposed, i64::max);
        let stable = at.current.max(lowest).min(highest);
        self.remember(now, proposed, up.max(down));
        let able = match stable == proposed {
            true => READY,
            false if at.current >= proposed => HELD_UP,
            false => HELD_DOWN,
        };
        let (count, limit) = if stable > at.current {
            let limit = self.up_limit(now, &behavior.up, at.current);
            let limit = limit.max(at.current);
            let (most, why) = if at.max > limit { (limit, UP_LIMIT) } else { (at.max, TOO_MANY) };
            if stable > most { (most, why) } else { (stable, IN_RANGE) }
        } else if stable < at.current {
            let limit = self.down_limit(now, &behavior.down, at.current);
            let limit = limit.min(at.current);
            let (least, why) = if at.min < limit { (limit, DOWN_LIMIT) } else { (at.min, TOO_FEW) };
            if stable < least { (least, why) } else { (stable, IN_RANGE) }
        } else {
            (stable, IN_RANGE)
        };
        Decision { count, able, limited: count != stable, limit }
    }

    /// How many there were when the policy's period began.
    fn period_start(&self, now: Duration, policy: &Policy, current: i64) -> i64 {
        let grown: i64 = within(&self.grown, now, policy.period_seconds).sum();
        let shrunk: i64 = within(&self.shrunk, now, policy.period_seconds).sum();
        current - grown + shrunk
    }

    fn up_limit(&self, now: Duration, rules: &Rules, current: i64) -> i64 {
        let limits = rules.policies.iter().map(|policy| {
            let start = self.period_start(now, policy, current);
            if policy.is_percent {
                (start as f64 * (1.0 + policy.value as f64 / 100.0)).ceil() as i64
            } else {
                start + policy.value
            }
        });
        match rules.select {
            Select::Disabled => current,
            Select::Min => limits.min().unwrap_or(i64::from(i32::MAX)),
            Select::Max => limits.max().unwrap_or(i64::from(i32::MIN)),
        }
    }

    fn down_limit(&self, now: Duration, rules: &Rules, current: i64) -> i64 {
        let limits = rules.policies.iter().map(|policy| {
            let start = self.period_start(now, policy, current);
            if policy.is_percent {
                (start as f64 * (1.0 - policy.value as f64 / 100.0)) as i64
            } else {
                start - policy.value
            }
        });
        match rules.select {
            Select::Disabled => current,
            // The smallest change leaves the most.
            Select::Min => limits.max().unwrap_or(i64::from(i32::MIN)),
            Select::Max => limits.min().unwrap_or(i64::from(i32::MAX)),
        }
    }
}

#[cfg(test)]
#[path = "behavior_tests.rs"]
mod tests;
