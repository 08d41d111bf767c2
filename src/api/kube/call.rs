//! A request for a resource, and which verb it is.

mod actions;
mod reads;
mod writes;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use super::accept::Shape;
use super::options::Options;
use super::path::Resource;
use super::respond::{self, json_response};
use super::table::{self, Include};
use super::{KubeState, metrics};
use crate::model::kinds::{Kind, Subresource};
use crate::model::status::Status;
use crate::objects::access::{self, Author, Identity};
use crate::objects::{Address, WriteOptions};

/// A request for a resource, with all that its path and its headers say.
pub(super) struct Call<'a> {
    pub(super) state: &'a KubeState,
    pub(super) identity: Identity,
    /// Of a request that writes.
    pub(super) author: Option<Arc<Author>>,
    pub(super) shape: Shape,
    pub(super) include: Include,
    pub(super) options: Options,
    pub(super) headers: HeaderMap,
    pub(super) resource: Resource,
}

impl Call<'_> {
    pub(super) async fn run(&self, method: &Method, body: Body) -> Result<Response, Status> {
        if self.kind().group == metrics::GROUP {
            return self.metrics(method).await;
        }
        if !self.kind().kept {
            if method != Method::POST || self.resource.name.is_some() {
                return Err(Status::method_not_allowed());
            }
            return self.review(body).await;
        }
        let watches = self.options.flag("watch")?;
        match (method.as_str(), &self.resource.name, self.resource.subresource) {
            ("GET", name, None) if watches => self.watch(name.as_deref()).await,
            ("GET", None, _) => self.list().await,
            ("GET", Some(name), subresource) => self.get(name, subresource).await,
            ("POST", None, _) => self.create(body).await,
            ("POST", Some(name), Some(Subresource::Binding)) => self.bind(name, body).await,
            ("POST", Some(name), Some(Subresource::Eviction)) => self.evict(name, body).await,
            ("POST", Some(name), Some(Subresource::Token)) => self.token(name, body).await,
            ("PUT", Some(name), subresource) => self.update(name, subresource, body).await,
            ("PATCH", Some(name), subresource) => self.patch(name, subresource, body).await,
            ("DELETE", Some(name), None) => self.delete(name, body).await,
            ("DELETE", None, _) => self.delete_collection(body).await,
            _ => Err(Status::method_not_allowed()),
        }
    }

    pub(super) fn kind(&self) -> &'static Kind {
        self.resource.kind
    }

    fn namespace(&self) -> Option<&str> {
        self.resource.namespace.as_deref()
    }

    fn address(&self, name: &str) -> Address {
        Address::new(self.kind(), self.namespace(), name)
    }

    /// How to write, and for whom.
    fn write(&self) -> Result<WriteOptions, Status> {
        let options = self.options.write(&self.headers)?;
        Ok(WriteOptions { author: self.author.clone(), ..options })
    }

    async fn authorize(&self, verb: &str, name: &str) -> Result<(), Status> {
        let request = access::Request {
            verb,
            group: self.kind().group,
            resource: self.kind().plural,
            subresource: self.resource.subresource.map(Subresource::name),
            namespace: self.namespace().unwrap_or_default(),
            name,
        };
        self.state.objects.authorize(&self.identity, &request).await
    }

    /// One object in the shape that was asked for.
    fn answer(&self, code: StatusCode, object: Value) -> Response {
        let is_own_kind = object["kind"] == self.kind().kind;
        let body = match self.shape {
            Shape::Table if is_own_kind => {
                let meta = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                table::of(self.kind(), &[object], meta, self.include, true)
            }
            Shape::Partial => respond::partial(&object),
            Shape::Object | Shape::Table => object,
        };
        json_response(code, &body)
    }
}
