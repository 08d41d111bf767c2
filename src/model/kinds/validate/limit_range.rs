//! Ranges: bounds that contradict each other are refused.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::Problems;
use super::{list_at, str_at};
use crate::model::quantity::Quantity;

type Amounts<'v> = BTreeMap<&'v str, Quantity>;

/// The amounts of a field; what is no amount is told.
fn read<'v>(item: &'v Value, field: &str, at: &str, problems: &mut Problems) -> Amounts<'v> {
    let mut found = Amounts::new();
    for (name, amount) in item.get(field).and_then(Value::as_object).into_iter().flatten() {
        match amount.as_str().and_then(Quantity::parse) {
            Some(parsed) => {
                found.insert(name, parsed);
            }
            None => problems.invalid(&format!("{at}.{field}[{name}]"), amount, "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
        }
    }
    found
}

pub(in super::super) fn range(range: &Value, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, item) in list_at(range, "/spec/limits").iter().enumerate() {
        let at = format!("spec.limits[{index}]");
        let kind = str_at(item, "/type");
        match kind {
            "" => problems.required(&format!("{at}.type"), ""),
            "Container" | "Pod" | "PersistentVolumeClaim" => {}
            name if name.contains('/') => {}
            other => problems.invalid(
                &format!("{at}.type"),
                &other.into(),
                "must be a standard limit type or fully qualified",
            ),
        }
        if !seen.insert(kind) {
            problems.duplicate(&format!("{at}.type"), &kind.into());
        }
        check(item, kind, &at, problems);
    }
}

fn check(item: &Value, kind: &str, at: &str, problems: &mut Problems) {
    let mut of = |field: &str| read(item, field, at, problems);
    let (min, max) = (of("min"), of("max"));
    let (default, request) = (of("default"), of("defaultRequest"));
    let ratio = of("maxLimitRequestRatio");
    if kind == "Pod" {
        for (field, amounts) in [("default", &default), ("defaultRequest", &request)] {
            if !amounts.is_empty() {
                let text = "may not be specified when `type` is 'Pod'";
                problems.forbidden(&format!("{at}.{field}"), text);
            }
        }
    }
    if kind == "PersistentVolumeClaim"
        && !min.contains_key("storage")
        && !max.contains_key("storage")
    {
        let text = "either minimum or maximum storage value is required, but neither was provided";
        problems.required(at, text);
    }
    let maps = [&min, &max, &default, &request, &ratio];
    let names: BTreeSet<&str> = maps.iter().flat_map(|map| map.keys().copied()).collect();
    for name in names {
        let mut above = |field: &str,
                         low: Option<&Quantity>,
                         high: Option<&Quantity>,
                         words: [&str; 2]| {
            if let (Some(low), Some(high)) = (low, high)
                && low > high
            {
                let text =
                    format!("{} value {low} is greater than {} value {high}", words[0], words[1]);
                let value = Value::from(low.to_string());
                problems.invalid(&format!("{at}.{field}[{name}]"), &value, &text);
            }
        };
        let (min, max) = (min.get(name), max.get(name));
        let (default, request) = (default.get(name), request.get(name));
        above("min", min, max, ["min", "max"]);
        above("defaultRequest", min, request, ["min", "default request"]);
        above("defaultRequest", request, max, ["default request", "max"]);
        above("defaultRequest", request, default, ["default request", "default limit"]);
        above("default", min, default, ["min", "default"]);
        above("default", default, max, ["default", "max"]);
        if let Some(ratio) = ratio.get(name)
            && *ratio < Quantity::ONE
        {
            let value = Value::from(ratio.to_string());
            let text = format!("ratio {ratio} is less than 1");
            problems.invalid(&format!("{at}.maxLimitRequestRatio[{name}]"), &value, &text);
        }
        if let (Some(ratio), Some(min), Some(max)) = (ratio.get(name), min, max)
            && min.milli() > 0
            && ratio.milli().saturating_mul(min.milli()) > max.milli().saturating_mul(1_000)
        {
            let most = max.milli() as f64 / min.milli() as f64;
            let value = Value::from(ratio.to_string());
            let text = format!("ratio {ratio} is greater than max/min = {most:.6}");
            problems.invalid(&format!("{at}.maxLimitRequestRatio[{name}]"), &value, &text);
        }
    }
}
