//! How many pods a job that goes on makes or takes away now.
//!
//! Invariants: never more than `parallelism` pods work at once, nor more than completions
//! are left; an index has one pod at a time; after failures new pods wait, twice as long
//! each time, and the wait follows from the pods that are there, so that no change of
//! leader shortens it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::JobSpec;

use super::pod::{Action, End, JobPod};
use super::tracking::{Count, Rules};
use crate::base::limits;

/// A pod to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewPod {
    pub index: Option<u32>,
    /// Failures of the index so far, and those of them that were ignored.
    pub failures: u32,
    pub ignored: u32,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    pub create: Vec<NewPod>,
    /// Numbers of pods that go without being counted.
    pub remove: Vec<usize>,
    /// Look again after this time: a back-off ends.
    pub wait: Option<Duration>,
}

/// Decides; the job is not over.
pub fn demand(spec: &JobSpec, count: &Count, pods: &[JobPod], now: Timestamp) -> Demand {
    let rules = Rules::of(spec, false);
    let active: Vec<usize> =
        pods.iter().enumerate().filter(|(_, pod)| pod.is_active()).map(|(at, _)| at).collect();
    let mut demand = Demand::default();
    if spec.suspend == Some(true) {
        demand.remove = active;
        return demand;
    }
    let parallelism = usize::try_from(spec.parallelism.unwrap_or(1)).unwrap_or(0);
    let done = count.next.total_succeeded();
    let failed_indexes = count.next.failed_indexes.len() as i32;
    let wanted = match spec.completions {
        Some(all) => usize::try_from(all - done - failed_indexes).unwrap_or(0).min(parallelism),
        None if done > 0 => active.len().min(parallelism),
        None => parallelism,
    };
    let kept =
        if rules.indexed { of_each_index(&active, pods, count, &rules) } else { active.clone() };
    demand.remove.extend(active.iter().filter(|at| !kept.contains(at)));
    if kept.len() > wanted {
        demand.remove.extend(surplus(&kept, pods, kept.len() - wanted));
        return demand;
    }
    // Where only ended pods are replaced, one that is still leaving holds its place.
    let leaving = pods
        .iter()
        .filter(|pod| rules.only_ended && pod.terminating && pod.end == End::Open && !pod.gone);
    let missing = wanted.saturating_sub(kept.len() + leaving.count());
    let missing = missing.min(limits::REPLICASET_BURST);
    if missing == 0 {
        return demand;
    }
    if rules.limit_per_index.is_none()
        && let Some(left) = pause_left(pods, &rules, now)
    {
        demand.wait = Some(left);
        return demand;
    }
    if rules.indexed {
        fill_indexes(missing, count, pods, &rules, now, &mut demand);
    } else {
        demand.create = vec![NewPod::default(); missing];
    }
    demand
}

/// One active pod for each index that is still open.
fn of_each_index(active: &[usize], pods: &[JobPod], count: &Count, rules: &Rules) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let open = active.iter().copied().filter(|at| {
        pods[*at].index.is_some_and(|index| {
            index < rules.completions
                && !count.next.completed.contains(index)
                && !count.next.failed_indexes.contains(index)
                && seen.insert(index)
        })
    });
    open.collect()
}

/// Which pods go first: those of high indexes, those that are not ready.
fn surplus(kept: &[usize], pods: &[JobPod], number: usize) -> Vec<usize> {
    let mut order = kept.to_vec();
    order.sort_by_key(|at| (Reverse(pods[*at].index), pods[*at].ready, Reverse(*at)));
    order.truncate(number);
    order
}

fn back_off(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    limits::JOB_BACKOFF_MIN.saturating_mul(1 << doublings).min(limits::JOB_BACKOFF_MAX)
}

fn left_of(since: Timestamp, pause: Duration, now: Timestamp) -> Option<Duration> {
    let over = now.duration_since(since);
    let over = Duration::try_from(over).unwrap_or(Duration::ZERO);
    pause.checked_sub(over).filter(|left| !left.is_zero())
}

/// The rest of the pause after the failures since the last success.
fn pause_left(pods: &[JobPod], rules: &Rules, now: Timestamp) -> Option<Duration> {
    let ends = |end: fn(&JobPod, bool) -> bool| {
        pods.iter().filter(move |pod| end(pod, rules.only_ended)).filter_map(|pod| pod.ended_at)
    };
    let success = ends(|pod, _| pod.end == End::Succeeded).max();
    let failures = ends(|pod, only| pod.has_failed(only) && pod.action != Action::Ignore);
    let newer: Vec<Timestamp> =
        failures.filter(|at| success.is_none_or(|success| *at > success)).collect();
    let last = *newer.iter().max()?;
    left_of(last, back_off(newer.len() as u32), now)
}

/// The lowest open indexes that nobody works on and whose pause is over.
fn fill_indexes(
    missing: usize,
    count: &Count,
    pods: &[JobPod],
    rules: &Rules,
    now: Timestamp,
    demand: &mut Demand,
) {
    let held: BTreeSet<u32> = pods
        .iter()
        .filter(|pod| {
            let leaving = rules.only_ended && pod.terminating && pod.end == End::Open && !pod.gone;
            pod.is_active() || leaving
        })
        .filter_map(|pod| pod.index)
        .collect();
    let before: BTreeMap<u32, &JobPod> =
        count.awaited.iter().map(|(index, at)| (*index, &pods[*at])).collect();
    for index in 0..rules.completions {
        if demand.create.len() >= missing {
            break;
        }
        let over =
            count.next.completed.contains(index) || count.next.failed_indexes.contains(index);
        if over || held.contains(&index) {
            continue;
        }
        let mut new = NewPod { index: Some(index), ..NewPod::default() };
        if let Some(last) = before.get(&index) {
            let ignored = last.action == Action::Ignore;
            new.failures = last.failures_before + u32::from(!ignored);
            new.ignored = last.ignored_before + u32::from(ignored);
            let pause = back_off(new.failures);
            let left = last.ended_at.and_then(|at| left_of(at, pause, now));
            if let Some(left) = left.filter(|_| new.failures > 0) {
                demand.wait = Some(demand.wait.map_or(left, |held| held.min(left)));
                continue;
            }
        }
        demand.create.push(new);
    }
}
