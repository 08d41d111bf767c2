//! gRPC's own health service, asked of ours and of a real etcd.

use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use crate::PATIENCE;
use crate::channel::connect;
use crate::rust_client::Both;

#[derive(Clone, PartialEq, prost::Message)]
struct Asked {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Told {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;
const SERVICE_UNKNOWN: i32 = 3;

fn asked(service: &str) -> Request<Asked> {
    Request::new(Asked { service: service.into() })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_server_serves_and_no_other_name_is_known() {
    let both = Both::start().await;
    for url in both.urls() {
        let connection = connect(both.served.dir.path(), "admin", &url).await;
        let mut grpc = Grpc::new(connection);
        let check = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let codec = ProstCodec::<Asked, Told>::default;
        grpc.ready().await.unwrap();
        let whole = grpc.unary(asked(""), check.clone(), codec()).await.unwrap();
        assert_eq!(whole.into_inner().status, SERVING);
        grpc.ready().await.unwrap();
        let other = grpc.unary(asked("etcdserverpb.Nothing"), check, codec()).await.unwrap_err();
        assert_eq!((other.code(), other.message()), (Code::NotFound, "unknown service"));
        for (service, status) in [("", SERVING), ("etcdserverpb.Nothing", SERVICE_UNKNOWN)] {
            grpc.ready().await.unwrap();
            let watch = PathAndQuery::from_static("/grpc.health.v1.Health/Watch");
            let stream = grpc.server_streaming(asked(service), watch, codec()).await.unwrap();
            let first = tokio::time::timeout(PATIENCE, stream.into_inner().message()).await;
            assert_eq!(first.unwrap().unwrap().unwrap().status, status);
        }
    }
}
