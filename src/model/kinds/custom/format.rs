//! Formats of strings that are checked.
//!
//! Source: kube-openapi `pkg/validation/strfmt`. A format that is not listed there, or whose
//! words are for programmers only (`int64`, `password`), allows everything.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::validate::meta::is_dns_label;

/// Whether a text has the format.
pub(super) fn fits(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => is_time(text),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => is_duration(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.contains('/') && text.parse::<ipnet::IpNet>().is_ok(),
        "mac" => is_mac(text),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => is_uuid(format, text),
        "byte" => STANDARD.decode(text).is_ok(),
        "hostname" => {
            let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
            name.len() <= 253 && name.split('.').all(is_dns_label)
        }
        "email" => text.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty() && !host.is_empty() && !host.contains('@') && !text.contains(' ')
        }),
        "uri" => is_uri(text),
        "hexcolor" => text.strip_prefix('#').is_some_and(|digits| {
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        }),
        _ => true,
    }
}

fn is_time(text: &str) -> bool {
    text.get(10..11).is_some_and(|mark| mark.eq_ignore_ascii_case("t"))
        && text.parse::<jiff::Timestamp>().is_ok()
}

/// Go's, such as `1h30m`, and a bare zero.
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut parts = 0;
    while !rest.is_empty() {
        let number = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
        let Some(end) = number.filter(|end| *end > 0) else { return false };
        rest = rest[end..].trim_start();
        let units = ["ns", "us", "µs", "ms", "s", "m", "h", "d", "w"];
        let longest = units.iter().filter(|unit| rest.starts_with(**unit)).max_by_key(|u| u.len());
        let Some(unit) = longest else { return false };
        rest = rest[unit.len()..].trim_start();
        parts += 1;
    }
    parts > 0
}

fn is_mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let parts: Vec<&str> = text.split(separator).collect();
    let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(is_byte)
}

fn is_uuid(format: &str, text: &str) -> bool {
    let digits: Vec<char> = text.chars().filter(|letter| *letter != '-').collect();
    let dashes = text.len() - digits.len();
    let version = format.strip_prefix("uuid").and_then(|version| version.chars().next());
    digits.len() == 32
        && matches!(dashes, 0 | 4)
        && digits.iter().all(char::is_ascii_hexdigit)
        && version.is_none_or(|version| digits.get(12) == Some(&version))
}

fn is_uri(text: &str) -> bool {
    let clean =
        !text.is_empty() && text.chars().all(|one| !one.is_whitespace() && !one.is_control());
    let scheme = text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    });
    clean && (scheme || text.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn formats_tell_right_from_wrong() {
        for (format, right, wrong) in [
            ("date-time", "2026-01-02T03:04:05Z", "2026-01-02"),
            ("date", "2026-01-02", "2026-13-02"),
            ("duration", "1h30m", "soon"),
            ("ipv4", "192.0.2.1", "192.0.2.256"),
            ("ipv6", "2001:db8::1", "2001:db8::g"),
            ("cidr", "192.0.2.0/24", "192.0.2.0"),
            ("mac", "00:11:22:33:44:55", "00:11:22:33:44"),
            (
                "uuid4",
                "6f1d1d7e-2f5e-4b8c-9a6e-0a1b2c3d4e5f",
                "6f1d1d7e-2f5e-1b8c-9a6e-0a1b2c3d4e5f",
            ),
            ("byte", "aGVsbG8=", "hello!"),
            ("hostname", "db.example.com", "-db.example.com"),
            ("email", "a@example.com", "example.com"),
            ("uri", "https://example.com/x", "not a uri"),
            ("hexcolor", "#ffaa00", "ffaa00"),
        ] {
            assert!(fits(format, right), "{format} {right}");
            assert!(!fits(format, wrong), "{format} {wrong}");
        }
        assert!(fits("int64", "anything"));
    }
}
