//! The verbs that read.

use axum::response::Response;
use http::{Method, StatusCode};

use super::super::accept::Shape;
use super::super::respond::{self, json_response};
use super::super::{logs, metrics, table, watch};
use super::Call;
use crate::model::kinds::Subresource;
use crate::model::status::Status;
use crate::objects::Listing;

impl Call<'_> {
    pub(super) async fn get(
        &self,
        name: &str,
        part: Option<Subresource>,
    ) -> Result<Response, Status> {
        self.authorize("get", name).await?;
        let address = self.address(name);
        let object = match part {
            None | Some(Subresource::Status | Subresource::EphemeralContainers) => {
                let version = self.options.get("resourceVersion");
                self.state.objects.get(&address, version).await?
            }
            Some(Subresource::Scale) => self.state.objects.get_scale(&address).await?,
            Some(Subresource::Log) => {
                return logs::serve(self.state, &address, &self.options).await;
            }
            Some(_) => return Err(Status::method_not_allowed()),
        };
        Ok(self.answer(StatusCode::OK, object))
    }

    pub(super) async fn list(&self) -> Result<Response, Status> {
        self.authorize("list", self.options.only_name()).await?;
        let request = self.options.list(self.kind(), self.namespace())?;
        Ok(self.answer_list(self.state.objects.list(&request).await?))
    }

    /// What nodes and pods use.
    pub(super) async fn metrics(&self, method: &Method) -> Result<Response, Status> {
        if method != Method::GET || self.options.flag("watch")? {
            return Err(Status::method_not_allowed());
        }
        match &self.resource.name {
            Some(name) => {
                self.authorize("get", name).await?;
                let found = metrics::get(self.state, self.kind(), &self.address(name)).await?;
                Ok(self.answer(StatusCode::OK, found))
            }
            None => {
                self.authorize("list", self.options.only_name()).await?;
                let (kind, namespace) = (self.kind(), self.namespace());
                let found = metrics::list(self.state, kind, namespace, &self.options).await?;
                Ok(self.answer_list(found))
            }
        }
    }

    /// Objects in the shape that was asked for.
    pub(super) fn answer_list(&self, listing: Listing) -> Response {
        let body = match self.shape {
            Shape::Object => respond::list(self.kind(), listing),
            Shape::Partial => respond::partial_list(&listing),
            Shape::Table => {
                let meta = respond::list_meta(&listing);
                table::of(self.kind(), &listing.items, meta, self.include, true)
            }
        };
        json_response(StatusCode::OK, &body)
    }

    pub(super) async fn watch(&self, name: Option<&str>) -> Result<Response, Status> {
        self.authorize("watch", name.unwrap_or_else(|| self.options.only_name())).await?;
        let mut options = self.options.clone();
        if let Some(name) = name {
            let own = format!("metadata.name={name}");
            let text = match options.get("fieldSelector") {
                Some(given) => format!("{given},{own}"),
                None => own,
            };
            options.0.insert("fieldSelector".into(), text);
        }
        let request = options.watch(self.kind(), self.namespace())?;
        let seconds = options.number("timeoutSeconds")?;
        watch::serve(self.state, &request, self.shape, self.include, seconds).await
    }
}
