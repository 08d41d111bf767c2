//! One metric's proposal: enough replicas that the mean is at its target.
//!
//! Pods that are not ready or were not measured are not guessed at their best: they count as
//! idle when there would be more replicas and as busy when there would be fewer, so that the
//! count never moves further than what is known supports, nor back and forth.
//! Invariant: with all pods measured and ready, the proposal brings the mean of the same load
//! to the target or below it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{Sample, ScaledPod, Tolerances};

/// How long after its start a pod's CPU may be that of its start.
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_mins(5);
/// How soon after its start a pod that was never ready says that it is not.
const INITIAL_READINESS_DELAY: SignedDuration = SignedDuration::from_secs(30);

/// What the metric should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Percent of what pods ask for, on the mean.
    Utilization(i64),
    /// Thousandths, on the mean.
    AverageValue(i64),
}

/// What is known of the workload.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    pub pods: &'a [ScaledPod],
    pub replicas: i64,
    /// CPU has its own rules for pods that start.
    pub is_cpu: bool,
    pub tolerances: Tolerances,
    pub now: Timestamp,
}

/// A metric's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub replicas: i64,
    /// The mean, thousandths.
    pub average: i64,
    /// Percent of what the pods ask for; with a target of that kind only.
    pub utilization: Option<i64>,
}

#[derive(Debug, Default)]
struct Groups<'a> {
    ready: usize,
    unready: Vec<&'a ScaledPod>,
    missing: Vec<&'a ScaledPod>,
    /// Of the pods that count, by name.
    values: BTreeMap<&'a str, i64>,
}

/// Whether the sample of a pod's CPU is that of its start.
fn starts(pod: &ScaledPod, sample: Sample, now: Timestamp) -> bool {
    let (Some((ready, since)), Some(started)) = (pod.ready, pod.started) else { return true };
    let after = |time: Timestamp, more: SignedDuration| time.saturating_add(more).unwrap_or(time);
    if after(started, CPU_INITIALIZATION) > now {
        !ready || sample.time < after(since, sample.window)
    } else {
        !ready && after(started, INITIAL_READINESS_DELAY) > since
    }
}

fn group<'a>(at: &Situation<'a>) -> Groups<'a> {
    let mut groups = Groups::default();
    for pod in at.pods.iter().filter(|pod| !pod.ignored) {
        match pod.sample {
            _ if pod.pending => groups.unready.push(pod),
            None => groups.missing.push(pod),
            Some(sample) if at.is_cpu && starts(pod, sample, at.now) => groups.unready.push(pod),
            Some(sample) => {
                groups.ready += 1;
                groups.values.insert(&pod.name, sample.value);
            }
        }
    }
    groups
}

/// The mean of what is used against the target: the ratio, the mean, the percentage.
fn ratio(
    values: &BTreeMap<&str, i64>,
    requests: &BTreeMap<&str, i64>,
    target: Target,
) -> Result<(f64, i64, Option<i64>), String> {
    match target {
        Target::AverageValue(wanted) => {
            let total: i128 = values.values().copied().map(i128::from).sum();
            let average = whole(total / values.len().max(1) as i128);
            Ok((average as f64 / wanted.max(1) as f64, average, None))
        }
        Target::Utilization(percent) => {
            let (mut used, mut asked, mut count) = (0_i128, 0_i128, 0_i128);
            for (name, value) in values {
                let Some(request) = requests.get(name) else { continue };
                used += i128::from(*value);
                asked += i128::from(*request);
                count += 1;
            }
            if asked == 0 {
                return Err("no metrics returned matched known pods".into());
            }
            let utilization = whole(used * 100 / asked);
            let ratio = utilization as f64 / percent.max(1) as f64;
            Ok((ratio, whole(used / count), Some(utilization)))
        }
    }
}

/// Nodes say what they like; the largest number there is stands for all that are larger.
fn whole(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn ceil(ratio: f64, count: usize) -> i64 {
    (ratio * count as f64).ceil() as i64
}

/// The metric's proposal.
pub fn propose(at: &Situation<'_>, target: Target) -> Result<Proposal, String> {
    if at.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".into());
    }
    let mut groups = group(at);
    if groups.values.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    let mut requests = BTreeMap::new();
    if matches!(target, Target::Utilization(_)) {
        for pod in at.pods {
            requests.insert(pod.name.as_str(), pod.request.clone()?);
        }
    }
    let (first, average, utilization) = ratio(&groups.values, &requests, target)?;
    let said = |replicas| Proposal { replicas, average, utilization };
    let grows_with_unready = !groups.unready.is_empty() && first > 1.0;
    if !grows_with_unready && groups.missing.is_empty() {
        if at.tolerances.hold(first) {
            return Ok(said(at.replicas));
        }
        return Ok(said(ceil(first, groups.ready)));
    }
    for pod in &groups.missing {
        let name = pod.name.as_str();
        if first < 1.0 {
            let guess = match target {
                // All that it asks for, or the target where that is more.
                Target::Utilization(percent) => {
                    requests.get(name).copied().unwrap_or(0).saturating_mul(percent.max(100)) / 100
                }
                Target::AverageValue(wanted) => wanted,
            };
            groups.values.insert(name, guess);
        } else if first > 1.0 {
            groups.values.insert(name, 0);
        }
    }
    if grows_with_unready {
        groups.values.extend(groups.unready.iter().map(|pod| (pod.name.as_str(), 0)));
    }
    let (second, ..) = ratio(&groups.values, &requests, target)?;
    let turned = (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0);
    if at.tolerances.hold(second) || turned {
        return Ok(said(at.replicas));
    }
    let replicas = ceil(second, groups.values.len());
    let against =
        (second < 1.0 && replicas > at.replicas) || (second > 1.0 && replicas < at.replicas);
    Ok(said(if against { at.replicas } else { replicas }))
}

#[cfg(test)]
#[path = "calculator_tests.rs"]
mod tests;
