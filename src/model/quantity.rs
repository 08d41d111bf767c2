//! Kubernetes quantities (`100m`, `64Mi`, `1e3`): read, added, and written as Kubernetes
//! writes them.
//!
//! Invariants: rounding goes up, as in apimachinery, so that a limit is never below what
//! was written; what is written is the shortest text with a whole number before its suffix.
//! Source: `apimachinery/pkg/api/resource/quantity.go`.

use std::cmp::Ordering;
use std::fmt;

/// What a suffix of Kubernetes' multiplies and divides by; `None` for an exponent and what
/// is no suffix.
pub fn suffix_scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => return None,
    })
}

/// The value in thousandths; `None` when it is not a quantity.
pub fn milli(text: &str) -> Option<i128> {
    let text = text.trim();
    let digits_end = text
        .char_indices()
        .find(|(index, c)| !(c.is_ascii_digit() || *c == '.' || (*index == 0 && "+-".contains(*c))))
        .map_or(text.len(), |(index, _)| index);
    let (number, suffix) = text.split_at(digits_end);
    let (numerator, denominator) = match suffix_scale(suffix) {
        Some(scale) => scale,
        None => {
            let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let scale = 10_i128.checked_pow(power.unsigned_abs())?;
            if power >= 0 { (scale, 1) } else { (1, scale) }
        }
    };
    let negative = number.starts_with('-');
    let plain = number.trim_start_matches(['+', '-']);
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let value: i128 = format!("{whole}{fraction}").parse().ok()?;
    let top = value.checked_mul(numerator)?.checked_mul(1_000)?;
    let bottom = denominator.checked_mul(scale)?;
    let rounded = (top + bottom - 1) / bottom;
    Some(if negative { -rounded } else { rounded })
}

/// Which suffixes a quantity is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `k`, `M`, `G`.
    Decimal,
    /// `Ki`, `Mi`, `Gi`.
    Binary,
    /// `e3`, `e6`.
    Exponent,
}

/// An amount of something. Two are equal if they are the same amount, however written.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    milli: i128,
    format: Format,
}

impl Quantity {
    pub const ZERO: Self = Self { milli: 0, format: Format::Decimal };
    pub const ONE: Self = Self { milli: 1_000, format: Format::Decimal };

    /// `None` for what is no quantity.
    pub fn parse(text: &str) -> Option<Self> {
        let milli = milli(text)?;
        let text = text.trim();
        let format = if text.ends_with('i') {
            Format::Binary
        } else if text.contains('e') || text.trim_end_matches('E').contains('E') {
            Format::Exponent
        } else {
            Format::Decimal
        };
        Some(Self { milli, format })
    }

    /// In thousandths.
    pub fn milli(&self) -> i128 {
        self.milli
    }

    /// Whether it has no fraction.
    pub fn is_whole(&self) -> bool {
        self.milli % 1_000 == 0
    }

    /// The sum; written as the first is, if that is not zero.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.milli == 0 { other.format } else { self.format };
        Self { milli: self.milli.saturating_add(other.milli), format }
    }

    /// The difference; written as the first is, if that is not zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(Self { milli: -other.milli, ..other })
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.milli == other.milli
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.milli.cmp(&other.milli)
    }
}

/// How often `base` goes into the number without a rest, at most `most` times.
fn strip(mut number: i128, base: i128, most: usize) -> (i128, usize) {
    let mut times = 0;
    while number != 0 && times < most && number % base == 0 {
        number /= base;
        times += 1;
    }
    (number, times)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DECIMAL: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        let up = self.milli.div_euclid(1_000) + i128::from(!self.is_whole());
        if self.format == Format::Binary && up.abs() >= 1_024 {
            let (number, times) = strip(up, 1_024, BINARY.len() - 1);
            return write!(f, "{number}{}", BINARY[times]);
        }
        if !self.is_whole() {
            return match self.format {
                Format::Exponent => write!(f, "{}e-3", self.milli),
                Format::Decimal | Format::Binary => write!(f, "{}m", self.milli),
            };
        }
        let (number, times) = strip(self.milli / 1_000, 1_000, DECIMAL.len() - 1);
        match self.format {
            Format::Exponent if times > 0 => write!(f, "{number}e{}", times * 3),
            _ => write!(f, "{number}{}", DECIMAL[times]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Quantity, milli};

    #[test]
    fn all_notations_are_read() {
        assert_eq!(milli("100m"), Some(100));
        assert_eq!(milli("0.5"), Some(500));
        assert_eq!(milli("64Mi"), Some(64 * 1_048_576 * 1_000));
        assert_eq!(milli("1e3"), Some(1_000_000));
        assert_eq!(milli("1E"), Some(1_000_000_000_000_000_000_000));
        assert_eq!(milli("1n"), Some(1));
        assert_eq!(milli("abc"), None);
        assert_eq!(milli(""), None);
    }

    #[test]
    fn amounts_are_written_as_kubernetes_writes_them() {
        for (text, written) in [
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("0", "0"),
            ("0Gi", "0"),
            ("1e3", "1e3"),
            ("1E", "1E"),
            ("-2000", "-2k"),
        ] {
            assert_eq!(Quantity::parse(text).unwrap().to_string(), written, "{text}");
        }
        let of = |text| Quantity::parse(text).unwrap();
        assert_eq!(of("1Gi").plus(of("512Mi")).to_string(), "1536Mi");
        assert_eq!(Quantity::ZERO.plus(of("1Gi")).to_string(), "1Gi");
        assert_eq!(of("1").minus(of("250m")).to_string(), "750m");
        assert_eq!(of("1000m"), of("1"));
        assert!(of("1Gi") > of("1G"));
    }
}
