//! The JSON side: `POST /v3/kv/range` and the like, by way of the gRPC services.
//!
//! ```text
//!  JSON ─► message ─► gRPC request ─► service ─► gRPC answer ─► messages ─► JSON
//! ```
//! A method that gives many answers gives one line each, `{"result":{…}}`; one that takes
//! many takes JSON documents one after the other.
//!
//! Not here: the mapping of messages (`json`), the table of paths (`paths`), taking
//! gRPC's answers apart (`gateway_answer`).

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http::header::{AUTHORIZATION, CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, Method};
use http_body_util::BodyExt;
use tonic::Status;
use tower::ServiceExt;

use super::backend::MESSAGE_MAX_BYTES;
use super::gateway_answer::{GrpcAnswer, json_line, refusal, stream_refusal};
use super::json::{Described, Documents, Shapes};
use super::paths::PATHS;

/// Largest document, bytes: bytes fields are a third longer in base64.
const DOCUMENT_MAX_BYTES: usize = 2 * MESSAGE_MAX_BYTES;
/// Headers with this prefix become gRPC metadata.
const METADATA_PREFIX: &str = "grpc-metadata-";

/// The JSON paths over these gRPC routes.
pub(super) fn router(grpc: Router) -> Router {
    let described = Described::new();
    PATHS.iter().fold(Router::new(), |router, (path, service, method)| {
        let shapes = described.method(service, method).expect("a test compares the table");
        let call =
            Arc::new(Call { shapes, path: format!("/{service}/{method}"), grpc: grpc.clone() });
        router.route(&format!("/v3/{path}"), post(move |request: Request| call.run(request)))
    })
}

struct Call {
    shapes: Shapes,
    path: String,
    grpc: Router,
}

/// A message as gRPC frames it: uncompressed, length, bytes.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("documents are bounded"));
    frame.put_slice(message);
    frame.freeze()
}

fn metadata(given: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    metadata.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
    metadata.insert(TE, http::HeaderValue::from_static("trailers"));
    for (name, value) in given {
        let own = name.as_str().strip_prefix(METADATA_PREFIX);
        if let Some(Ok(name)) = own.map(str::parse::<HeaderName>) {
            metadata.insert(name, value.clone());
        }
    }
    if let Some(token) = given.get(AUTHORIZATION) {
        metadata.insert(AUTHORIZATION, token.clone());
    }
    metadata
}

impl Call {
    async fn run(self: Arc<Self>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = if self.shapes.takes_many() {
            Body::from_stream(self.clone().requests(body))
        } else {
            match self.one_request(body).await {
                Ok(frame) => Body::from(frame),
                Err(error) => return refusal(&error).into_response(),
            }
        };
        let mut inner = Request::new(body);
        *inner.method_mut() = Method::POST;
        *inner.uri_mut() = self.path.parse().expect("the table's names are plain");
        *inner.headers_mut() = metadata(&parts.headers);
        // Who is calling was put there by the listener.
        *inner.extensions_mut() = parts.extensions;
        let answer = match self.grpc.clone().oneshot(inner).await {
            Ok(answer) => GrpcAnswer::new(answer),
            Err(never) => match never {},
        };
        if self.shapes.gives_many() {
            self.many_answers(answer).await
        } else {
            self.one_answer(answer).await
        }
    }

    async fn one_request(&self, body: Body) -> Result<Bytes, Status> {
        let limited = http_body_util::Limited::new(body, DOCUMENT_MAX_BYTES);
        let text = limited.collect().await;
        let text = text.map_err(|error| Status::invalid_argument(error.to_string()))?.to_bytes();
        let document = if text.trim_ascii().is_empty() {
            serde_json::Value::Object(serde_json::Map::new())
        } else {
            let read = serde_json::from_slice(&text);
            read.map_err(|error| Status::invalid_argument(error.to_string()))?
        };
        let message = self.shapes.request(document).map_err(Status::invalid_argument)?;
        Ok(framed(&message))
    }

    /// The documents of a body as frames, as they come.
    fn requests(self: Arc<Self>, body: Body) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
        let start = (self, body.into_data_stream(), Documents::default());
        futures::stream::try_unfold(start, |(call, mut body, mut documents)| async move {
            loop {
                let found = documents.pop().map_err(std::io::Error::other)?;
                if let Some(document) = found {
                    let message = call.shapes.request(document).map_err(std::io::Error::other)?;
                    return Ok(Some((framed(&message), (call, body, documents))));
                }
                match body.next().await {
                    Some(piece) => documents.push(&piece.map_err(std::io::Error::other)?),
                    None if documents.pending() == 0 => return Ok(None),
                    None => return Err(std::io::Error::other("the last document is not whole")),
                }
                if documents.pending() > DOCUMENT_MAX_BYTES {
                    return Err(std::io::Error::other("the document is too large"));
                }
            }
        })
    }

    async fn one_answer(&self, mut answer: GrpcAnswer) -> Response {
        let document = async {
            let first = answer.next().await?;
            let message = first.ok_or_else(|| Status::internal("the service gave no answer"))?;
            // How it ended is said behind it.
            while answer.next().await?.is_some() {}
            self.shapes.answer(&message).map_err(Status::internal)
        };
        match document.await {
            Ok(document) => axum::Json(document).into_response(),
            Err(error) => refusal(&error).into_response(),
        }
    }

    /// The first answer decides the status; the others follow as they come.
    async fn many_answers(self: Arc<Self>, mut answer: GrpcAnswer) -> Response {
        let first = match answer.next().await {
            Ok(Some(message)) => self.line(&message),
            Ok(None) => Bytes::new(),
            Err(error) => return stream_refusal(&error).into_response(),
        };
        let rest = futures::stream::unfold(Some((self, answer)), |state| async move {
            let (call, mut answer) = state?;
            match answer.next().await {
                Ok(Some(message)) => Some((call.line(&message), Some((call, answer)))),
                Ok(None) => None,
                Err(error) => Some((json_line(&stream_refusal(&error).1), None)),
            }
        });
        let lines = futures::stream::iter([first]).chain(rest).map(Ok::<_, std::io::Error>);
        ([(CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response()
    }

    fn line(&self, message: &[u8]) -> Bytes {
        match self.shapes.answer(message) {
            Ok(document) => json_line(&serde_json::json!({ "result": document })),
            Err(reason) => json_line(&stream_refusal(&Status::internal(reason)).1),
        }
    }
}
