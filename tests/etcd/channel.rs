//! The Rust client `etcd-client` over a connection with our certificates.
//!
//! Why our own connection under it: the client's own TLS would bring features of shared
//! libraries that the product does not have.

use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use etcd_client::{Channel, Client, ConnectOptions};
use futures::FutureExt;
use futures::future::BoxFuture;
use holdfast::sys::tls::TlsIdentity;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tower::BoxError;
use tower::util::BoxCloneSyncService;

use crate::certificates;

#[derive(Clone)]
pub(crate) struct Connection {
    send: SendRequest<Body>,
    authority: String,
}

impl tower::Service<http::Request<Body>> for Connection {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.send.poll_ready(context).map_err(BoxError::from)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let whole = format!("https://{}{path}", self.authority);
        *request.uri_mut() = whole.parse().unwrap();
        let sent = self.send.send_request(request);
        async move { Ok(sent.await?.map(Body::new)) }.boxed()
    }
}

/// One connection with the certificate of that name.
pub(crate) async fn connect(certificates: &Path, identity: &str, url: &str) -> Connection {
    let authority = url.trim_start_matches("https://").to_owned();
    let mut tls = TlsIdentity::load(certificates::files(certificates, identity))
        .and_then(|identity| identity.client())
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(&authority).await.unwrap();
    let host = authority.split(':').next().unwrap().to_owned();
    let name = ServerName::try_from(host).unwrap();
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new());
    let (send, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    // It ends with its sender.
    TokioExecutor::new().execute(connection);
    Connection { send, authority }
}

/// A client with the certificate of that name.
pub(crate) async fn client(
    certificates: &Path,
    identity: &str,
    url: &str,
    options: Option<ConnectOptions>,
) -> Result<Client, etcd_client::Error> {
    let connection = connect(certificates, identity, url).await;
    Client::from_channel(Channel::Custom(BoxCloneSyncService::new(connection)), options).await
}
