//! Reads `types.txt`, once.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::{Definition, Field, ListKind, Scalar, Struct, Type};

const TEXT: &str = include_str!("types.txt");

struct Table {
    all: Vec<Definition>,
    by_name: HashMap<&'static str, usize>,
    by_kind: HashMap<(&'static str, &'static str), usize>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| read(TEXT))
}

/// Every type.
pub fn all() -> &'static [Definition] {
    &table().all
}

/// A type by its full name.
pub fn by_name(name: &str) -> Option<&'static Definition> {
    table().by_name.get(name).map(|place| &all()[*place])
}

/// A reference to a type by its full name.
pub fn named(name: &str) -> Option<Type> {
    table().by_name.get(name).copied().map(Type::Named)
}

/// The type of the objects of a kind.
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Type> {
    let kinds: &HashMap<(&str, &str), usize> = &table().by_kind;
    kinds.get(&(api_version, kind)).map(|place| &all()[*place].shape)
}

fn read(text: &'static str) -> Table {
    let heads = text.lines().filter(|line| !line.starts_with(' '));
    let by_name: HashMap<&str, usize> = heads
        .enumerate()
        .filter_map(|(place, line)| Some((line.split(' ').next()?, place)))
        .collect();
    let mut table = Table { all: Vec::new(), by_name, by_kind: HashMap::new() };
    for line in text.lines() {
        match line.strip_prefix(' ') {
            None => {
                let definition = head(line);
                if let Some(kind) = definition.kind {
                    table.by_kind.insert(kind, table.all.len());
                }
                table.all.push(definition);
            }
            Some(line) => {
                let (name, field) = field(line, &table.by_name);
                if let Some(Type::Struct(own)) = table.all.last_mut().map(|last| &mut last.shape) {
                    own.fields.insert(name, field);
                }
            }
        }
    }
    table
}

fn head(line: &'static str) -> Definition {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let mut definition = Definition { name, kind: None, shape: Type::Struct(Struct::default()) };
    for word in words {
        if let Some(kind) = word.strip_prefix("kind=") {
            definition.kind = kind.rsplit_once('/');
        } else if let Some(code) = word.strip_prefix('=') {
            definition.shape = shape(code, &HashMap::new());
        } else if let Type::Struct(fields) = &mut definition.shape {
            fields.atomic = word == "atomic";
        }
    }
    definition
}

fn field(line: &'static str, names: &HashMap<&'static str, usize>) -> (&'static str, Field) {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let code = words.next().unwrap_or_default();
    let mut field = Field {
        shape: shape(code, names),
        required: name.ends_with('!'),
        merge_key: None,
        retain_keys: false,
        replace: false,
        default: None,
    };
    for word in words {
        match word.split_once('=') {
            Some(("merge", key)) => field.merge_key = Some(key),
            Some(("default", value)) => field.default = Some(value),
            _ => match word {
                "merge" => field.merge_key = Some(""),
                "retainKeys" => field.retain_keys = true,
                "replace" => field.replace = true,
                other => unreachable!("types.txt has no word {other}"),
            },
        }
    }
    (name.trim_end_matches('!'), field)
}

fn shape(code: &'static str, names: &HashMap<&'static str, usize>) -> Type {
    if let Some(rest) = code.strip_prefix('[') {
        let (keys, element) = rest.split_once(']').expect("a list's keys are closed");
        let kind = match keys {
            "" => ListKind::Atomic,
            "set" => ListKind::Set,
            keys => ListKind::Map(keys.split(',').collect()),
        };
        return Type::List { element: Box::new(shape(element, names)), kind };
    }
    if let Some(rest) = code.strip_prefix('{') {
        let (word, element) = rest.split_once('}').expect("a map's mark is closed");
        return Type::Map { element: Box::new(shape(element, names)), atomic: word == "atomic" };
    }
    if let Some(name) = code.strip_prefix('@') {
        return Type::Named(*names.get(name).expect("every named type is described"));
    }
    let (name, format) = code.split_once('/').unwrap_or((code, ""));
    let scalar = match name {
        "string" => Scalar::Text,
        "integer" => Scalar::Integer,
        "number" => Scalar::Number,
        "boolean" => Scalar::Bool,
        "quantity" => Scalar::Quantity,
        "int-or-string" => Scalar::IntOrString,
        _ => return Type::Any,
    };
    Type::Scalar(scalar, format)
}
