//! Expected output with holes for what differs from run to run.
//!
//! A hole is `<kind>` or `<name=kind>`; what a named one took is an environment variable of
//! the commands after it. A line `...` is any number of lines. Two or more spaces inside a
//! line are any number of spaces, because the width of a column follows from what is in it.
//! Words in angle brackets that are no kind (`<none>`) are themselves.

use std::collections::BTreeMap;

/// What named holes took.
pub(crate) type Taken = BTreeMap<String, String>;

#[derive(Debug)]
enum Piece {
    Text(String),
    Spaces,
    Hole { kind: fn(&str) -> bool, name: Option<String> },
}

fn all(text: &str, of: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(of)
}

/// `45s`, `2m30s`, `3d4h`.
fn is_age(text: &str) -> bool {
    let mut rest = text;
    for _ in 0..2 {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        let unit = rest[end..].chars().next();
        if end == 0 || !unit.is_some_and(|unit| "smhdy".contains(unit)) {
            return false;
        }
        rest = &rest[end + 1..];
        if rest.is_empty() {
            return true;
        }
    }
    false
}

/// Whether the text is like the pattern, in which `0` is any digit.
fn is_like(text: &str, pattern: &str) -> bool {
    text.len() == pattern.len()
        && text.chars().zip(pattern.chars()).all(
            |(c, p)| {
                if p == '0' { c.is_ascii_digit() } else { c == p }
            },
        )
}

fn is_uid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && all(text, |c| c == '-' || c.is_ascii_hexdigit())
}

fn kind_named(name: &str) -> Option<fn(&str) -> bool> {
    Some(match name {
        "age" => is_age,
        "any" => |_| true,
        "base64" => |text| all(text, |c| c.is_ascii_alphanumeric() || "+/=-_.".contains(c)),
        "hash" => |text| text.len() <= 10 && all(text, |c| c.is_ascii_alphanumeric()),
        "ip" => |text| text.parse::<std::net::Ipv4Addr>().is_ok(),
        "number" => |text| all(text, |c| c.is_ascii_digit()),
        "suffix" => |text| text.len() == 5 && all(text, |c| c.is_ascii_alphanumeric()),
        "time" => |text| is_like(text, "0000-00-00T00:00:00Z"),
        "uid" => is_uid,
        "word" => |text| all(text, |c| !c.is_whitespace()),
        _ => return None,
    })
}

fn pieces(line: &str) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut text = String::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let hole = rest.strip_prefix('<').and_then(|after| {
            let inside = &after[..after.find('>')?];
            let (name, kind) = inside.split_once('=').map_or((None, inside), |(n, k)| (Some(n), k));
            Some((kind_named(kind)?, name.map(str::to_owned), inside.len() + 2))
        });
        let spaces = rest.len() - rest.trim_start_matches(' ').len();
        let inside = !text.is_empty() || !found.is_empty();
        let (piece, length) = match hole {
            Some((kind, name, length)) => (Piece::Hole { kind, name }, length),
            None if spaces > 1 && inside => (Piece::Spaces, spaces),
            None => {
                text.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            }
        };
        if !text.is_empty() {
            found.push(Piece::Text(std::mem::take(&mut text)));
        }
        found.push(piece);
        rest = &rest[length..];
    }
    if !text.is_empty() {
        found.push(Piece::Text(text));
    }
    found
}

fn matches(pieces: &[Piece], text: &str, taken: &mut Taken) -> bool {
    let Some((first, others)) = pieces.split_first() else { return text.is_empty() };
    match first {
        Piece::Text(wanted) => {
            text.strip_prefix(wanted.as_str()).is_some_and(|rest| matches(others, rest, taken))
        }
        Piece::Spaces => {
            let rest = text.trim_start_matches(' ');
            rest.len() < text.len() && matches(others, rest, taken)
        }
        Piece::Hole { kind, name } => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            for end in ends {
                if kind(&text[..end]) && matches(others, &text[end..], taken) {
                    if let Some(name) = name {
                        taken.insert(name.clone(), text[..end].to_owned());
                    }
                    return true;
                }
            }
            false
        }
    }
}

/// Whether the lines are what was expected; what named holes took is added then.
pub(crate) fn agrees(expected: &[String], got: &[&str], taken: &mut Taken) -> bool {
    let Some((first, others)) = expected.split_first() else { return got.is_empty() };
    if first == "..." {
        return (0..=got.len()).any(|skipped| agrees(others, &got[skipped..], taken));
    }
    let Some((line, rest)) = got.split_first() else { return false };
    matches(&pieces(first), line.trim_end(), taken) && agrees(others, rest, taken)
}

/// The comparer notices what it is there to notice.
pub(crate) fn planted_differences_are_seen() -> Result<(), String> {
    let cases = [
        ("pod/web-<suffix> created", "pod/web-x7k2p created", true),
        ("pod/web-<suffix> created", "pod/web-x7k2 created", false),
        ("web   1/1   Running   0   <age>", "web 1/1       Running 0 2m30s", true),
        ("web   1/1   Running   0   <age>", "web 1/1       Running 1 2m30s", false),
        ("web   1/1   Running   0   <age>", "web 1/1       Running 0 soon", false),
        ("  key: <time>", "  key: 2026-01-01T00:00:00Z", true),
        ("  key: <time>", "    key: 2026-01-01T00:00:00Z", false),
        ("a <none> b", "a <none> b", true),
        ("a <none> b", "a x b", false),
        ("first\n...\nlast", "first\nx\ny\nlast", true),
        ("first\n...\nlast", "first\nx\ny", false),
        ("only", "only\nmore", false),
        ("<ip>:<p=number>", "127.0.0.1:80", true),
        ("<ip>", "127.0.0.256", false),
    ];
    for (expected, got, wanted) in cases {
        let mut taken = Taken::new();
        let lines: Vec<String> = expected.lines().map(str::to_owned).collect();
        if agrees(&lines, &got.lines().collect::<Vec<_>>(), &mut taken) != wanted {
            return Err(format!("{expected:?} and {got:?}: not {wanted}"));
        }
        if got == "127.0.0.1:80" && taken.get("p").map(String::as_str) != Some("80") {
            return Err(format!("{taken:?}"));
        }
    }
    Ok(())
}
