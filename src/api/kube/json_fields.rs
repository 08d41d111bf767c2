//! JSON read so that a field that stands twice is noticed.
//!
//! The last one counts, as for Kubernetes; strict field validation refuses it. Invariant:
//! the value is the same that serde_json alone would read.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The value, and the paths of what stands twice in it, as Kubernetes writes them.
pub(super) fn read(bytes: &[u8]) -> Result<(Value, Vec<String>), serde_json::Error> {
    let mut doubled = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let place = Place { path: String::new(), doubled: &mut doubled };
    let value = place.deserialize(&mut json)?;
    json.end()?;
    Ok((value, doubled))
}

struct Place<'d> {
    path: String,
    doubled: &'d mut Vec<String>,
}

impl Place<'_> {
    fn field(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, items.len());
            match list.next_element_seed(Place { path, doubled: &mut *self.doubled })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let path = self.field(&name);
            if fields.contains_key(&name) {
                self.doubled.push(path.clone());
            }
            let value = map.next_value_seed(Place { path, doubled: &mut *self.doubled })?;
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::read;

    #[test]
    fn what_stands_twice_is_named_and_the_last_counts() {
        let text = br#"{"a": 1, "b": {"c": 1, "c": 2}, "d": [{"e": 1}, {"e": 1, "e": 3}], "a": 4}"#;
        let (value, doubled) = read(text).unwrap();
        assert_eq!(value, serde_json::json!({"a": 4, "b": {"c": 2}, "d": [{"e": 1}, {"e": 3}]}));
        assert_eq!(doubled, ["b.c", "d[1].e", "a"]);
    }

    proptest! {
        #[test]
        fn all_else_is_as_serde_json_reads_it(text in "[\\[\\]{}:,\"a1.e\\-\\\\ntu ]{0,24}") {
            let plain = serde_json::from_str::<Value>(&text);
            match (plain, read(text.as_bytes())) {
                (Ok(plain), Ok((value, _))) => prop_assert_eq!(value, plain),
                (Err(_), Err(_)) => {}
                (plain, own) => prop_assert!(false, "{plain:?} {own:?}"),
            }
        }
    }
}
