//! The JSON side under what nobody means to send: never a panic, always one clear answer;
//! and whatever is sent rightly arrives as it was meant, in either spelling.

use std::sync::OnceLock;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http_body_util::BodyExt;
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::{Map, Value, json};

use super::Member;
use crate::api::etcd::json::{Described, Documents};
use crate::api::etcd::messages::etcdserverpb as pb;
use crate::api::etcd::paths::PATHS;

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    })
}

/// Paths whose answer is one document. A lock or a campaign of an empty name is granted and
/// waits for nobody.
fn single() -> Vec<&'static str> {
    let described = Described::new();
    let one = |service: &str, method: &str| {
        let shapes = described.method(service, method).unwrap();
        !shapes.takes_many() && !shapes.gives_many()
    };
    PATHS
        .iter()
        .filter(|(_, service, method)| one(service, method))
        .map(|(path, ..)| *path)
        .collect()
}

/// Asks, and checks the form of the answer: a document, or an error told twice with its code.
fn asked(path: &str, body: Vec<u8>) -> (StatusCode, Value) {
    let (status, bytes) = runtime().block_on(async {
        let answer = Member::new().open(path, Body::from(body)).await;
        (answer.status(), answer.into_body().collect().await.unwrap().to_bytes())
    });
    let told: Value = serde_json::from_slice(&bytes).unwrap();
    if status != StatusCode::OK {
        assert!(told["error"].is_string() && told["error"] == told["message"], "{told}");
        assert!(told["code"].as_i64().is_some_and(|code| code > 0), "{told}");
        assert!(told["message"].as_str().is_some_and(|text| !text.is_empty()), "{told}");
    }
    (status, told)
}

/// Names that the definitions have, so that values land where types do not fit.
fn name() -> impl Strategy<Value = String> {
    const KNOWN: &str = "key range_end rangeEnd limit revision sort_order sortOrder value lease \
        prev_kv compare success failure target result version ID TTL keys name options perm \
        permType action alarm memberID request_put requestRange request_txn peerURLs leader physical";
    let known: Vec<&str> = KNOWN.split_whitespace().collect();
    prop_oneof![4 => prop::sample::select(known).prop_map(str::to_owned), 1 => ".{0,8}"]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
        any::<i128>().prop_map(|number| Value::from(number.to_string())),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| STANDARD.encode(bytes).into()),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "ASCEND",
            "VALUE",
            "CREATE",
            "READWRITE",
            "NOSPACE",
            "-1",
            "1e3"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn bytes() -> impl Strategy<Value = bytes::Bytes> {
    prop::collection::vec(any::<u8>(), 0..24).prop_map(bytes::Bytes::from)
}

fn range() -> impl Strategy<Value = pb::RangeRequest> {
    (bytes(), bytes(), any::<[i64; 4]>(), 0..3i32, 0..5i32, any::<[bool; 3]>()).prop_map(
        |(key, range_end, numbers, order, target, flags)| pb::RangeRequest {
            key,
            range_end,
            limit: numbers[0],
            revision: numbers[1],
            sort_order: order,
            sort_target: target,
            serializable: flags[0],
            keys_only: flags[1],
            count_only: flags[2],
            min_mod_revision: numbers[2],
            max_create_revision: numbers[3],
            ..pb::RangeRequest::default()
        },
    )
}

fn compare() -> impl Strategy<Value = pb::Compare> {
    use pb::compare::TargetUnion;
    let target = prop_oneof![
        any::<i64>().prop_map(TargetUnion::Version),
        any::<i64>().prop_map(TargetUnion::ModRevision),
        bytes().prop_map(TargetUnion::Value),
        any::<i64>().prop_map(TargetUnion::Lease),
    ];
    (bytes(), 0..4i32, 0..5i32, prop::option::of(target)).prop_map(
        |(key, result, kind, target_union)| pb::Compare {
            key,
            result,
            target: kind,
            target_union,
            ..pb::Compare::default()
        },
    )
}

fn txn() -> impl Strategy<Value = pb::TxnRequest> {
    let empty = Just(pb::TxnRequest::default()).boxed();
    let deeper = |inner: BoxedStrategy<pb::TxnRequest>| {
        use pb::request_op::Request;
        let put = (bytes(), bytes(), any::<i64>()).prop_map(|(key, value, lease)| {
            Request::RequestPut(pb::PutRequest { key, value, lease, ..pb::PutRequest::default() })
        });
        let op = prop_oneof![
            range().prop_map(Request::RequestRange),
            put,
            inner.prop_map(Request::RequestTxn),
        ];
        let op = prop::option::of(op).prop_map(|request| pb::RequestOp { request });
        let ops = || prop::collection::vec(op.clone(), 0..3);
        (prop::collection::vec(compare(), 0..3), ops(), ops())
            .prop_map(|(compare, success, failure)| pb::TxnRequest { compare, success, failure })
            .boxed()
    };
    deeper(deeper(empty))
}

/// The document of a message, in one of the two spellings.
fn written(method: &str, message: &[u8], proto_names: bool) -> Value {
    let described = Described::new();
    let shapes = described.method("etcdserverpb.KV", method).unwrap();
    let message = DynamicMessage::decode(shapes.input(), message).unwrap();
    let options = SerializeOptions::new().use_proto_field_name(proto_names);
    message.serialize_with_options(serde_json::value::Serializer, &options).unwrap()
}

fn read_back(method: &str, document: Value) -> bytes::Bytes {
    Described::new().method("etcdserverpb.KV", method).unwrap().request(document).unwrap()
}

/// 64-bit numbers stand as text in the document, as etcd's gateway writes them.
fn has_long_number(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_i64().is_none_or(|number| number.abs() > 16),
        Value::Array(list) => list.iter().any(has_long_number),
        Value::Object(fields) => fields.values().any(has_long_number),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_get_one_answer(
        at in any::<prop::sample::Index>(),
        body in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), ".{0,200}".prop_map(String::into_bytes)],
    ) {
        let paths = single();
        asked(paths[at.index(paths.len())], body);
    }

    #[test]
    fn any_document_gets_one_answer(at in any::<prop::sample::Index>(), body in value()) {
        let paths = single();
        let (status, told) = asked(paths[at.index(paths.len())], body.to_string().into_bytes());
        prop_assert!(status.as_u16() < 500 || told["code"] == 2 || told["code"] == 12, "{status} {told}");
    }

    #[test]
    fn a_cut_document_is_refused(request in txn(), cut in any::<prop::sample::Index>()) {
        let whole = written("Txn", &request.encode_to_vec(), true).to_string();
        let (status, told) = asked("kv/txn", whole.as_bytes()[..cut.index(whole.len())].to_vec());
        // Nothing at all is the empty request, which etcd answers.
        prop_assert!(status == StatusCode::BAD_REQUEST || cut.index(whole.len()) == 0, "{told}");
    }

    #[test]
    fn ranges_arrive_as_meant_in_both_spellings(request in range()) {
        for proto_names in [true, false] {
            let document = written("Range", &request.encode_to_vec(), proto_names);
            prop_assert!(!has_long_number(&document), "{document}");
            let read = pb::RangeRequest::decode(read_back("Range", document)).unwrap();
            prop_assert_eq!(&read, &request);
        }
    }

    #[test]
    fn transactions_arrive_as_meant_in_both_spellings(request in txn()) {
        for proto_names in [true, false] {
            let document = written("Txn", &request.encode_to_vec(), proto_names);
            let read = pb::TxnRequest::decode(read_back("Txn", document)).unwrap();
            prop_assert_eq!(&read, &request);
        }
    }

    #[test]
    fn a_stream_of_documents_may_be_cut_anywhere(
        documents in prop::collection::vec(prop::collection::vec((name(), value()), 0..3), 0..5),
        size in 1usize..40,
    ) {
        let object = |fields: &Vec<(String, Value)>| Value::Object(fields.iter().cloned().collect());
        let documents: Vec<Value> = documents.iter().map(object).collect();
        let text: String = documents.iter().map(|document| document.to_string() + "\n").collect();
        let mut reader = Documents::default();
        let mut read = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            reader.push(piece);
            while let Some(document) = reader.pop().unwrap() {
                read.push(document);
            }
        }
        prop_assert_eq!(reader.pending(), 0);
        prop_assert_eq!(read, documents);
    }

    #[test]
    fn a_stream_of_anything_ends(body in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut reader = Documents::default();
        reader.push(&body);
        let mut left = reader.pending();
        while let Ok(Some(_)) = reader.pop() {
            prop_assert!(reader.pending() < left);
            left = reader.pending();
        }
    }
}

#[test]
fn numbers_come_as_text_or_not_and_too_large_ones_are_refused() {
    for (limit, status) in [
        (json!("5"), StatusCode::OK),
        (json!(5), StatusCode::OK),
        (json!("99999999999999999999"), StatusCode::BAD_REQUEST),
        (json!(99_999_999_999_999_999_999_f64), StatusCode::BAD_REQUEST),
        (json!("five"), StatusCode::BAD_REQUEST),
        (json!(true), StatusCode::BAD_REQUEST),
    ] {
        let body = json!({ "key": "YQ==", "limit": limit }).to_string();
        assert_eq!(asked("kv/range", body.into_bytes()).0, status, "{limit}");
    }
}

#[test]
fn documents_nested_beyond_reason_are_refused() {
    let deep = "{\"success\":[{\"request_txn\":".repeat(5_000) + "{}" + &"}]}".repeat(5_000);
    let (status, told) = asked("kv/txn", deep.into_bytes());
    assert_eq!((status, &told["code"]), (StatusCode::BAD_REQUEST, &json!(3)));
}
