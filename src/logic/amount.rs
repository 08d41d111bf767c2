//! Kubernetes quantities (`100m`, `64Mi`, `1e3`) as numbers.
//!
//! Invariant: rounding goes up, as in apimachinery, so that a limit is never below what
//! was written.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What a suffix of Kubernetes' multiplies and divides by; `None` for an exponent and what
/// is no suffix.
pub(super) fn suffix_scale(suffix: &str) -> Option<(i128, i128)> {
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

/// A named entry of a resource list, in thousandths.
pub fn milli_of(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i64> {
    i64::try_from(milli(&list?.get(name)?.0)?).ok()
}

/// A named entry of a resource list, in whole units, rounded up.
pub fn units_of(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i64> {
    let milli = milli(&list?.get(name)?.0)?;
    i64::try_from((milli + 999) / 1_000).ok()
}

#[cfg(test)]
mod tests {
    use super::milli;

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
}
