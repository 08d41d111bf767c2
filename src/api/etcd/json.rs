//! Between JSON and the protocol's messages, by the definitions' description.
//!
//! Why by description and not by generated code: one reader and one writer serve all
//! messages, which keeps the binary small; this side is not the fast one.
//!
//! Invariants: field names are read in both spellings and written as in the definitions;
//! 64-bit numbers are written as text, bytes in base64; what is zero is left out; a field
//! that is not known is passed over.

use bytes::Bytes;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, MethodDescriptor,
    SerializeOptions,
};

use serde_json::Value;

use super::messages::DESCRIPTORS;

const READING: DeserializeOptions = DeserializeOptions::new().deny_unknown_fields(false);

/// One method's messages.
#[derive(Clone, Debug)]
pub(super) struct Shapes(MethodDescriptor);

/// The description of all services.
#[derive(Debug)]
pub(super) struct Described(DescriptorPool);

impl Described {
    pub(super) fn new() -> Self {
        let pool = DescriptorPool::decode(DESCRIPTORS);
        Self(pool.expect("the build wrote the description"))
    }

    pub(super) fn method(&self, service: &str, method: &str) -> Option<Shapes> {
        let service = self.0.get_service_by_name(service)?;
        let found = service.methods().find(|found| found.name() == method);
        found.map(Shapes)
    }
}

impl Shapes {
    pub(super) fn takes_many(&self) -> bool {
        self.0.is_client_streaming()
    }

    pub(super) fn gives_many(&self) -> bool {
        self.0.is_server_streaming()
    }

    #[cfg(test)]
    pub(super) fn input(&self) -> MessageDescriptor {
        self.0.input()
    }

    /// A request from its document.
    pub(super) fn request(&self, document: Value) -> Result<Bytes, String> {
        read(self.0.input(), document)
    }

    /// The document of an answer.
    pub(super) fn answer(&self, message: &[u8]) -> Result<Value, String> {
        let message = DynamicMessage::decode(self.0.output(), message);
        let message = message.map_err(|error| error.to_string())?;
        let writing = SerializeOptions::new().use_proto_field_name(true);
        message
            .serialize_with_options(serde_json::value::Serializer, &writing)
            .map_err(|error| error.to_string())
    }
}

/// Refuses names that an enumeration does not have: passing over fields that are not known,
/// the reader would pass over these too, and take the zero for what was meant.
fn check_names(kind: &MessageDescriptor, document: &Value) -> Result<(), String> {
    let Value::Object(fields) = document else { return Ok(()) };
    for (name, value) in fields {
        let field = kind.get_field_by_json_name(name).or_else(|| kind.get_field_by_name(name));
        let Some(field) = field else { continue };
        let values = match value {
            Value::Array(list) => &list[..],
            one => std::slice::from_ref(one),
        };
        for value in values {
            match (field.kind(), value) {
                (Kind::Enum(names), Value::String(text))
                    if names.get_value_by_name(text).is_none() =>
                {
                    return Err(format!("{name}: {text:?} is no {}", names.name()));
                }
                (Kind::Message(inner), value) => check_names(&inner, value)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn read(kind: MessageDescriptor, document: Value) -> Result<Bytes, String> {
    check_names(&kind, &document)?;
    DynamicMessage::deserialize_with_options(kind, document, &READING)
        .map(|message| message.encode_to_vec().into())
        .map_err(|error| error.to_string())
}

/// Takes whole documents off the front of a growing text.
#[derive(Debug, Default)]
pub(super) struct Documents(Vec<u8>);

impl Documents {
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// Bytes that are no whole document yet.
    pub(super) fn pending(&self) -> usize {
        self.0.len()
    }

    /// The next document, if it has come whole.
    pub(super) fn pop(&mut self) -> Result<Option<Value>, String> {
        let mut found = serde_json::Deserializer::from_slice(&self.0).into_iter();
        match found.next() {
            None => {
                self.0.clear();
                Ok(None)
            }
            Some(Ok(document)) => {
                let end = found.byte_offset();
                self.0.drain(..end);
                Ok(Some(document))
            }
            Some(Err(error)) if error.is_eof() => Ok(None),
            Some(Err(error)) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::etcd::messages::etcdserverpb as pb;
    use crate::api::etcd::paths::PATHS;

    #[test]
    fn every_path_names_a_method_and_every_method_has_a_path() {
        let described = Described::new();
        for (path, service, method) in PATHS {
            assert!(described.method(service, method).is_some(), "{path}: {service}/{method}");
        }
        // gRPC's own health service has no JSON side, as in etcd.
        let etcds = described.0.services().filter(|service| service.name() != "Health");
        for service in etcds {
            for method in service.methods() {
                let named = PATHS
                    .iter()
                    .any(|(_, of, name)| *of == service.full_name() && *name == method.name());
                assert!(named, "{}", method.full_name());
            }
        }
    }

    #[test]
    fn both_spellings_are_read_and_numbers_as_text_or_not() {
        let shapes = Described::new().method("etcdserverpb.KV", "Range").unwrap();
        for text in [
            r#"{"key":"YQ==","range_end":"Yg==","keys_only":true,"revision":"12","sort_order":"DESCEND"}"#,
            r#"{"key":"YQ==","rangeEnd":"Yg==","keysOnly":true,"revision":12,"sortOrder":2,"later":1}"#,
        ] {
            let message = shapes.request(serde_json::from_str(text).unwrap()).unwrap();
            let request = pb::RangeRequest::decode(message).unwrap();
            assert_eq!((&request.key[..], &request.range_end[..]), (&b"a"[..], &b"b"[..]));
            assert_eq!((request.revision, request.sort_order, request.keys_only), (12, 2, true));
        }
    }

    #[test]
    fn a_name_that_an_enumeration_lacks_is_refused_at_any_depth() {
        let read = |method: &str, document: Value| {
            Described::new().method("etcdserverpb.KV", method).unwrap().request(document)
        };
        let sideways = serde_json::json!({ "sortOrder": "SIDEWAYS" });
        assert!(read("Range", sideways.clone()).is_err());
        let nested = serde_json::json!({ "success": [{ "request_range": sideways }] });
        assert!(read("Txn", nested).unwrap_err().contains("SIDEWAYS"));
        assert!(read("Range", serde_json::json!({ "sort_order": "DESCEND" })).is_ok());
    }

    #[test]
    fn an_answer_leaves_out_zeros_and_writes_long_numbers_as_text() {
        let shapes = Described::new().method("etcdserverpb.Lease", "LeaseGrant").unwrap();
        let answer = pb::LeaseGrantResponse {
            header: Some(pb::ResponseHeader { revision: 7, ..pb::ResponseHeader::default() }),
            id: i64::MAX,
            ..pb::LeaseGrantResponse::default()
        };
        assert_eq!(
            shapes.answer(&answer.encode_to_vec()).unwrap().to_string(),
            r#"{"header":{"revision":"7"},"ID":"9223372036854775807"}"#
        );
    }

    #[test]
    fn documents_come_one_by_one_however_they_are_cut() {
        let mut documents = Documents::default();
        let mut seen = Vec::new();
        for piece in r#" {"a":1}{"a":"}"}  {"a":3} "#.as_bytes().chunks(3) {
            documents.push(piece);
            while let Some(document) = documents.pop().unwrap() {
                seen.push(document["a"].to_string());
            }
        }
        assert_eq!(seen, ["1", "\"}\"", "3"]);
        assert_eq!(documents.pending(), 0);
        documents.push(b"nonsense");
        assert!(documents.pop().is_err());
    }
}
