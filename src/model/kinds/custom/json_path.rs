//! JSONPath as printer columns use it: fields, indexes, `[*]` and filters.
//!
//! Source: `k8s.io/client-go/util/jsonpath`. Recursive descent and slices are refused when
//! the definition is written; columns of the definitions we know have none.

use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// `?(@.path OP literal)`; without an operator the path must be there.
    Filter(Vec<Step>, Option<(Operator, Value)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

const OPERATORS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::Unequal),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

/// A path, ready to be followed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JsonPath(Vec<Step>);

impl JsonPath {
    /// Reads `.status.conditions[?(@.type=="Ready")].status` and the like.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let text = text.strip_prefix('$').unwrap_or(text);
        steps(text).map(Self)
    }

    /// All that the path leads to.
    pub(crate) fn find<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        follow(&self.0, root)
    }

    /// As a JSON pointer; `None` for paths that are not fields alone.
    pub(crate) fn pointer(&self) -> Option<String> {
        let mut pointer = String::new();
        for step in &self.0 {
            let Step::Field(name) = step else { return None };
            pointer.push('/');
            pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        }
        (!pointer.is_empty()).then_some(pointer)
    }
}

fn steps(text: &str) -> Result<Vec<Step>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if rest.starts_with("..") {
            return Err(format!("recursive descent in {text:?} is not served"));
        }
        if let Some(inner) = rest.strip_prefix('[') {
            let end = closing(inner).ok_or_else(|| format!("unterminated array in {text:?}"))?;
            found.push(bracket(&inner[..end])?);
            rest = &inner[end + 1..];
            continue;
        }
        let (name, after) = field(rest.strip_prefix('.').unwrap_or(rest));
        match name.as_str() {
            "" if after.starts_with('[') || (after.is_empty() && found.is_empty()) => {}
            "" => return Err(format!("a field has no name in {text:?}")),
            "*" => found.push(Step::All),
            _ => found.push(Step::Field(name)),
        }
        rest = after;
    }
    Ok(found)
}

/// A name up to the next `.` or `[`; a backslash takes the next letter as it is.
fn field(text: &str) -> (String, &str) {
    let (mut name, mut letters) = (String::new(), text.char_indices());
    while let Some((at, letter)) = letters.next() {
        match letter {
            '.' | '[' => return (name, &text[at..]),
            '\\' => name.extend(letters.next().map(|(_, letter)| letter)),
            letter => name.push(letter),
        }
    }
    (name, "")
}

/// Where the bracket ends that was opened before the text, outside of quotes.
fn closing(text: &str) -> Option<usize> {
    let (mut quote, mut depth) = (None, 0);
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(letter),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(text: &str) -> Result<Step, String> {
    let text = text.trim();
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(condition) = text.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        return filter(condition);
    }
    if let Some(name) = unquoted(text) {
        return Ok(Step::Field(name.to_owned()));
    }
    text.parse().map(Step::Index).map_err(|_| format!("invalid array index [{text}]"))
}

fn unquoted(text: &str) -> Option<&str> {
    ['\'', '"'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
}

fn filter(text: &str) -> Result<Step, String> {
    let found =
        OPERATORS.iter().filter_map(|(sign, operator)| Some((text.find(sign)?, sign, *operator)));
    // The first of all; of two at one place the longer, which stands first in the table.
    let first = found.min_by_key(|(at, ..)| *at);
    let (left, test) = match first {
        None => (text, None),
        Some((at, sign, operator)) => {
            let right = text[at + sign.len()..].trim();
            let literal = match unquoted(right) {
                Some(text) => Value::from(text),
                None => serde_json::from_str(right)
                    .map_err(|_| format!("{right:?} is no value to compare with"))?,
            };
            (&text[..at], Some((operator, literal)))
        }
    };
    let left = left.trim();
    let path = left.strip_prefix('@').ok_or_else(|| format!("{left:?} must begin with @"))?;
    Ok(Step::Filter(steps(path)?, test))
}

fn follow<'v>(steps: &[Step], root: &'v Value) -> Vec<&'v Value> {
    let mut here = vec![root];
    for step in steps {
        here = here.into_iter().flat_map(|value| next(step, value)).collect();
    }
    here
}

fn next<'v>(step: &Step, value: &'v Value) -> Vec<&'v Value> {
    match (step, value) {
        (Step::Field(name), value) => value.get(name.as_str()).into_iter().collect(),
        (Step::Index(index), Value::Array(items)) => {
            let from_end = i64::try_from(items.len()).unwrap_or_default() + index;
            let at = if *index < 0 { from_end } else { *index };
            usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
        }
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(fields)) => fields.values().collect(),
        (Step::Filter(path, test), Value::Array(items)) => items
            .iter()
            .filter(|item| match test {
                None => !follow(path, item).is_empty(),
                Some((operator, literal)) => {
                    follow(path, item).first().is_some_and(|left| holds(left, *operator, literal))
                }
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn holds(left: &Value, operator: Operator, right: &Value) -> bool {
    let order = match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (left, right) if left == right => Some(std::cmp::Ordering::Equal),
        _ => None,
    };
    match operator {
        Operator::Equal => order.is_some_and(|order| order.is_eq()),
        Operator::Unequal => !order.is_some_and(|order| order.is_eq()),
        Operator::Less => order.is_some_and(|order| order.is_lt()),
        Operator::LessOrEqual => order.is_some_and(|order| order.is_le()),
        Operator::Greater => order.is_some_and(|order| order.is_gt()),
        Operator::GreaterOrEqual => order.is_some_and(|order| order.is_ge()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::JsonPath;

    #[test]
    fn paths_lead_where_kubectl_goes() {
        let object = json!({"spec": {"replicas": 3, "hosts": ["a", "b"]},
            "metadata": {"labels": {"app.kubernetes.io/name": "web"}},
            "status": {"conditions": [
                {"type": "Ready", "status": "False", "n": 1}, {"type": "Synced", "status": "True", "n": 5}]}});
        for (path, found) in [
            (".spec.replicas", json!([3])),
            ("spec.replicas", json!([3])),
            (".spec.hosts[1]", json!(["b"])),
            (".spec.hosts[-1]", json!(["b"])),
            (".spec.hosts[*]", json!(["a", "b"])),
            (".spec['replicas']", json!([3])),
            (".metadata.labels.app\\.kubernetes\\.io/name", json!(["web"])),
            (".metadata.labels['app.kubernetes.io/name']", json!(["web"])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["False"])),
            (".status.conditions[?(@.type=='Synced')].status", json!(["True"])),
            (".status.conditions[?(@.type != \"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.n>=2)].type", json!(["Synced"])),
            (".status.conditions[?(@.missing)].type", json!([])),
            (".nowhere.at.all", json!([])),
        ] {
            let parsed = JsonPath::parse(path).unwrap();
            assert_eq!(json!(parsed.find(&object)), found, "{path}");
        }
        for wrong in ["..name", ".a[", ".a[x]", ".a[?(b==1)]", ".a..b", ".a[?(@.b==c)]"] {
            assert!(JsonPath::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(JsonPath::parse(".spec.size").unwrap().pointer().unwrap(), "/spec/size");
        assert_eq!(JsonPath::parse(".spec[0]").unwrap().pointer(), None);
    }
}
