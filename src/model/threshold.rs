//! When something is running out, a quantity or a part of the whole, and for how long a node
//! says so.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// `100Mi`, `1000` or `10%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Threshold {
    Amount(u64),
    /// Thousandths.
    Permille(u64),
}

/// What is no threshold.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither a quantity like 100Mi nor a part like 10%")]
pub struct NoThreshold(String);

const SUFFIXES: &[(&str, u64)] =
    &[("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("Ti", 1 << 40)];

impl Threshold {
    /// `None` for what is neither.
    fn parse(text: &str) -> Option<Self> {
        if let Some(percent) = text.strip_suffix('%') {
            let (whole, tenth) = percent.split_once('.').unwrap_or((percent, "0"));
            let (whole, tenth): (u64, u64) = (whole.parse().ok()?, tenth.parse().ok()?);
            let permille = whole.checked_mul(10)?.checked_add(tenth)?;
            return (tenth < 10 && permille <= 1_000).then_some(Threshold::Permille(permille));
        }
        let found =
            SUFFIXES.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)));
        let (number, unit) = found.unwrap_or((text, 1));
        number.parse::<u64>().ok()?.checked_mul(unit).map(Threshold::Amount)
    }

    /// In the unit of what is measured.
    pub fn of(self, capacity: u64) -> u64 {
        match self {
            Threshold::Amount(amount) => amount,
            Threshold::Permille(part) => (u128::from(capacity) * u128::from(part) / 1_000) as u64,
        }
    }
}

impl std::str::FromStr for Threshold {
    type Err = NoThreshold;

    fn from_str(text: &str) -> Result<Self, NoThreshold> {
        Self::parse(text).ok_or_else(|| NoThreshold(text.to_owned()))
    }
}

impl TryFrom<String> for Threshold {
    type Error = NoThreshold;

    fn try_from(text: String) -> Result<Self, NoThreshold> {
        text.parse()
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> String {
        match threshold {
            Threshold::Permille(part) if part % 10 == 0 => format!("{}%", part / 10),
            Threshold::Permille(part) => format!("{}.{}%", part / 10, part % 10),
            Threshold::Amount(amount) => {
                let unit = SUFFIXES.iter().rev().find(|(_, unit)| amount > 0 && amount % unit == 0);
                match unit {
                    Some((suffix, unit)) => format!("{}{suffix}", amount / unit),
                    None => amount.to_string(),
                }
            }
        }
    }
}

/// `5m`, `90s` or `1h30m`, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(Duration);

/// What is no period.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a time like 5m or 90s")]
pub struct NoPeriod(String);

impl Period {
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub fn get(self) -> Duration {
        self.0
    }
}

impl std::str::FromStr for Period {
    type Err = NoPeriod;

    fn from_str(text: &str) -> Result<Self, NoPeriod> {
        let parsed = text.parse::<SignedDuration>().ok();
        let seconds = parsed.and_then(|parsed| u64::try_from(parsed.as_secs()).ok());
        seconds.map(Self::from_secs).ok_or_else(|| NoPeriod(text.to_owned()))
    }
}

impl TryFrom<String> for Period {
    type Error = NoPeriod;

    fn try_from(text: String) -> Result<Self, NoPeriod> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> String {
        match period.0.as_secs() {
            seconds if seconds > 0 && seconds % 60 == 0 => format!("{}m", seconds / 60),
            seconds => format!("{seconds}s"),
        }
    }
}

/// Below which a node ends pods (the kubelet's hard thresholds and their defaults).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EvictionThresholds {
    pub memory_available: Threshold,
    pub nodefs_available: Threshold,
    pub nodefs_inodes_free: Threshold,
    pub pid_available: Threshold,
    /// For how long the node says that it lacks something after it was seen last.
    pub pressure_transition_period: Period,
}

impl Default for EvictionThresholds {
    fn default() -> Self {
        Self {
            memory_available: Threshold::Amount(100 << 20),
            nodefs_available: Threshold::Permille(100),
            nodefs_inodes_free: Threshold::Permille(50),
            pid_available: Threshold::Permille(50),
            pressure_transition_period: Period::from_secs(5 * 60),
        }
    }
}

impl EvictionThresholds {
    /// Nobody has said otherwise, so nothing needs to be written down.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_quantities_or_parts_and_are_written_as_they_are_read() {
        for (text, threshold) in [
            ("100Mi", Threshold::Amount(100 << 20)),
            ("1000", Threshold::Amount(1_000)),
            ("10%", Threshold::Permille(100)),
            ("2.5%", Threshold::Permille(25)),
            ("0", Threshold::Amount(0)),
        ] {
            assert_eq!(Threshold::parse(text), Some(threshold));
            assert_eq!(String::from(threshold), text);
        }
        for wrong in ["", "x", "-5", "101%", "-1%", "1.25%", "5Mi%", "Mi"] {
            assert_eq!(Threshold::parse(wrong), None, "{wrong}");
        }
    }
    #[test]
    fn periods_are_read_to_the_second_and_written_in_one_unit() {
        for (text, seconds, written) in
            [("5m", 300, "5m"), ("90s", 90, "90s"), ("1h30m", 5_400, "90m"), ("0s", 0, "0s")]
        {
            let period: Period = text.parse().unwrap();
            assert_eq!(period, Period::from_secs(seconds));
            assert_eq!(String::from(period), written);
        }
        for wrong in ["", "5", "soon", "-5m"] {
            assert!(wrong.parse::<Period>().is_err(), "{wrong}");
        }
    }
}
