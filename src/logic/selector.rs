//! Label and field selectors: parsing and matching.
//!
//! Source: apimachinery `pkg/labels/selector.go` and `pkg/fields/selector.go`. Pure, and
//! shared by the API, the controllers and the network.
//! Invariant: a requirement on an absent label is met only by `!key`, `!=` and `notin`.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::model::kinds::{SelectableField, is_label_value, is_qualified_name};

/// A selector that cannot be understood; the text goes to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("unable to parse requirement: {reason}")]
    Label { reason: String },
    #[error("invalid selector: '{selector}'; can't understand '{part}'")]
    Field { selector: String, part: String },
    #[error("field label not supported: {field}")]
    UnknownField { field: String },
    #[error(
        "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    )]
    NamesOnly { field: String },
    #[error("{operator:?} is not a valid label selector operator")]
    Operator { operator: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

impl Requirement {
    fn is_met_by(&self, labels: Option<&Map<String, Value>>) -> bool {
        let value = labels.and_then(|labels| labels.get(&self.key)).and_then(Value::as_str);
        let number = || value.and_then(|text| text.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::Greater(bound) => number().is_some_and(|number| number > *bound),
            Test::Less(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

/// All requirements must be met; the empty selector selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if part.is_empty() {
                if text.trim().is_empty() {
                    continue;
                }
                return Err(label_error("found ',', expected: identifier"));
            }
            requirements.push(parse_requirement(part)?);
        }
        Ok(Self { requirements })
    }

    /// From the object form, `{matchLabels, matchExpressions}`. As in Kubernetes, an
    /// absent selector selects nothing and must be handled by the caller.
    pub fn from_object(selector: &Value) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        let labels = selector.get("matchLabels").and_then(Value::as_object);
        for (key, value) in labels.into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement { key: key.clone(), test: Test::In(vec![value]) });
        }
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        for expression in expressions.into_iter().flatten() {
            let key = expression["key"].as_str().unwrap_or_default().to_owned();
            let values = expression["values"].as_array();
            let values: Vec<String> =
                values.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
            let test = match expression["operator"].as_str().unwrap_or_default() {
                "In" => Test::In(values),
                "NotIn" => Test::NotIn(values),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::Absent,
                other => return Err(SelectorError::Operator { operator: other.to_owned() }),
            };
            requirements.push(Requirement { key, test });
        }
        Ok(Self { requirements })
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object's `metadata.labels` meet it.
    pub fn matches(&self, object: &Value) -> bool {
        self.matches_labels(object.pointer("/metadata/labels").and_then(Value::as_object))
    }

    /// Whether a set of labels meets it.
    pub fn matches_labels(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.requirements.iter().all(|requirement| requirement.is_met_by(labels))
    }
}

fn label_error(reason: impl Into<String>) -> SelectorError {
    SelectorError::Label { reason: reason.into() }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (index, symbol) in text.char_indices() {
        match symbol {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_requirement(part: &str) -> Result<Requirement, SelectorError> {
    if let Some(key) = part.strip_prefix('!') {
        return requirement(key.trim(), Test::Absent);
    }
    if let Some((key, value)) = part.split_once("!=") {
        return requirement(key.trim(), Test::NotIn(vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return requirement(key.trim(), Test::In(vec![value.trim().to_owned()]));
    }
    for (sign, make) in [('>', Test::Greater as fn(i64) -> Test), ('<', Test::Less)] {
        if let Some((key, bound)) = part.split_once(sign) {
            let bound = bound.trim().parse().map_err(|_| {
                label_error(format!(
                    "for 'Gt', 'Lt' operators, the value must be an integer: {part}"
                ))
            })?;
            return requirement(key.trim(), make(bound));
        }
    }
    if let Some(open) = part.find('(') {
        let (head, list) = part.split_at(open);
        let inner = list.trim().strip_prefix('(').and_then(|list| list.strip_suffix(')'));
        let inner = inner.ok_or_else(|| label_error(format!("found '{part}', expected: ')'")))?;
        let values: Vec<String> = inner.split(',').map(|one| one.trim().to_owned()).collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => requirement(key, Test::In(values)),
            (Some(key), Some("notin"), None) => requirement(key, Test::NotIn(values)),
            _ => Err(label_error(format!("found '{head}', expected: in, notin"))),
        };
    }
    if let Some(word) = part.split_whitespace().nth(1) {
        return Err(label_error(format!("found '{word}', expected: in, notin, =, ==, !=, gt, lt")));
    }
    requirement(part, Test::Exists)
}

fn requirement(key: &str, test: Test) -> Result<Requirement, SelectorError> {
    if !is_qualified_name(key) {
        return Err(label_error(format!("<nil>: Invalid value: \"{key}\": not a label key")));
    }
    if let Test::In(values) | Test::NotIn(values) = &test
        && let Some(value) = values.iter().find(|value| !is_label_value(value))
    {
        return Err(label_error(format!(
            "values[0][{key}]: Invalid value: \"{value}\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.'"
        )));
    }
    Ok(Requirement { key: key.to_owned(), test })
}

/// Kinds with fields of their own say so in other words than those without.
fn unknown_field(field: &str, fields: &[SelectableField]) -> SelectorError {
    let field = field.to_owned();
    if fields.iter().any(|known| !known.name.starts_with("metadata.")) {
        SelectorError::UnknownField { field }
    } else {
        SelectorError::NamesOnly { field }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldTest {
    pointer: &'static str,
    value: String,
    equal: bool,
}

/// Compares fields that the kind's table row names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    tests: Vec<FieldTest>,
}

impl FieldSelector {
    /// Parses `a=b,c==d,e!=f` against the fields that may be selected.
    pub fn parse(text: &str, fields: &[SelectableField]) -> Result<Self, SelectorError> {
        let mut tests = Vec::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (field, value, equal) = if let Some((field, value)) = part.split_once("!=") {
                (field, value, false)
            } else if let Some((field, value)) =
                part.split_once("==").or_else(|| part.split_once('='))
            {
                (field, value, true)
            } else {
                let (selector, part) = (text.to_owned(), part.to_owned());
                return Err(SelectorError::Field { selector, part });
            };
            let known = fields
                .iter()
                .find(|known| known.name == field.trim())
                .ok_or_else(|| unknown_field(field.trim(), fields))?;
            tests.push(FieldTest { pointer: known.pointer, value: value.trim().into(), equal });
        }
        Ok(Self { tests })
    }

    pub fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    pub fn matches(&self, object: &Value) -> bool {
        self.tests.iter().all(|test| (text_at(object, test.pointer) == test.value) == test.equal)
    }

    /// A field that must have one value, by its place in the object; `None` if there is none.
    pub fn first(&self) -> Option<(&'static str, &str)> {
        let mut tests = self.tests.iter();
        tests.find(|test| test.equal).map(|test| (test.pointer, test.value.as_str()))
    }

    /// The value that the field at this place must have.
    pub fn value_of(&self, pointer: &str) -> Option<&str> {
        let mut tests = self.tests.iter();
        tests.find(|test| test.equal && test.pointer == pointer).map(|test| test.value.as_str())
    }
}

/// A field as selectors see it; what is not there is empty.
pub fn text_at<'v>(object: &'v Value, pointer: &str) -> Cow<'v, str> {
    match object.pointer(pointer) {
        None | Some(Value::Null) => Cow::Borrowed(""),
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(other) => Cow::Owned(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{FieldSelector, LabelSelector};
    use crate::model::kinds::by_path;

    fn matches(selector: &str) -> bool {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "front", "n": "5"}}});
        LabelSelector::parse(selector).expect(selector).matches(&object)
    }

    #[test]
    fn label_selectors_mean_what_kubernetes_means() {
        for selector in [
            "",
            "app=web",
            "app==web,tier=front",
            "app in (web, db)",
            "tier notin (back)",
            "app",
            "!gone",
            "gone!=x",
            "n>4",
            "n<6",
            "gone notin (a,b)",
        ] {
            assert!(matches(selector), "{selector} must match");
        }
        for selector in ["app=db", "app!=web", "app in (db)", "!app", "gone", "n>5", "gone in (a)"]
        {
            assert!(!matches(selector), "{selector} must not match");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for selector in ["a=b,,c", "a in (b", "a b", "a=b c", "-x"] {
            assert!(LabelSelector::parse(selector).is_err(), "{selector}");
        }
    }

    #[test]
    fn the_object_form_knows_all_operators() {
        let selector = LabelSelector::from_object(&json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["front"]},
                {"key": "gone", "operator": "DoesNotExist"},
            ],
        }))
        .unwrap();
        assert!(
            selector.matches(&json!({"metadata": {"labels": {"app": "web", "tier": "front"}}}))
        );
        assert!(!selector.matches(&json!({"metadata": {"labels": {"app": "web"}}})));
    }

    #[test]
    fn fields_are_those_of_the_table() {
        let fields = by_path("", "v1", "pods").unwrap().fields;
        let pod = json!({"spec": {"nodeName": "n1"}, "status": {"phase": "Running"}});
        let selector = |text| FieldSelector::parse(text, fields).unwrap();
        assert!(selector("spec.nodeName=n1,status.phase!=Failed").matches(&pod));
        assert!(!selector("spec.nodeName=").matches(&pod));
        let both = selector("status.phase!=Failed,spec.nodeName=n1");
        assert_eq!(both.first(), Some(("/spec/nodeName", "n1")), "others exclude, this one asks");
        assert_eq!(both.value_of("/metadata/name"), None);
        assert_eq!(selector("spec.nodeName!=n1").first(), None);
        let error = FieldSelector::parse("spec.image=x", fields).unwrap_err();
        assert_eq!(error.to_string(), "field label not supported: spec.image");
        let maps = by_path("", "v1", "configmaps").unwrap().fields;
        assert_eq!(
            FieldSelector::parse("data.a=x", maps).unwrap_err().to_string(),
            "\"data.a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
    }
}
