//! Messages to JSON objects.
//!
//! Go's encoder writes unset scalars of value type as zero; JSON leaves them out. So a
//! zero is dropped unless the schema says that it means something.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::ProtobufError;
use super::schema::{self, Field, Message, Shape, Type};
use super::wire::{Fields, Raw};

/// Kubernetes' deepest types nest less than this, and the schemas of real definitions.
const DEPTH_MAX: usize = 64;
/// What the schemas of definitions are made of.
const SCHEMA: &str = "apiextensions.v1.JSONSchemaProps";

pub(super) fn text(bytes: &[u8], field: &str) -> Result<String, ProtobufError> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| ProtobufError::NotUtf8 { field: field.to_owned() })
}

/// The object that a message stands for.
pub(super) fn decode(
    message: &Message,
    bytes: &[u8],
    depth: usize,
) -> Result<Map<String, Value>, ProtobufError> {
    if depth > DEPTH_MAX {
        return Err(ProtobufError::TooDeep);
    }
    let mut object = Map::new();
    for field in Fields::new(bytes) {
        let (number, raw) = field?;
        let Some(field) = message.get(&number) else { continue };
        match field.shape {
            Shape::One => {
                let value = value(field, raw, depth)?;
                if field.name == "-" {
                    if let Value::Object(inner) = value {
                        object.extend(inner);
                    }
                } else if field.zero_is_said || !is_zero(field, &value) {
                    object.insert(field.name.to_owned(), value);
                }
            }
            Shape::List => {
                let list = object.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                let items = items(field, raw, depth)?;
                if let Some(list) = list.as_array_mut() {
                    list.extend(items);
                }
            }
            Shape::Map => {
                let (key, value) = entry(field, raw, depth)?;
                let map = object.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                if let Some(map) = map.as_object_mut() {
                    map.insert(key, value);
                }
            }
        }
    }
    Ok(object)
}

fn is_zero(field: &Field, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(said) => !said,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        // An empty message is said: `emptyDir: {}`.
        Value::Object(_) | Value::Array(_) => !matches!(field.value, Type::Message(_)),
    }
}

fn wrong(field: &Field) -> ProtobufError {
    ProtobufError::FieldType { field: field.name.to_owned() }
}

/// A list's next items: one, or several packed numbers.
fn items(field: &Field, raw: Raw<'_>, depth: usize) -> Result<Vec<Value>, ProtobufError> {
    match (field.value, raw) {
        (Type::Integer, Raw::Bytes(packed)) => {
            // Packed numbers are varints in a row; read each as the value of a field 0.
            let mut framed = Vec::with_capacity(packed.len() * 2);
            let mut at_start = true;
            for byte in packed {
                if at_start {
                    framed.push(8);
                }
                framed.push(*byte);
                at_start = byte & 0x80 == 0;
            }
            Fields::new(&framed).map(|item| value(field, item?.1, depth)).collect()
        }
        (_, raw) => Ok(vec![value(field, raw, depth)?]),
    }
}

fn entry(field: &Field, raw: Raw<'_>, depth: usize) -> Result<(String, Value), ProtobufError> {
    let Raw::Bytes(bytes) = raw else { return Err(wrong(field)) };
    let mut key = String::new();
    let mut content = match field.value {
        Type::Text | Type::Bytes => Value::String(String::new()),
        Type::Message(_) => Value::Object(Map::new()),
        _ => Value::Null,
    };
    for part in Fields::new(bytes) {
        match part? {
            (1, Raw::Bytes(bytes)) => key = text(bytes, field.name)?,
            (2, raw) => content = value(field, raw, depth)?,
            _ => {}
        }
    }
    Ok((key, content))
}

/// One value, whatever the field's shape.
fn value(field: &Field, raw: Raw<'_>, depth: usize) -> Result<Value, ProtobufError> {
    Ok(match (field.value, raw) {
        (Type::Text, Raw::Bytes(bytes)) => text(bytes, field.name)?.into(),
        (Type::Bool, Raw::Number(number)) => (number != 0).into(),
        // Negative numbers travel as two's complement in 64 bits.
        (Type::Integer, Raw::Number(number)) => (number as i64).into(),
        (Type::Double, Raw::Fixed64(bits)) => f64::from_bits(bits).into(),
        (Type::Double, Raw::Fixed32(bits)) => f64::from(f32::from_bits(bits)).into(),
        (Type::Bytes, Raw::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        (Type::Message(name), Raw::Bytes(bytes)) => {
            let message = schema::find(name).ok_or_else(|| wrong(field))?;
            Value::Object(decode(message, bytes, depth + 1)?)
        }
        (Type::Quantity, Raw::Bytes(bytes)) => first_text(bytes, field)?,
        (Type::NumberOrText, Raw::Bytes(bytes)) => number_or_text(bytes, field)?,
        (Type::Time, Raw::Bytes(bytes)) => time(bytes),
        (Type::Json, Raw::Bytes(bytes)) => json(bytes),
        (Type::Texts, Raw::Bytes(bytes)) => texts(bytes, field)?,
        (Type::SchemaOrList, Raw::Bytes(bytes)) => schema_or(bytes, 1, field, depth)?,
        (Type::SchemaOrBool, Raw::Bytes(bytes)) => schema_or(bytes, 2, field, depth)?,
        _ => return Err(wrong(field)),
    })
}

/// A schema that stands in field `place` of a message, or what else there is.
fn schema_or(
    bytes: &[u8],
    place: u64,
    field: &Field,
    depth: usize,
) -> Result<Value, ProtobufError> {
    let message = schema::find(SCHEMA).ok_or_else(|| wrong(field))?;
    let mut others = Vec::new();
    let mut allows = false;
    for part in Fields::new(bytes) {
        match part? {
            (at, Raw::Bytes(bytes)) if at == place => {
                return Ok(Value::Object(decode(message, bytes, depth + 1)?));
            }
            (_, Raw::Number(said)) => allows = said != 0,
            (_, Raw::Bytes(bytes)) => others.push(STANDARD.encode(bytes).into()),
            _ => {}
        }
    }
    // A list is refused later, whatever stands in it.
    Ok(if others.is_empty() && place == 2 { allows.into() } else { Value::Array(others) })
}

/// A message whose only field is a text.
fn first_text(bytes: &[u8], field: &Field) -> Result<Value, ProtobufError> {
    for part in Fields::new(bytes) {
        if let (1, Raw::Bytes(bytes)) = part? {
            return Ok(text(bytes, field.name)?.into());
        }
    }
    Ok(Value::Null)
}

/// A message that stands for a list of texts.
fn texts(bytes: &[u8], field: &Field) -> Result<Value, ProtobufError> {
    let mut list = Vec::new();
    for part in Fields::new(bytes) {
        if let (1, Raw::Bytes(bytes)) = part? {
            list.push(text(bytes, field.name)?.into());
        }
    }
    Ok(Value::Array(list))
}

/// `IntOrString`: which, the number, the text.
fn number_or_text(bytes: &[u8], field: &Field) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut words) = (false, 0, String::new());
    for part in Fields::new(bytes) {
        match part? {
            (1, Raw::Number(kind)) => is_text = kind == 1,
            (2, Raw::Number(value)) => number = value as i64,
            (3, Raw::Bytes(bytes)) => words = text(bytes, field.name)?,
            _ => {}
        }
    }
    Ok(if is_text { words.into() } else { number.into() })
}

/// Seconds and nanoseconds; the zero time of Go is no time.
fn time(bytes: &[u8]) -> Value {
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    for part in Fields::new(bytes).flatten() {
        match part {
            (1, Raw::Number(number)) => seconds = number as i64,
            (2, Raw::Number(number)) => nanos = i32::try_from(number).unwrap_or_default(),
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Value::Null;
    }
    let time = jiff::Timestamp::new(seconds, nanos);
    time.map_or(Value::Null, |time| time.to_string().into())
}

/// Raw JSON inside a message.
fn json(bytes: &[u8]) -> Value {
    let raw = Fields::new(bytes).flatten().find_map(|part| match part {
        (1, Raw::Bytes(raw)) => serde_json::from_slice(raw).ok(),
        _ => None,
    });
    raw.unwrap_or(Value::Null)
}
