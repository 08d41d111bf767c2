//! Names, labels, annotations, finalizers: rules that hold for every kind.

use serde_json::Value;

use super::super::{Kind, NameRule, Problems};
use super::{list_at, str_at};

pub(super) const SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
pub(super) const LABEL_1035_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
pub(super) const QUALIFIED_TEXT: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
/// Annotations of one object together, bytes.
const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;

fn is_lower_alnum(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// RFC 1123 label: lower case letters, digits and inner dashes, at most 63.
pub fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= 63
        && is_lower_alnum(bytes[0])
        && is_lower_alnum(bytes[bytes.len() - 1])
        && bytes.iter().all(|byte| is_lower_alnum(*byte) || *byte == b'-')
}

/// Like a label, but the parts between dots have no length limit of their own.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.split('.').all(|part| {
        let bytes = part.as_bytes();
        !bytes.is_empty()
            && is_lower_alnum(bytes[0])
            && is_lower_alnum(bytes[bytes.len() - 1])
            && bytes.iter().all(|byte| is_lower_alnum(*byte) || *byte == b'-')
    })
}

/// What is wrong with the name of a port, if anything is.
pub(super) fn port_name(name: &str) -> Option<&'static str> {
    let bytes = name.as_bytes();
    if bytes.len() > 15 {
        Some("must be no more than 15 characters")
    } else if !bytes.iter().all(|byte| is_lower_alnum(*byte) || *byte == b'-') {
        Some("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    } else if !bytes.iter().any(u8::is_ascii_lowercase) {
        Some("must contain at least one letter (a-z)")
    } else if name.contains("--") {
        Some("must not contain consecutive hyphens")
    } else if name.starts_with('-') || name.ends_with('-') {
        Some("must not begin or end with a hyphen")
    } else {
        None
    }
}

fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= 63
        && bytes[0].is_ascii_alphanumeric()
        && bytes[bytes.len() - 1].is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// A label's key: `[prefix/]name`.
pub fn is_qualified_name(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => prefix.len() <= 253 && is_subdomain(prefix) && is_word(name),
        None => is_word(key),
    }
}

/// A label's value: empty, or a word of at most 63.
pub fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_word(value)
}

fn check_name(rule: NameRule, name: &str, problems: &mut Problems) {
    let field = "metadata.name";
    let (valid, max, text) = match rule {
        NameRule::Subdomain => (is_subdomain(name), 253, SUBDOMAIN_TEXT),
        NameRule::Label => (is_dns_label(name), 63, LABEL_TEXT),
        NameRule::Label1035 => {
            let letter_first = name.starts_with(|first: char| first.is_ascii_lowercase());
            (is_dns_label(name) && letter_first, 63, LABEL_1035_TEXT)
        }
        NameRule::PathSegment => (
            super::access::is_path_segment(name),
            usize::MAX,
            "may not be '.', '..' or contain '/' or '%'",
        ),
    };
    if name.len() > max {
        problems.invalid(field, &name.into(), &format!("must be no more than {max} characters"));
    } else if !valid {
        problems.invalid(field, &name.into(), text);
    }
}

/// Checks a map of labels at `field`.
pub(super) fn labels(map: Option<&Value>, field: &str, problems: &mut Problems) {
    for (key, value) in map.and_then(Value::as_object).into_iter().flatten() {
        if !is_qualified_name(key) {
            problems.invalid(field, &key.as_str().into(), QUALIFIED_TEXT);
        }
        let text = value.as_str().unwrap_or_default();
        if text.len() > 63 {
            problems.invalid(field, value, "must be no more than 63 characters");
        } else if !is_label_value(text) {
            problems.invalid(field, value, LABEL_VALUE_TEXT);
        }
    }
}

/// Checks what every object has.
pub fn validate_metadata(kind: &Kind, object: &Value, problems: &mut Problems) {
    let name = str_at(object, "/metadata/name");
    if name.is_empty() {
        problems.required("metadata.name", "name or generateName is required");
    } else {
        check_name(kind.name_rule, name, problems);
    }
    labels(object.pointer("/metadata/labels"), "metadata.labels", problems);
    let mut total = 0;
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    for (key, value) in annotations.into_iter().flatten() {
        if !is_qualified_name(&key.to_lowercase()) {
            problems.invalid("metadata.annotations", &key.as_str().into(), QUALIFIED_TEXT);
        }
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if total > ANNOTATIONS_MAX_BYTES {
        problems.too_long("metadata.annotations", ANNOTATIONS_MAX_BYTES, "bytes");
    }
    for (index, finalizer) in list_at(object, "/metadata/finalizers").iter().enumerate() {
        if !is_qualified_name(finalizer.as_str().unwrap_or_default()) {
            problems.invalid(&format!("metadata.finalizers[{index}]"), finalizer, QUALIFIED_TEXT);
        }
    }
    for (index, owner) in list_at(object, "/metadata/ownerReferences").iter().enumerate() {
        for part in ["apiVersion", "kind", "name", "uid"] {
            if str_at(owner, &format!("/{part}")).is_empty() {
                let field = format!("metadata.ownerReferences[{index}].{part}");
                problems.required(&field, "must not be empty");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_dns() {
        for good in ["a", "a1", "node-7", &"x".repeat(63)] {
            assert!(is_dns_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A1", "a_b", "a b", &"x".repeat(64)] {
            assert!(!is_dns_label(bad), "{bad}");
        }
    }
}
