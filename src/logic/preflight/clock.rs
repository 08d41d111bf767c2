//! The host's clock: certificates, leases and logs are judged by it.

use super::Severity::{Error, Info, Warning};
use super::{Check, Seen, check, of_machine, when};

/// More than this and certificates or leases are judged wrongly. Seconds.
const CLOCK_MAX_S: i64 = 60;
/// 2026-01-01; a clock before this is older than the program. Seconds since 1970.
const EARLIEST_S: i64 = 1_767_225_600;
/// Programs that keep a clock right.
const SERVICES: [&str; 5] = ["chronyd", "ntpd", "systemd-timesyn", "ptp4l", "openntpd"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockFacts {
    /// Seconds since 1970.
    pub now_s: i64,
    /// Seconds that this clock is ahead of the cluster's; negative: behind.
    pub ahead_s: Option<i64>,
    /// Whether the kernel was told that something keeps the clock right.
    pub synchronized: Option<bool>,
    /// `tsc`, `kvm-clock`, …
    pub source: Option<String>,
}

fn services(seen: &Seen<'_>) -> Vec<&'static str> {
    let running = &seen.host.system.programs;
    SERVICES.into_iter().filter(|name| running.iter().any(|one| one == name)).collect()
}

pub(super) const CHECKS: &[Check] = &[
    check("clock", Error, "set the clock, best by NTP", |seen| {
        let ahead = seen.host.clock.ahead_s.unwrap_or_default();
        when(ahead.abs() > CLOCK_MAX_S, "date", || {
            let side = if ahead > 0 { "ahead of" } else { "behind" };
            format!("the clock is {} s {side} the cluster's", ahead.abs())
        })
    }),
    check("clock-past", Error, "set the clock, and look at the battery of the board", |seen| {
        when(seen.host.clock.now_s < EARLIEST_S, "date", || {
            "the clock is before 2026: every certificate would be of the future".into()
        })
    }),
    of_machine(
        "clock-unsynchronized",
        Warning,
        "set a time source in chrony or systemd-timesyncd and wait until it is followed",
        |seen| {
            when(seen.host.clock.synchronized == Some(false), "adjtimex", || {
                "nothing keeps the clock right".into()
            })
        },
    ),
    of_machine(
        "clock-source",
        Warning,
        "let the kernel use tsc or the hypervisor's clock (remove clocksource= from its command line)",
        |seen| {
            let source = seen.host.clock.source.as_deref().unwrap_or_default();
            when(["jiffies", "hpet", "acpi_pm", "pit"].contains(&source), "clocksource", || {
                format!("time is read from {source}, which is slow")
            })
        },
    ),
    of_machine("time-service", Info, "install chrony and name the site's time servers", |seen| {
        when(services(seen).is_empty(), "processes", || {
            "no program that keeps the clock right is running".into()
        })
    }),
    of_machine("time-services", Warning, "keep one of them", |seen| {
        let all = services(seen);
        let setters = all.iter().filter(|name| **name != "ptp4l").count();
        when(setters > 1, "processes", || {
            format!("{} correct the clock against each other", all.join(" and "))
        })
    }),
];
