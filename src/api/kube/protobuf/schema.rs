//! The messages of Kubernetes, read once from `schema.txt`.
//!
//! ```text
//! core.v1.Volume                  a message: last two parts of the package, name
//!  1 name s                       field number, JSON name, type
//!  2 - @core.v1.VolumeSource      name -: the fields belong to the outer object
//! ```
//! Types: `s` text, `b` bool, `i` integer, `d` double, `y` bytes, `@` message, `q`
//! quantity, `x` number or text, `t` time, `j` JSON, `l` texts in a message,
//! `a` a schema or a list, `o` a schema or a boolean; before it `*` for a list, `%` for a
//! map from text; after it `?` where a zero is said and not only unset.

use std::collections::HashMap;
use std::sync::OnceLock;

const TEXT: &str = include_str!("schema.txt");
/// Of custom resource definitions, whose schemas need two types of their own.
const DEFINITIONS: &str = include_str!("definitions.txt");

/// What a field's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Bool,
    Integer,
    Double,
    Bytes,
    Quantity,
    NumberOrText,
    Time,
    Json,
    Texts,
    /// A schema or a list, of which the first is told.
    SchemaOrList,
    /// A schema or a boolean.
    SchemaOrBool,
    Message(&'static str),
}

/// How often it may occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    Map,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// `-` for an embedded message.
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) value: Type,
    /// Zero is a value here.
    pub(super) zero_is_said: bool,
}

pub(super) type Message = HashMap<u64, Field>;

fn field(name: &'static str, code: &'static str) -> Option<Field> {
    let (code, zero_is_said) = match code.strip_suffix('?') {
        Some(code) => (code, true),
        None => (code, false),
    };
    let (shape, code) = match code.as_bytes().first()? {
        b'*' => (Shape::List, &code[1..]),
        b'%' => (Shape::Map, &code[1..]),
        _ => (Shape::One, code),
    };
    let value = match code {
        "s" => Type::Text,
        "b" => Type::Bool,
        "i" => Type::Integer,
        "d" => Type::Double,
        "y" => Type::Bytes,
        "q" => Type::Quantity,
        "x" => Type::NumberOrText,
        "t" => Type::Time,
        "j" => Type::Json,
        "l" => Type::Texts,
        "a" => Type::SchemaOrList,
        "o" => Type::SchemaOrBool,
        message => Type::Message(message.strip_prefix('@')?),
    };
    Some(Field { name, shape, value, zero_is_said })
}

fn all() -> &'static HashMap<&'static str, Message> {
    static ALL: OnceLock<HashMap<&'static str, Message>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: HashMap<&'static str, Message> = HashMap::new();
        let mut current = "";
        for line in TEXT.lines().chain(DEFINITIONS.lines()) {
            let Some(rest) = line.strip_prefix(' ') else {
                current = line;
                all.entry(current).or_default();
                continue;
            };
            let mut words = rest.split(' ');
            if let (Some(number), Some(name), Some(code)) =
                (words.next(), words.next(), words.next())
                && let (Ok(number), Some(field)) = (number.parse(), field(name, code))
            {
                all.entry(current).or_default().insert(number, field);
            }
        }
        all
    })
}

/// The fields of a message by number.
pub(super) fn find(name: &str) -> Option<&'static Message> {
    all().get(name)
}

/// `apps/v1` `Deployment` is `apps.v1.Deployment`; options of any group are `meta`'s.
pub(super) fn message_name(api_version: &str, kind: &str) -> String {
    if kind.ends_with("Options") {
        return format!("meta.v1.{kind}");
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let group = group.split('.').next().unwrap_or_default();
    format!("{group}.{version}.{kind}")
}

/// Messages that a field names and nothing describes.
#[cfg(test)]
pub(super) fn dangling() -> Vec<String> {
    let fields = all().values().flat_map(HashMap::values);
    fields
        .filter_map(|field| match field.value {
            Type::Message(name) if find(name).is_none() => Some(name.to_owned()),
            _ => None,
        })
        .collect()
}
