//! The events of an object: oldest first, with how often and since when.

use jiff::Timestamp;
use serde_json::Value;

use super::sheet::Sheet;
use super::text;
use crate::model::kinds::human_duration;

fn first_of<'v>(event: &'v Value, pointers: &[&str]) -> &'v str {
    pointers.iter().map(|pointer| text(event, pointer)).find(|text| !text.is_empty()).unwrap_or("")
}

fn last(event: &Value) -> &str {
    first_of(
        event,
        &["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/firstTimestamp"],
    )
}

fn age(time: &str, now: Timestamp) -> String {
    time.parse::<Timestamp>().map_or_else(
        |_| "<unknown>".into(),
        |time| human_duration(now.as_second() - time.as_second()),
    )
}

/// `12s (x3 over 5m)`.
fn when(event: &Value, now: Timestamp) -> String {
    let series = event.pointer("/series/count").and_then(Value::as_i64);
    let count = series.or_else(|| event["count"].as_i64()).unwrap_or(1);
    let newest = age(last(event), now);
    let first = first_of(event, &["/firstTimestamp", "/eventTime"]);
    if count > 1 { format!("{newest} (x{count} over {})", age(first, now)) } else { newest }
}

/// Adds the table, or says that there are none.
pub(super) fn describe(sheet: &mut Sheet, mut events: Vec<Value>, now: Timestamp) {
    if events.is_empty() {
        return sheet.field(0, "Events", "<none>");
    }
    // Within one second the store's revision tells which was first.
    events.sort_by_cached_key(|event| {
        let revision = text(event, "/metadata/resourceVersion").parse::<u64>().ok();
        (last(event).parse::<Timestamp>().ok(), revision)
    });
    let row = |event: &Value| {
        let from = first_of(event, &["/source/component", "/reportingComponent"]);
        vec![
            text(event, "/type").to_owned(),
            text(event, "/reason").to_owned(),
            when(event, now),
            from.to_owned(),
            text(event, "/message").trim().to_owned(),
        ]
    };
    sheet.heading(0, "Events");
    let rows: Vec<Vec<String>> = events.iter().map(row).collect();
    sheet.table(1, &["Type", "Reason", "Age", "From", "Message"], &rows);
}
