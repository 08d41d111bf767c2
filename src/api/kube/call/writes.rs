//! The verbs that write what is in a body, or delete.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::Value;

use super::super::body::{self, PatchBody};
use super::super::respond::{self, json_response};
use super::Call;
use crate::model::kinds::Subresource;
use crate::model::status::Status;
use crate::objects::{ApplyRequest, DeleteRequest, definitions, fields};

impl Call<'_> {
    /// The object in a body that must be of this path's kind, and the warnings about it.
    pub(super) async fn own_body(&self, body: Body) -> Result<(Value, Vec<String>), Status> {
        let (object, doubled) = body::object_and_doubled(&self.headers, body).await?;
        let kind = self.kind();
        if !object.is_object() {
            return Err(Status::bad_request("the body of the request must be an object"));
        }
        let says = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        let (version, name) = (says("apiVersion"), says("kind"));
        if !version.is_empty() && version != kind.api_version() {
            return Err(Status::bad_request(format!(
                "the API version in the data ({version}) does not match the expected API version ({})",
                kind.api_version()
            )));
        }
        if !name.is_empty() && name != kind.kind {
            return Err(Status::bad_request(format!(
                "the kind in the data ({name}) does not match the expected kind ({})",
                kind.kind
            )));
        }
        let validation = self.options.field_validation()?;
        let mut warnings = fields::check(kind, &object, &doubled, validation)?;
        warnings.extend(definitions::warnings(kind, &object));
        Ok((object, warnings))
    }

    pub(super) async fn create(&self, body: Body) -> Result<Response, Status> {
        if self.kind().namespaced && self.namespace().is_none() {
            return Err(Status::method_not_allowed());
        }
        let (object, warnings) = self.own_body(body).await?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if let Some(author) = &self.author {
            let _known_from_the_path = author.name.set(name.to_owned());
        }
        self.authorize("create", name).await?;
        let write = self.write()?;
        let created =
            self.state.objects.create(self.kind(), self.namespace(), object, write).await?;
        let mut response = self.answer(StatusCode::CREATED, created);
        respond::warn(&mut response, &warnings);
        Ok(response)
    }

    pub(super) async fn update(
        &self,
        name: &str,
        part: Option<Subresource>,
        body: Body,
    ) -> Result<Response, Status> {
        self.authorize("update", name).await?;
        let (object, warnings) = if part == Some(Subresource::Scale) {
            (body::object(&self.headers, body).await?, Vec::new())
        } else {
            self.own_body(body).await?
        };
        let (address, write) = (self.address(name), self.write()?);
        let updated = self.state.objects.update(&address, part, object, write).await?;
        let mut response = self.answer(StatusCode::OK, updated);
        respond::warn(&mut response, &warnings);
        Ok(response)
    }

    pub(super) async fn patch(
        &self,
        name: &str,
        part: Option<Subresource>,
        body: Body,
    ) -> Result<Response, Status> {
        self.authorize("patch", name).await?;
        let patch = match body::patch(&self.headers, body).await? {
            PatchBody::Apply(config) => return self.apply(name, part, config).await,
            PatchBody::Patch(patch) => patch,
        };
        if self.options.get("force").is_some() {
            return Err(bad_patch_options(
                "force: Forbidden: may not be specified for non-apply patch",
            ));
        }
        let (address, write) = (self.address(name), self.write()?);
        let validation = self.options.field_validation()?;
        let (patched, mut warnings) =
            self.state.objects.patch(&address, part, &patch, validation, write).await?;
        warnings.extend(definitions::warnings(self.kind(), &patched));
        let mut response = self.answer(StatusCode::OK, patched);
        respond::warn(&mut response, &warnings);
        Ok(response)
    }

    pub(super) async fn apply(
        &self,
        name: &str,
        part: Option<Subresource>,
        config: Value,
    ) -> Result<Response, Status> {
        if self.options.get("fieldManager").is_none() {
            return Err(bad_patch_options(
                "fieldManager: Required value: is required for apply patch",
            ));
        }
        // A field that the type does not have is refused whatever this says.
        self.options.field_validation()?;
        let (address, write) = (self.address(name), self.write()?);
        // A part is never made by itself, so nobody needs to be asked.
        let may_create = match part {
            None => self.authorize("create", name).await,
            Some(_) => Ok(()),
        };
        let request = ApplyRequest { config, force: self.options.flag("force")?, may_create };
        let applied = self.state.objects.apply(&address, part, request, write).await?;
        let code = if applied.created { StatusCode::CREATED } else { StatusCode::OK };
        let warnings = definitions::warnings(self.kind(), &applied.object);
        let mut response = self.answer(code, applied.object);
        respond::warn(&mut response, &warnings);
        Ok(response)
    }

    /// What a body with delete options asks for; a trial has no record.
    pub(super) fn delete_request(&self, wish: &Value) -> Result<DeleteRequest, Status> {
        let mut request = body::delete_request(wish, &self.options)?;
        if !request.dry_run {
            request.author = self.author.clone();
        } else if let Some(author) = &self.author {
            author.is_on_trial();
        }
        Ok(request)
    }

    pub(super) async fn delete(&self, name: &str, body: Body) -> Result<Response, Status> {
        self.authorize("delete", name).await?;
        let wish = body::object(&self.headers, body).await?;
        let request = self.delete_request(&wish)?;
        let kind = self.kind();
        let deletion = self.state.objects.delete(&self.address(name), &request).await?;
        if !deletion.gone {
            return Ok(self.answer(StatusCode::OK, deletion.object));
        }
        let uid = deletion.object["metadata"]["uid"].as_str().unwrap_or_default();
        let status = Status::deleted(kind.plural, kind.group, name, uid);
        Ok(json_response(StatusCode::OK, &status))
    }

    pub(super) async fn delete_collection(&self, body: Body) -> Result<Response, Status> {
        self.authorize("deletecollection", "").await?;
        if !self.kind().verbs.contains(&"deletecollection") {
            return Err(Status::method_not_allowed());
        }
        let wish = body::object(&self.headers, body).await?;
        let request = self.delete_request(&wish)?;
        let list = self.options.list(self.kind(), self.namespace())?;
        let gone = self.state.objects.delete_collection(&list, &request).await?;
        Ok(json_response(StatusCode::OK, &respond::list(self.kind(), gone)))
    }
}

/// A refusal of the query of a PATCH.
fn bad_patch_options(problem: &str) -> Status {
    let message = format!("PatchOptions.meta.k8s.io \"\" is invalid: {problem}");
    Status::failure(422, "Invalid", message)
}
