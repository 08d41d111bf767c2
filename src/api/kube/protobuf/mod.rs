//! Kubernetes' protobuf bodies, decoded to the JSON they stand for.
//!
//! kubectl and everything else made with client-go sends them for the kinds it knows
//! (`kubectl create deployment`, `kubectl run`), so an API without them is not one for
//! unmodified clients. Answers are always JSON, which those clients accept.
//!
//! ```text
//! "k8s\0" Unknown { 1: TypeMeta { 1: apiVersion, 2: kind }, 2: the object's message }
//! ```
//! The messages are described by `schema.txt` (written by `generate.py`) and, with types of
//! their own, `definitions.txt`, so a new kind needs no code here. Invariant: unknown field numbers are skipped, broken bytes refused.

mod message;
mod schema;
mod wire;

use serde_json::Value;

use crate::model::status::Status;

/// How clients name the encoding.
pub(super) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";

/// Why bytes are not the message they should be.
#[derive(Debug, thiserror::Error)]
enum ProtobufError {
    #[error("the body does not begin with the mark of Kubernetes' protobuf")]
    NoMagic,
    #[error("the message ends inside a field")]
    Truncated,
    #[error("a field has wire type {wire_type}, which is not used")]
    WireType { wire_type: u8 },
    #[error("field {field} is not of the type that its number says")]
    FieldType { field: String },
    #[error("text in field {field} is not UTF-8")]
    NotUtf8 { field: String },
    #[error("messages are nested too deeply")]
    TooDeep,
    #[error("no message is known for {api_version} {kind}")]
    UnknownKind { api_version: String, kind: String },
}

/// The object in a body, with its apiVersion and kind.
pub(super) fn decode(body: &[u8]) -> Result<Value, Status> {
    decode_body(body)
        .map_err(|error| Status::bad_request(format!("the protobuf body cannot be read: {error}")))
}

fn decode_body(body: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = body.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in wire::Fields::new(envelope) {
        match field? {
            (1, wire::Raw::Bytes(meta)) => {
                for field in wire::Fields::new(meta) {
                    match field? {
                        (1, wire::Raw::Bytes(text)) => {
                            api_version = message::text(text, "apiVersion")?
                        }
                        (2, wire::Raw::Bytes(text)) => kind = message::text(text, "kind")?,
                        _ => {}
                    }
                }
            }
            (2, wire::Raw::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let name = schema::message_name(&api_version, &kind);
    let Some(shape) = schema::find(&name) else {
        return Err(ProtobufError::UnknownKind { api_version, kind });
    };
    let mut object = message::decode(shape, raw, 0)?;
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    Ok(Value::Object(object))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::decode;

    /// What kubectl 1.32 sends for `create configmap c --from-literal=a=b`.
    const CONFIG_MAP: &[u8] = b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12\x1b\n\x11\n\x01c\x12\0\x1a\0\"\0*\x002\08\0B\0\x12\x06\n\x01a\x12\x01b\x1a\0\"\0";

    #[test]
    fn a_recorded_body_decodes() {
        let expected = json!({
            "metadata": {"name": "c"}, "data": {"a": "b"}, "apiVersion": "v1", "kind": "ConfigMap",
        });
        assert_eq!(decode(CONFIG_MAP).unwrap(), expected);
    }

    #[test]
    fn no_cut_or_flipped_body_panics() {
        for end in 0..CONFIG_MAP.len() {
            let _ = decode(&CONFIG_MAP[..end]);
            for bit in 0..8 {
                let mut flipped = CONFIG_MAP.to_vec();
                flipped[end] ^= 1 << bit;
                let _ = decode(&flipped);
            }
        }
        assert!(decode(b"{}").is_err());
    }

    /// A field of a message whose content is bytes.
    fn bytes(number: u32, content: &[u8]) -> Vec<u8> {
        let tag = number << 3 | 2;
        let mut field = Vec::new();
        for mut rest in [tag, u32::try_from(content.len()).unwrap()] {
            while rest >= 0x80 {
                field.push((rest & 0x7f) as u8 | 0x80);
                rest >>= 7;
            }
            field.push(rest as u8);
        }
        [field, content.to_vec()].concat()
    }

    #[test]
    fn schemas_of_definitions_are_read_with_their_two_types() {
        let text = bytes(5, b"string");
        let list = [bytes(5, b"array"), bytes(24, &bytes(1, &text)), vec![0x88, 1, 0]].concat();
        // A default that is empty is a default.
        let open = [bytes(5, b"object"), bytes(8, &bytes(1, b"{}")), bytes(30, &[8, 1])].concat();
        let closed = [bytes(5, b"object"), bytes(30, &[8, 0])].concat();
        let typed =
            [bytes(5, b"object"), bytes(30, &[vec![8, 1], bytes(2, &text)].concat())].concat();
        let property = |name: &str, schema: &[u8]| {
            bytes(29, &[bytes(1, name.as_bytes()), bytes(2, schema)].concat())
        };
        let root = [
            property("list", &list),
            property("open", &open),
            property("closed", &closed),
            property("typed", &typed),
        ]
        .concat();
        let version = [bytes(1, b"v1"), vec![16, 0, 24, 1], bytes(4, &bytes(1, &root))].concat();
        let object = bytes(2, &bytes(7, &version));
        let meta =
            [bytes(1, b"apiextensions.k8s.io/v1"), bytes(2, b"CustomResourceDefinition")].concat();
        let body = [b"k8s\0".to_vec(), bytes(1, &meta), bytes(2, &object)].concat();
        let read = decode(&body).unwrap();
        assert_eq!(
            read["spec"]["versions"],
            serde_json::json!([{"name": "v1", "served": false, "storage": true, "schema":
            {"openAPIV3Schema": {"properties": {
                "list": {"type": "array", "items": {"type": "string"}, "minItems": 0},
                "open": {"type": "object", "default": {}, "additionalProperties": true},
                "closed": {"type": "object", "additionalProperties": false},
                "typed": {"type": "object", "additionalProperties": {"type": "string"}},
            }}}}])
        );
    }

    #[test]
    fn every_named_message_is_described() {
        assert_eq!(super::schema::dangling(), Vec::<String>::new());
    }

    #[test]
    fn every_served_kind_is_described() {
        // Bodies are read of what may be written only.
        let written = |kind: &&crate::model::kinds::Kind| kind.verbs.contains(&"create");
        for kind in crate::model::kinds::KINDS.iter().filter(written) {
            let name = super::schema::message_name(&kind.api_version(), kind.kind);
            assert!(super::schema::find(&name).is_some(), "{name}");
        }
    }
}
