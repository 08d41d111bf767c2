//! A small client of etcd's protocol: the calls that are measured or checked, no more.
//!
//! Why not a client crate: it would retry, balance and queue in its own way, and part of
//! what is measured would be the client. One HTTP/2 connection, gRPC's own framing.
//! Only the fields that are used are declared; numbers are those of etcd's `rpc.proto`.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use holdfast::sys::tls::TlsIdentity;
use http::uri::PathAndQuery;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Streaming;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use super::certificates;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Header {
    #[prost(uint64, tag = "2")]
    pub(crate) member: u64,
    #[prost(int64, tag = "3")]
    pub(crate) revision: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Put {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Delete {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Range {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) range_end: Bytes,
    #[prost(int64, tag = "3")]
    pub(crate) limit: i64,
    #[prost(bool, tag = "7")]
    pub(crate) serializable: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(int64, tag = "3")]
    pub(crate) mod_revision: i64,
    #[prost(int64, tag = "4")]
    pub(crate) version: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RangeAnswer {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<Header>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) kvs: Vec<KeyValue>,
    #[prost(int64, tag = "4")]
    pub(crate) count: i64,
}

/// Puts a key if it was last changed at this revision.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Txn {
    #[prost(message, repeated, tag = "1")]
    compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    success: Vec<TxnPut>,
}

/// Whether a revision is equal; how it is compared is not declared, equal is the default.
#[derive(Clone, PartialEq, prost::Message)]
struct Compare {
    /// 2 is the revision of the last change.
    #[prost(int32, tag = "2")]
    target: i32,
    #[prost(bytes = "bytes", tag = "3")]
    key: Bytes,
    /// Written even when it is 0.
    #[prost(int64, optional, tag = "6")]
    mod_revision: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TxnPut {
    #[prost(message, optional, tag = "2")]
    put: Option<Put>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TxnAnswer {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<Header>,
    #[prost(bool, tag = "2")]
    pub(crate) succeeded: bool,
}

/// An answer of which only the header matters.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Done {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<Header>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Compact {
    #[prost(int64, tag = "1")]
    pub(crate) revision: i64,
    #[prost(bool, tag = "2")]
    pub(crate) physical: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MemberStatus {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<Header>,
    #[prost(uint64, tag = "4")]
    pub(crate) leader: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) applied: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MemberList {
    #[prost(message, repeated, tag = "2")]
    pub(crate) members: Vec<ListedMember>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListedMember {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(bool, tag = "5")]
    pub(crate) learner: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Watch {
    #[prost(message, optional, tag = "1")]
    pub(crate) create: Option<WatchCreate>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WatchCreate {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) range_end: Bytes,
    #[prost(int64, tag = "3")]
    pub(crate) start_revision: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Watched {
    #[prost(bool, tag = "3")]
    pub(crate) created: bool,
    #[prost(bool, tag = "4")]
    pub(crate) canceled: bool,
    #[prost(message, repeated, tag = "11")]
    pub(crate) events: Vec<Event>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Event {
    #[prost(message, optional, tag = "2")]
    pub(crate) kv: Option<KeyValue>,
}

/// One connection; clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    send: http2::SendRequest<Body>,
    origin: http::Uri,
}

impl tower::Service<http::Request<Body>> for Connection {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.send.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.send.send_request(request).boxed()
    }
}

impl Connection {
    pub(crate) async fn open(certs: &std::path::Path, port: u16) -> Result<Self, anyhow::Error> {
        let mut tls = TlsIdentity::load(certificates::files(certs, "admin"))?.client()?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("127.0.0.1")?;
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20);
        let (send, connection) = builder.handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn(connection);
        Ok(Self { send, origin: format!("https://127.0.0.1:{port}").parse()? })
    }

    async fn unary<Q, A>(&self, path: &'static str, question: Q) -> Result<A, tonic::Status>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = self.grpc();
        let codec = ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(path);
        Ok(grpc.unary(tonic::Request::new(question), path, codec).await?.into_inner())
    }

    fn grpc(&self) -> Grpc<Self> {
        Grpc::with_origin(self.clone(), self.origin.clone()).max_decoding_message_size(1 << 30)
    }

    pub(crate) async fn put(&self, key: Bytes, value: Bytes) -> Result<i64, tonic::Status> {
        let done: Done = self.unary("/etcdserverpb.KV/Put", Put { key, value }).await?;
        Ok(done.header.unwrap_or_default().revision)
    }

    pub(crate) async fn range(&self, range: Range) -> Result<RangeAnswer, tonic::Status> {
        self.unary("/etcdserverpb.KV/Range", range).await
    }

    /// The value of a key, if it is there.
    pub(crate) async fn get(&self, key: Bytes) -> Result<Option<Bytes>, tonic::Status> {
        let found = self.range(Range { key, ..Range::default() }).await?;
        Ok(found.kvs.into_iter().next().map(|kv| kv.value))
    }

    /// Deletes a key; answers the revision.
    pub(crate) async fn delete(&self, key: Bytes) -> Result<i64, tonic::Status> {
        let done: Done = self.unary("/etcdserverpb.KV/DeleteRange", Delete { key }).await?;
        Ok(done.header.unwrap_or_default().revision)
    }

    pub(crate) async fn compact(&self, revision: i64) -> Result<Done, tonic::Status> {
        self.unary("/etcdserverpb.KV/Compact", Compact { revision, physical: true }).await
    }

    pub(crate) async fn defragment(&self) -> Result<Done, tonic::Status> {
        self.unary("/etcdserverpb.Maintenance/Defragment", Empty {}).await
    }

    pub(crate) async fn status(&self) -> Result<MemberStatus, tonic::Status> {
        self.unary("/etcdserverpb.Maintenance/Status", Empty {}).await
    }

    pub(crate) async fn members(&self) -> Result<MemberList, tonic::Status> {
        self.unary("/etcdserverpb.Cluster/MemberList", Empty {}).await
    }

    /// Puts the key if it was last changed at `mod_revision`, 0 for never.
    pub(crate) async fn put_if(
        &self,
        key: Bytes,
        mod_revision: i64,
        value: Bytes,
    ) -> Result<TxnAnswer, tonic::Status> {
        let compare =
            vec![Compare { target: 2, key: key.clone(), mod_revision: Some(mod_revision) }];
        let success = vec![TxnPut { put: Some(Put { key, value }) }];
        self.unary("/etcdserverpb.KV/Txn", Txn { compare, success }).await
    }

    /// A stream that watches these keys, once the server has confirmed all of them.
    pub(crate) async fn watch(
        &self,
        keys: Vec<Bytes>,
    ) -> Result<Streaming<Watched>, tonic::Status> {
        let each = |key| WatchCreate { key, ..WatchCreate::default() };
        self.watch_all(keys.into_iter().map(each).collect()).await
    }

    /// The same for any watches.
    pub(crate) async fn watch_all(
        &self,
        watches: Vec<WatchCreate>,
    ) -> Result<Streaming<Watched>, tonic::Status> {
        let mut open = watches.len();
        let asked = watches.into_iter().map(|create| Watch { create: Some(create) });
        // The asking side stays open, or the server would end the watches.
        let asked = futures::StreamExt::chain(
            futures::stream::iter(asked.collect::<Vec<_>>()),
            futures::stream::pending(),
        );
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let codec = ProstCodec::<Watch, Watched>::default();
        let mut grpc = self.grpc();
        let answer = grpc.streaming(tonic::Request::new(asked), path, codec).await?;
        let mut stream = answer.into_inner();
        while open > 0 {
            let message = stream.message().await?;
            let message = message.ok_or_else(|| tonic::Status::aborted("the watch ended"))?;
            open -= usize::from(message.created);
        }
        Ok(stream)
    }
}
