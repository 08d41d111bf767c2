//! Kubernetes' dialect, its clock changes, and the definition as a slow oracle.

use proptest::prelude::*;

use super::*;
use crate::model::time_zone;

fn next(schedule: &str, after: &str, zone: &str) -> String {
    let schedule = Schedule::parse(schedule).unwrap();
    let zone = time_zone::find(zone).unwrap();
    let at = schedule.next(after.parse().unwrap(), &zone);
    at.map_or_else(|| "never".to_owned(), |at| at.to_string())
}

#[test]
fn due_times_are_those_of_kubernetes_library() {
    for (schedule, after, due) in [
        ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
        ("* * * * *", "2026-01-01T00:00:59Z", "2026-01-01T00:01:00Z"),
        ("*/15 * * * *", "2026-01-01T00:46:00Z", "2026-01-01T01:00:00Z"),
        ("20-35/15 * * * *", "2026-01-01T00:20:00Z", "2026-01-01T00:35:00Z"),
        ("5/20 * * * *", "2026-01-01T00:25:00Z", "2026-01-01T00:45:00Z"),
        ("0 0 29 2 ?", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 30 Feb *", "2026-01-01T00:00:00Z", "never"),
        // Sundays or the first and fifteenth.
        ("0 0 1,15 * Sun", "2026-07-13T00:00:00Z", "2026-07-15T00:00:00Z"),
        ("0 0 1,15 * Sun", "2026-07-15T00:00:00Z", "2026-07-19T00:00:00Z"),
        // One field is open: the other alone decides. A step closes a field.
        ("0 0 * * mon", "2026-07-15T00:00:00Z", "2026-07-20T00:00:00Z"),
        ("0 0 */10 * Sun", "2026-07-01T00:00:00Z", "2026-07-05T00:00:00Z"),
        ("@daily", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        ("@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
        ("@every 1h30m", "2026-01-01T00:00:00.5Z", "2026-01-01T01:30:00Z"),
    ] {
        assert_eq!(next(schedule, after, "UTC"), due, "{schedule} after {after}");
    }
}

#[test]
fn zones_leap_and_repeat_hours() {
    let zone = "America/New_York";
    // 2026-03-08: the clock goes from 2:00 to 3:00; 2:30 does not exist that day.
    assert_eq!(next("30 2 * * *", "2026-03-07T07:30:00Z", zone), "2026-03-09T06:30:00Z");
    // 2026-11-01: 1:30 comes twice.
    let first = next("30 1 * * *", "2026-10-31T12:00:00Z", zone);
    assert_eq!(first, "2026-11-01T05:30:00Z");
    assert_eq!(next("30 1 * * *", &first, zone), "2026-11-01T06:30:00Z");
    assert_eq!(next("0 8 * * *", "2026-01-01T00:00:00Z", "Asia/Shanghai"), "2026-01-02T00:00:00Z");
}

#[test]
fn the_latest_due_time_is_found_from_far_away() {
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    let (start, now) = (time("2020-01-01T00:00:00Z"), time("2026-03-05T12:34:56Z"));
    for (schedule, due) in [
        ("* * * * *", "2026-03-05T12:34:00Z"),
        ("0 0 1 1 *", "2026-01-01T00:00:00Z"),
        ("0 9 * * mon", "2026-03-02T09:00:00Z"),
        ("@every 7s", "2026-03-05T12:34:56Z"),
    ] {
        let schedule = Schedule::parse(schedule).unwrap();
        let found = schedule.latest(start, now, &TimeZone::UTC);
        if let Form::Every(pause) = &schedule.0 {
            let over = found.unwrap().as_second() - start.as_second();
            assert!(over % pause.as_secs() == 0 && now.as_second() - over - start.as_second() < 7);
        } else {
            assert_eq!(found, Some(time(due)));
        }
    }
    let hourly = Schedule::parse("@hourly").unwrap();
    let (before, after) = (time("2026-01-01T00:10:00Z"), time("2026-01-01T00:50:00Z"));
    assert_eq!(hourly.latest(before, after, &TimeZone::UTC), None);
    assert_eq!(hourly.count(before, time("2026-01-01T05:00:00Z"), &TimeZone::UTC, 3), 3);
}

#[test]
fn what_kubernetes_refuses_is_refused() {
    for wrong in [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 7",
        "5-1 * * * *",
        "*/0 * * * *",
        "1-2-3 * * * *",
        "*/2/3 * * * *",
        "x * * * *",
        "@often",
        "@every soon",
        "@every ",
    ] {
        assert!(Schedule::parse(wrong).is_err(), "{wrong}");
    }
    let text = Schedule::parse("* * * *").unwrap_err().to_string();
    assert_eq!(text, "expected exactly 5 fields, found 4: [* * * *]");
}

proptest! {
    /// Minute by minute, the definition finds the same time.
    #[test]
    fn the_next_time_is_the_first_that_fits(
        (minute, hour, day, weekday) in (0_u8..60, 0_u8..24, 1_u8..29, 0_u8..7),
        form in 0_u8..4,
        start in 1_700_000_000_i64..1_800_000_000,
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "Asia/Kolkata"]),
    ) {
        let text = match form {
            0 => format!("{minute} {hour} * * *"),
            1 => format!("{minute} * {day} * *"),
            2 => format!("*/7 {hour} * * {weekday}"),
            _ => format!("{minute} {hour} {day} * {weekday}"),
        };
        let zone = time_zone::find(zone).unwrap();
        let start = Timestamp::from_second(start).unwrap();
        let schedule = Schedule::parse(&text).unwrap();
        let found = schedule.next(start, &zone).unwrap();
        let mut at = start.as_second().div_euclid(60) * 60 + 60;
        loop {
            let local = Timestamp::from_second(at).unwrap().to_zoned(zone.clone());
            let on_day = local.day() == day as i8;
            let on_weekday = local.weekday().to_sunday_zero_offset() == weekday as i8;
            let fits = match form {
                0 => local.minute() == minute as i8 && local.hour() == hour as i8,
                1 => local.minute() == minute as i8 && on_day,
                2 => local.minute() % 7 == 0 && local.hour() == hour as i8 && on_weekday,
                _ => local.minute() == minute as i8 && local.hour() == hour as i8
                    && (on_day || on_weekday),
            };
            if fits { break }
            at += 60;
        }
        prop_assert_eq!(found.as_second(), at);
    }
}
