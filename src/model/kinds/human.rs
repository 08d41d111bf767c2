//! Ages as kubectl writes them.
//!
//! Source: apimachinery `util/duration.HumanDuration`: two units at most, coarser with age.

use jiff::Timestamp;
use serde_json::Value;

/// `5s`, `2m30s`, `17m`, `3h12m`, `26h`, `4d3h`, `90d`, `2y40d`, `9y`.
pub fn human_duration(total_seconds: i64) -> String {
    if total_seconds < -1 {
        return "<invalid>".to_owned();
    }
    if total_seconds < 0 {
        return "0s".to_owned();
    }
    let (minutes, hours, days) =
        (total_seconds / 60, total_seconds / 3_600, total_seconds / 86_400);
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{big}{big_unit}")
        } else {
            format!("{big}{big_unit}{small}{small_unit}")
        }
    };
    match () {
        () if total_seconds < 120 => format!("{total_seconds}s"),
        () if minutes < 10 => two(minutes, "m", total_seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 192 => two(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () if days < 2_920 => two(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

/// How long ago an RFC 3339 time was; `<unknown>` for none.
pub(super) fn since(time: Option<&Value>, now: Timestamp) -> String {
    match time.and_then(Value::as_str).and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(then) => human_duration(now.as_second() - then.as_second()),
        None => "<unknown>".to_owned(),
    }
}
