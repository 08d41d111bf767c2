//! YAML as a tree that remembers the line of every key and value.
//!
//! Why not straight into structs: serde stops at the first unknown key or wrong type,
//! and a person who edits a file by hand wants everything that is wrong at once, each
//! with its line. Readers walk this tree and collect.
//! Invariant: lines count from 1; a document that parses has no duplicate keys.
//! Not here: what the keys mean (`cluster_check`, `playbook/parse`).

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

/// One value and the line it stands on.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    pub line: u64,
    pub tree: Tree,
}

/// The value itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Located>),
    /// In the order of the file.
    Map(Vec<(Key, Located)>),
}

/// A mapping's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub line: u64,
}

/// The text is not YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct YamlError {
    /// 0 when the place is not known.
    pub line: u64,
    pub message: String,
}

impl Located {
    /// Reads one YAML document.
    pub fn parse(text: &str) -> Result<Self, YamlError> {
        let spanned: Spanned<Tree> = serde_saphyr::from_str(text).map_err(|error| {
            let line = error.location().map_or(0, |place| place.line());
            let whole = error.without_snippet().to_string();
            YamlError { line, message: whole.lines().next().unwrap_or("not YAML").to_owned() }
        })?;
        Ok(Self::from(spanned))
    }

    /// The entry of a mapping.
    pub fn get(&self, key: &str) -> Option<&Located> {
        match &self.tree {
            Tree::Map(entries) => {
                entries.iter().find(|(name, _)| name.name == key).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The same value without lines.
    pub fn to_json(&self) -> Value {
        match &self.tree {
            Tree::Null => Value::Null,
            Tree::Bool(value) => Value::from(*value),
            Tree::Int(value) => Value::from(*value),
            Tree::Float(value) => Value::from(*value),
            Tree::Text(value) => Value::from(value.as_str()),
            Tree::List(items) => Value::Array(items.iter().map(Located::to_json).collect()),
            Tree::Map(entries) => Value::Object(
                entries.iter().map(|(key, value)| (key.name.clone(), value.to_json())).collect(),
            ),
        }
    }

    /// A scalar as it would be written; `None` for lists and mappings.
    pub fn scalar(&self) -> Option<String> {
        match &self.tree {
            Tree::Bool(value) => Some(value.to_string()),
            Tree::Int(value) => Some(value.to_string()),
            Tree::Float(value) => Some(value.to_string()),
            Tree::Text(value) => Some(value.clone()),
            Tree::Null | Tree::List(_) | Tree::Map(_) => None,
        }
    }
}

impl From<Spanned<Tree>> for Located {
    fn from(spanned: Spanned<Tree>) -> Self {
        Self { line: spanned.referenced.line(), tree: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(i64::try_from(value).map_or_else(|_| Tree::Text(value.to_string()), Tree::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Tree>>()? {
            items.push(Located::from(item));
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let value = map.next_value::<Spanned<Tree>>()?;
            let key = Key { line: key.referenced.line(), name: key.value };
            entries.push((key, Located::from(value)));
        }
        Ok(Tree::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::{Located, Tree};

    #[test]
    fn keys_and_values_carry_their_lines() {
        let tree = Located::parse("a: 1\nb:\n  - x\n  - {c: true}\n").expect("parses");
        let Tree::Map(entries) = &tree.tree else { panic!("not a map: {tree:?}") };
        assert_eq!((entries[0].0.line, entries[0].1.line), (1, 1));
        assert_eq!(entries[1].0.line, 2);
        let Tree::List(items) = &entries[1].1.tree else { panic!("not a list") };
        assert_eq!((items[0].line, items[1].line), (3, 4));
        assert_eq!(items[1].to_json(), serde_json::json!({"c": true}));
    }

    #[test]
    fn duplicate_keys_and_broken_text_name_their_line() {
        let error = Located::parse("a: 1\na: 2\n").expect_err("duplicate key");
        assert_eq!(error.line, 2, "{error}");
        let error = Located::parse("a: [1\nb: }").expect_err("broken");
        assert!(error.line >= 1, "{error}");
    }
}
