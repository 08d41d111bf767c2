//! Takes a gRPC answer apart, and tells its errors as JSON.
//!
//! The forms of errors are those of the gateway that etcd uses: the text twice and the
//! code for a single answer, an object inside `error` for a stream.

use axum::Json;
use axum::body::Body;
use axum::response::Response;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tonic::{Code, Status};

/// The messages of an answer, then its status.
pub(super) struct GrpcAnswer {
    body: Body,
    buffer: BytesMut,
    /// What the headers said, where there is no body.
    early: Option<Status>,
}

fn status_in(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
}

fn failed(headers: &HeaderMap) -> Result<(), Status> {
    match status_in(headers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}

impl GrpcAnswer {
    pub(super) fn new(answer: Response) -> Self {
        let early = failed(answer.headers()).err();
        Self { body: answer.into_body(), buffer: BytesMut::new(), early }
    }

    /// The next message; `None` after the last, the error if it ended with one.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if let Some(error) = self.early.take() {
            return Err(error);
        }
        loop {
            if let Some(message) = self.whole_message()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Status::internal(error.to_string())),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            failed(&trailers)?;
                        }
                    }
                },
            }
        }
    }

    fn whole_message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(head) = self.buffer.first_chunk::<5>() else { return Ok(None) };
        let [compressed, length @ ..] = *head;
        if compressed != 0 {
            return Err(Status::internal("a compressed answer, which nobody asked for"));
        }
        let length = u32::from_be_bytes(length) as usize;
        if self.buffer.len() < 5 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The error of a single answer.
pub(super) fn refusal(error: &Status) -> (StatusCode, Json<Value>) {
    let (text, code) = (error.message(), error.code() as i32);
    let told = json!({ "error": text, "code": code, "message": text });
    (http_status(error.code()), Json(told))
}

/// The error of a stream.
pub(super) fn stream_refusal(error: &Status) -> (StatusCode, Json<Value>) {
    let status = http_status(error.code());
    let told = json!({ "error": {
        "grpc_code": error.code() as i32,
        "http_code": status.as_u16(),
        "message": error.message(),
        "http_status": status.canonical_reason().unwrap_or_default(),
    }});
    (status, Json(told))
}

/// One document and the end of its line.
pub(super) fn json_line(document: &Value) -> Bytes {
    Bytes::from(format!("{document}\n"))
}
