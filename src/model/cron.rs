//! Schedules of cron jobs: five fields or a word, and when they come due next.
//!
//! Why our own: the dialect is that of Kubernetes' library (robfig/cron's standard
//! parser) to the letter, `?`, `@every`, names and the rule about the two day fields
//! included; a manifest that Kubernetes takes must mean the same here.
//!
//! ```text
//! minute 0-59 · hour 0-23 · day 1-31 · month 1-12 or JAN-DEC · weekday 0-6 or SUN-SAT
//! each: list of  *  ?  N  N-M  with an optional /STEP;  N/STEP means N to the end
//! ```
//! Invariants: a time that a zone's clock leaps over does not come due, one that it shows
//! twice comes due twice; `next` is strictly later than what it is asked for.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

/// Years ahead after which a schedule counts as never due (`0 0 30 2 *`).
const YEARS_AHEAD: i16 = 5;

/// What is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error("expected exactly 5 fields, found {found}: [{text}]")]
    Fields { found: usize, text: String },
    #[error("failed to parse int from {0}")]
    Number(String),
    #[error("too many hyphens: {0}")]
    Hyphens(String),
    #[error("too many slashes: {0}")]
    Slashes(String),
    #[error("beginning of range ({value}) below minimum ({bound}): {text}")]
    Below { value: u32, bound: u32, text: String },
    #[error("end of range ({value}) above maximum ({bound}): {text}")]
    Above { value: u32, bound: u32, text: String },
    #[error("beginning of range ({first}) beyond end of range ({last}): {text}")]
    Reversed { first: u32, last: u32, text: String },
    #[error("step of range should be a positive number: {0}")]
    Step(String),
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("failed to parse duration {0}")]
    Duration(String),
}

/// The values of one field as bits, and whether it was left open by `*` or `?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    bits: u64,
    open: bool,
}

impl Field {
    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.bits & (1 << value) != 0)
    }
}

/// A parsed schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Fields {
        minute: Field,
        hour: Field,
        day: Field,
        month: Field,
        weekday: Field,
    },
    /// Whole seconds, at least one.
    Every(SignedDuration),
}

struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTE: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOUR: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAY: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTH: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Bounds =
    Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

impl Bounds {
    fn value(&self, text: &str) -> Result<u32, CronError> {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = self.names.iter().position(|name| *name == lower) {
            return Ok(at as u32 + self.min);
        }
        text.parse().map_err(|_| CronError::Number(text.to_owned()))
    }

    fn range(&self, text: &str) -> Result<Field, CronError> {
        let mut halves = text.split('/');
        let (span, step) = (halves.next().unwrap_or_default(), halves.next());
        if halves.next().is_some() {
            return Err(CronError::Slashes(text.to_owned()));
        }
        let mut ends = span.split('-');
        let (low, high) = (ends.next().unwrap_or_default(), ends.next());
        if ends.next().is_some() {
            return Err(CronError::Hyphens(text.to_owned()));
        }
        let star = low == "*" || low == "?";
        let (first, mut last) = match (star, high) {
            (true, _) => (self.min, self.max),
            (false, None) => (self.value(low)?, self.value(low)?),
            (false, Some(high)) => (self.value(low)?, self.value(high)?),
        };
        let mut width = 1;
        if let Some(step) = step {
            width = step.parse().map_err(|_| CronError::Number(step.to_owned()))?;
            if high.is_none() && !star {
                last = self.max;
            }
        }
        let text = || text.to_owned();
        if first < self.min {
            return Err(CronError::Below { value: first, bound: self.min, text: text() });
        }
        if last > self.max {
            return Err(CronError::Above { value: last, bound: self.max, text: text() });
        }
        if first > last {
            return Err(CronError::Reversed { first, last, text: text() });
        }
        if width == 0 {
            return Err(CronError::Step(text()));
        }
        let bits = (first..=last).step_by(width as usize).fold(0, |bits, value| bits | 1 << value);
        Ok(Field { bits, open: star && width == 1 })
    }

    fn field(&self, text: &str) -> Result<Field, CronError> {
        let mut all = Field { bits: 0, open: false };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let one = self.range(part)?;
            all = Field { bits: all.bits | one.bits, open: all.open || one.open };
        }
        Ok(all)
    }
}

impl Schedule {
    /// Reads a schedule as Kubernetes does.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let text = text.trim();
        let text = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        if let Some(pause) = text.strip_prefix("@every ") {
            return every(pause).map(|pause| Self(Form::Every(pause)));
        }
        if text.starts_with('@') {
            return Err(CronError::Descriptor(text.to_owned()));
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = words[..] else {
            return Err(CronError::Fields { found: words.len(), text: words.join(" ") });
        };
        Ok(Self(Form::Fields {
            minute: MINUTE.field(minute)?,
            hour: HOUR.field(hour)?,
            day: DAY.field(day)?,
            month: MONTH.field(month)?,
            weekday: WEEKDAY.field(weekday)?,
        }))
    }

    /// The first due time after `after`, by the clock of `zone`; `None` if there is none
    /// within years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match &self.0 {
            Form::Every(pause) => {
                Timestamp::from_second(after.as_second()).ok()?.checked_add(*pause).ok()
            }
            Form::Fields { .. } => self.next_by_fields(after, zone),
        }
    }

    /// The last due time after `after` and not later than `until`.
    pub fn latest(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if let Form::Every(pause) = &self.0 {
            let over = until.as_second() - after.as_second();
            let times = over.div_euclid(pause.as_secs());
            let at = after.as_second() + times * pause.as_secs();
            return if times > 0 { Timestamp::from_second(at).ok() } else { None };
        }
        // Looks back further and further, so that what is due often is found soon.
        for minutes in [2, 60, 1_440, 45_000, i64::MAX] {
            let back = until.as_second().saturating_sub(minutes.saturating_mul(60));
            let from = Timestamp::from_second(back.max(after.as_second())).ok()?;
            let due = |from: Timestamp| self.next(from, zone).filter(|at| *at <= until);
            if let Some(first) = due(from) {
                return std::iter::successors(Some(first), |at| due(*at)).last();
            }
            if from == after || back <= after.as_second() {
                break;
            }
        }
        None
    }

    /// How many times came due after `after` and not later than `until`, at most `most`.
    pub fn count(&self, after: Timestamp, until: Timestamp, zone: &TimeZone, most: usize) -> usize {
        let due = |from: Timestamp| self.next(from, zone).filter(|at| *at <= until);
        std::iter::successors(due(after), |at| due(*at)).take(most).count()
    }

    /// Skips months, then days, then hours that cannot be; then minutes. An hour is
    /// added as elapsed time, so that an hour that the clock shows twice is met twice
    /// and one that it leaves out never.
    fn next_by_fields(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let Form::Fields { minute, hour, month, .. } = &self.0 else { return None };
        let start = Timestamp::from_second(after.as_second().div_euclid(60) * 60 + 60).ok()?;
        let mut at = start.to_zoned(zone.clone());
        let last_year = at.year() + YEARS_AHEAD;
        while at.year() <= last_year {
            if !month.has(at.month()) {
                let first = at.first_of_month().ok()?.checked_add(1.month()).ok()?;
                at = first.start_of_day().ok()?;
            } else if !self.has_day(&at) {
                at = at.tomorrow().ok()?.start_of_day().ok()?;
            } else if !hour.has(at.hour()) {
                let left = 60 - i64::from(at.minute());
                at = at.checked_add(SignedDuration::from_mins(left)).ok()?;
            } else if !minute.has(at.minute()) {
                at = at.checked_add(SignedDuration::from_mins(1)).ok()?;
            } else {
                return Some(at.timestamp());
            }
        }
        None
    }

    /// Both day fields must fit if one of them is open; else one is enough.
    fn has_day(&self, at: &Zoned) -> bool {
        let Form::Fields { day, weekday, .. } = &self.0 else { return false };
        let by_day = day.has(at.day());
        let by_weekday = weekday.has(at.weekday().to_sunday_zero_offset());
        if day.open || weekday.open { by_day && by_weekday } else { by_day || by_weekday }
    }
}

/// Go's duration text, of which whole seconds count and at least one.
fn every(text: &str) -> Result<SignedDuration, CronError> {
    let wrong = || CronError::Duration(format!("@every {text}"));
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let tail = &rest[digits..];
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        seconds += number
            * match &tail[..unit] {
                "h" => 3_600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                "us" | "µs" => 0.000_001,
                "ns" => 0.000_000_001,
                _ => return Err(wrong()),
            };
        rest = &tail[unit..];
    }
    if text.is_empty() || !seconds.is_finite() || seconds > 1e15 {
        return Err(wrong());
    }
    Ok(SignedDuration::from_secs((seconds as i64).max(1)))
}

#[cfg(test)]
#[path = "cron/tests.rs"]
mod tests;
