//! gRPC's own health service: whether this member can serve at all.
//!
//! Why: etcd serves it, and balancers and probes that speak gRPC ask it rather than a page.
//! Invariant: it tells what `/livez` tells; nothing of the cluster.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tonic::{Request, Response, Status};

use super::backend::Backend;
use super::health::lives;
use super::messages::health as pb;
use super::messages::health::health_server::Health;
use pb::health_check_response::ServingStatus;

/// How often a watcher's member is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The service over the store.
#[derive(Debug)]
pub(super) struct HealthService(pub(super) Arc<Backend>);

/// The name that stands for the whole server; etcd knows no other.
fn is_known(service: &str) -> bool {
    service.is_empty()
}

async fn look(backend: &Backend) -> ServingStatus {
    if lives(backend).await { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn answer(status: ServingStatus) -> pb::HealthCheckResponse {
    pb::HealthCheckResponse { status: status.into() }
}

/// Waits until the member stands otherwise than it was told last; `None` when it stops.
async fn changed(backend: &Backend, told: Option<ServingStatus>) -> Option<ServingStatus> {
    loop {
        let now = look(backend).await;
        if Some(now) != told {
            return Some(now);
        }
        tokio::select! {
            biased;
            () = backend.cancel.cancelled() => return None,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<Response<pb::HealthCheckResponse>, Status> {
        if !is_known(&request.into_inner().service) {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(answer(look(&self.0).await)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = is_known(&request.into_inner().service);
        let start = (self.0.clone(), None);
        let answers = futures::stream::unfold(start, move |(backend, told)| async move {
            if known {
                let now = changed(&backend, told).await?;
                return Some((Ok(answer(now)), (backend, Some(now))));
            }
            // As gRPC's own servers do: the service may be registered later, so wait.
            if told.is_some() {
                backend.cancel.cancelled().await;
                return None;
            }
            let unknown = ServingStatus::ServiceUnknown;
            Some((Ok(answer(unknown)), (backend, Some(unknown))))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
