//! A structural schema, made ready for use.
//!
//! Why compiled: every request walks it several times (pruning, defaults, validation), and
//! a pattern must not be compiled for each.
//! Not here: whether a schema is structural, which the definition's validation judges
//! (`validate/definition`); what cannot be read is an error here all the same.

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::Value;

/// JSON types of OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonType {
    Object,
    Array,
    Text,
    Integer,
    Number,
    Bool,
}

impl JsonType {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "object" => JsonType::Object,
            "array" => JsonType::Array,
            "string" => JsonType::Text,
            "integer" => JsonType::Integer,
            "number" => JsonType::Number,
            "boolean" => JsonType::Bool,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            JsonType::Object => "object",
            JsonType::Array => "array",
            JsonType::Text => "string",
            JsonType::Integer => "integer",
            JsonType::Number => "number",
            JsonType::Bool => "boolean",
        }
    }
}

/// How the elements of a list are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Listing {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// Bounds on a value; absent ones hold nothing back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) allowed: Vec<Value>,
    pub(crate) pattern: Option<(String, Regex)>,
    pub(crate) format: String,
    pub(crate) minimum: Option<f64>,
    pub(crate) maximum: Option<f64>,
    pub(crate) above: bool,
    pub(crate) below: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) min_properties: Option<u64>,
    pub(crate) max_properties: Option<u64>,
}

/// One place of a schema and what is below it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) kind: Option<JsonType>,
    pub(crate) nullable: bool,
    /// `x-kubernetes-int-or-string`.
    pub(crate) int_or_string: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub(crate) preserve: bool,
    /// `x-kubernetes-embedded-resource`.
    pub(crate) embedded: bool,
    pub(crate) properties: BTreeMap<String, Node>,
    pub(crate) additional: Option<Box<Node>>,
    pub(crate) items: Option<Box<Node>>,
    pub(crate) required: Vec<String>,
    pub(crate) default: Option<Value>,
    pub(crate) listing: Listing,
    pub(crate) atomic_map: bool,
    pub(crate) bounds: Bounds,
    pub(crate) all_of: Vec<Node>,
    pub(crate) any_of: Vec<Node>,
    pub(crate) one_of: Vec<Node>,
    pub(crate) not: Option<Box<Node>>,
}

fn flag(schema: &Value, name: &str) -> bool {
    schema[name].as_bool().unwrap_or_default()
}

fn texts(schema: &Value, name: &str) -> Vec<String> {
    let items = schema[name].as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn nodes(schema: &Value, name: &str) -> Result<Vec<Node>, String> {
    schema[name].as_array().into_iter().flatten().map(Node::compile).collect()
}

fn one(schema: &Value) -> Result<Option<Box<Node>>, String> {
    schema.is_object().then(|| Node::compile(schema).map(Box::new)).transpose()
}

impl Node {
    /// Reads a schema as it stands in a definition.
    pub(crate) fn compile(schema: &Value) -> Result<Self, String> {
        let mut node = Node {
            kind: schema["type"].as_str().and_then(JsonType::parse),
            nullable: flag(schema, "nullable"),
            int_or_string: flag(schema, "x-kubernetes-int-or-string"),
            preserve: flag(schema, "x-kubernetes-preserve-unknown-fields"),
            embedded: flag(schema, "x-kubernetes-embedded-resource"),
            required: texts(schema, "required"),
            default: schema.get("default").cloned(),
            atomic_map: schema["x-kubernetes-map-type"] == "atomic",
            bounds: bounds(schema)?,
            items: one(&schema["items"])?,
            all_of: nodes(schema, "allOf")?,
            any_of: nodes(schema, "anyOf")?,
            one_of: nodes(schema, "oneOf")?,
            not: one(&schema["not"])?,
            ..Node::default()
        };
        node.additional = match &schema["additionalProperties"] {
            Value::Bool(true) => Some(Box::new(Node { preserve: true, ..Node::default() })),
            other => one(other)?,
        };
        node.listing = match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => Listing::Set,
            Some("map") => Listing::Map(texts(schema, "x-kubernetes-list-map-keys")),
            _ => Listing::Atomic,
        };
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            let inner = Node::compile(inner).map_err(|why| format!("{name}: {why}"))?;
            node.properties.insert(name.clone(), inner);
        }
        Ok(node)
    }

    /// The place of a field below this one.
    pub(crate) fn field(&self, name: &str) -> Option<&Node> {
        self.properties.get(name).or(self.additional.as_deref())
    }
}

/// Compiles a pattern. Kubernetes' expressions are RE2's, whose classes are ASCII's, as are
/// those of this engine; it has no `\p{…}`.
pub(crate) fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string())
}

fn bounds(schema: &Value) -> Result<Bounds, String> {
    let number = |name: &str| schema[name].as_f64();
    let count = |name: &str| schema[name].as_u64();
    let pattern = match schema["pattern"].as_str() {
        Some(text) if !text.is_empty() => Some((text.to_owned(), pattern(text)?)),
        _ => None,
    };
    Ok(Bounds {
        allowed: schema["enum"].as_array().cloned().unwrap_or_default(),
        pattern,
        format: schema["format"].as_str().unwrap_or_default().to_owned(),
        minimum: number("minimum"),
        maximum: number("maximum"),
        above: flag(schema, "exclusiveMinimum"),
        below: flag(schema, "exclusiveMaximum"),
        multiple_of: number("multipleOf"),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
    })
}
