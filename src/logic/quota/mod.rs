//! ResourceQuota: what objects use, which quotas they are charged to, and when no more fits.
//!
//! Source: `pkg/quota/v1/evaluator/core`, `apiserver/pkg/admission/plugin/resourcequota`; the
//! words are Kubernetes'.
//! Invariants: what is allowed never makes `used` pass `hard`; a quota whose use is not
//! counted yet allows nothing that it bounds; a change that uses no more is never refused.
//! Not here: that charge and object are one write (`objects/quota`), counting what is there
//! (`controllers/quota`).

mod scopes;
mod usage;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::pod_resources::Amounts;
use crate::model::quantity::Quantity;
pub use scopes::matches_scopes;
pub use usage::{Counted, usage};

/// What a quota's object says.
fn amounts(quota: &Value, pointer: &str) -> Amounts {
    let entries = quota.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    let parsed = entries.filter_map(|(name, amount)| {
        let amount = amount.as_str().and_then(Quantity::parse)?;
        Some((name.clone(), amount))
    });
    parsed.collect()
}

/// The bounds that a quota sets.
pub fn hard(quota: &Value) -> Amounts {
    amounts(quota, "/spec/hard")
}

/// As it stands in an object.
pub fn to_json(amounts: &Amounts) -> Value {
    let entries = amounts.iter().map(|(name, amount)| (name.clone(), amount.to_string().into()));
    Value::Object(entries.collect::<Map<String, Value>>())
}

fn pretty(amounts: &Amounts, names: &BTreeSet<&String>) -> String {
    let parts = names.iter().map(|name| {
        let amount = amounts.get(*name).copied().unwrap_or(Quantity::ZERO);
        format!("{name}={amount}")
    });
    parts.collect::<Vec<_>>().join(",")
}

/// A quota's use after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Its place among the quotas that were given.
    pub quota: usize,
    pub used: Amounts,
}

/// What an object uses now, less what it used before; nothing that shrinks.
fn growth(kind: &Counted<'_>, old: Option<&Value>, new: &Value, now: Timestamp) -> Amounts {
    let mut more = usage(kind, new, now);
    if let Some(old) = old {
        for (name, before) in usage(kind, old, now) {
            if let Some(amount) = more.get_mut(&name) {
                *amount = amount.minus(before);
            }
        }
    }
    more.retain(|_, amount| *amount > Quantity::ZERO);
    more
}

/// Whether an object may come to use more than it did, at all.
pub fn may_grow(kind: &Counted<'_>, old: Option<&Value>, new: &Value, now: Timestamp) -> bool {
    !growth(kind, old, new, now).is_empty()
}

/// Charges a new or changed object to the quotas of its namespace, or says why not.
pub fn charge(
    quotas: &[Value],
    kind: &Counted<'_>,
    old: Option<&Value>,
    new: &Value,
    now: Timestamp,
) -> Result<Vec<Charge>, String> {
    let mut interesting = Vec::new();
    for (place, quota) in quotas.iter().enumerate() {
        let hard = hard(quota);
        let own: BTreeSet<&String> = hard.keys().filter(|name| kind.handles(name)).collect();
        if own.is_empty() || !matches_scopes(quota, kind, new) {
            continue;
        }
        let name = quota["metadata"]["name"].as_str().unwrap_or_default();
        if let Some(lacking) = usage::lacking(kind, &own, new) {
            return Err(format!("failed quota: {name}: must specify {lacking}"));
        }
        let used = amounts(quota, "/status/used");
        if !own.iter().all(|resource| used.contains_key(*resource)) {
            let list: Vec<&str> = own.iter().map(|resource| resource.as_str()).collect();
            let list = list.join(",");
            return Err(format!("status unknown for quota: {name}, resources: {list}"));
        }
        interesting.push((place, name, hard, used));
    }
    let negative: Vec<String> = usage(kind, new, now)
        .into_iter()
        .filter(|(_, amount)| *amount < Quantity::ZERO)
        .map(|(name, _)| name)
        .collect();
    if !negative.is_empty() && !interesting.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    let mut charges = Vec::new();
    for (place, name, hard, mut used) in interesting {
        // Whether the object belonged to this quota before is for its scopes to say.
        let before = old.filter(|old| matches_scopes(&quotas[place], kind, old));
        let mut more = growth(kind, before, new, now);
        more.retain(|resource, _| hard.contains_key(resource));
        if more.is_empty() {
            continue;
        }
        let sum = |resource: &String| {
            let own = used.get(resource).copied().unwrap_or(Quantity::ZERO);
            own.plus(more[resource])
        };
        let exceeded: BTreeSet<&String> =
            more.keys().filter(|resource| sum(resource) > hard[*resource]).collect();
        if !exceeded.is_empty() {
            return Err(format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                pretty(&more, &exceeded),
                pretty(&used, &exceeded),
                pretty(&hard, &exceeded),
            ));
        }
        super::pod_resources::add(&mut used, &more);
        charges.push(Charge { quota: place, used });
    }
    Ok(charges)
}

/// Counts what objects use of what a quota bounds: `used` of its status. `kinds` are all
/// that are served, each with its objects in the quota's namespace.
pub fn count<'o>(
    quota: &Value,
    kinds: impl Iterator<Item = (Counted<'o>, &'o [Value])>,
    now: Timestamp,
) -> Amounts {
    let hard = hard(quota);
    let mut used = Amounts::new();
    for (kind, objects) in kinds {
        let own: Vec<&String> = hard.keys().filter(|name| kind.handles(name)).collect();
        if own.is_empty() {
            continue;
        }
        let mut sums: BTreeMap<&String, Quantity> =
            own.iter().map(|name| (*name, Quantity::ZERO)).collect();
        for object in objects.iter().filter(|object| matches_scopes(quota, &kind, object)) {
            let uses = usage(&kind, object, now);
            for (name, sum) in &mut sums {
                if let Some(amount) = uses.get(*name) {
                    *sum = sum.plus(*amount);
                }
            }
        }
        used.extend(sums.into_iter().map(|(name, sum)| (name.clone(), sum)));
    }
    used
}

#[cfg(test)]
mod tests;
