//! The KV service: reads, writes, transactions, compaction.

use std::pin::Pin;
use std::sync::Arc;

use futures::stream::Peekable;
use futures::{Stream, StreamExt};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::backend::Backend;
use super::errors::status;
use super::messages::etcdserverpb as pb;
use super::messages::etcdserverpb::kv_server::Kv;
use super::wire;
use crate::model::kv::RangeResponse;
use crate::store::StoreError;

/// The service over the store.
#[derive(Debug)]
pub(super) struct KvService(pub(super) Arc<Backend>);

type Chunks = Pin<Box<Peekable<ReceiverStream<Result<RangeResponse, StoreError>>>>>;

/// The next message of a streamed range. The last one alone has a header: it tells a client
/// that all of it came.
async fn next_chunk(
    (backend, mut chunks): (Arc<Backend>, Chunks),
) -> Option<(Result<pb::RangeStreamResponse, Status>, (Arc<Backend>, Chunks))> {
    let message = match chunks.next().await? {
        Ok(chunk) => {
            let last = chunks.as_mut().peek().await.is_none();
            let header = if last { backend.header_at(chunk.revision) } else { None };
            let range_response = Some(wire::range_response(chunk, header));
            Ok(pb::RangeStreamResponse { range_response })
        }
        Err(error) => Err(status(error)),
    };
    Some((message, (backend, chunks)))
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let wanted = wire::range_request(request.into_inner())?;
        let answer = self.0.store.kv.range_as(&caller, wanted).await.map_err(status)?;
        let header = self.0.header_at(answer.revision);
        Ok(Response::new(wire::range_response(answer, header)))
    }

    type RangeStreamStream =
        Pin<Box<dyn Stream<Item = Result<pb::RangeStreamResponse, Status>> + Send>>;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let caller = self.0.caller(&request).await?;
        let wanted = wire::range_request(request.into_inner())?;
        let chunks = self.0.store.kv.range_stream(&caller, wanted).await.map_err(status)?;
        let chunks = Box::pin(ReceiverStream::new(chunks).peekable());
        let answers = futures::stream::unfold((self.0.clone(), chunks), next_chunk);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let wanted = wire::put_request(request.into_inner());
        let answer = self.0.store.kv.put_as(&caller, wanted).await.map_err(status)?;
        Ok(Response::new(pb::PutResponse {
            header: self.0.header_at(answer.revision),
            prev_kv: answer.prev_kv.map(wire::key_value),
        }))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let wanted = wire::delete_request(request.into_inner());
        let answer = self.0.store.kv.delete_as(&caller, wanted).await.map_err(status)?;
        Ok(Response::new(pb::DeleteRangeResponse {
            header: self.0.header_at(answer.revision),
            deleted: answer.deleted,
            prev_kvs: answer.prev_kvs.into_iter().map(wire::key_value).collect(),
        }))
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let wanted = wire::txn_request(request.into_inner())?;
        let answer = self.0.store.kv.txn_as(&caller, wanted).await.map_err(status)?;
        let header = self.0.header_at(answer.revision);
        Ok(Response::new(wire::txn_response(answer, header)))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let caller = self.0.known_caller(&request).await?;
        let pb::CompactionRequest { revision, physical } = request.into_inner();
        let done = self.0.store.kv.compact_as(&caller, revision, physical).await;
        let header = self.0.header_at(done.map_err(status)?);
        Ok(Response::new(pb::CompactionResponse { header }))
    }
}
