//! From a request to the object layer and back: the verbs.

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, Uri};
use hyper::upgrade::OnUpgrade;
use serde_json::{Value, json};

use super::accept::{self, Shape};
use super::body::{self, PatchBody};
use super::options::Options;
use super::path::{self, Path, Resource};
use super::respond::{self, Refusal, json_response};
use super::table::{self, Include};
use super::{KubeState, discovery, impersonation, logs, reviews, streams, watch};
use crate::api::identity::PeerIdentity;
use crate::api::pod_streams::Action;
use crate::model::kinds::{Kind, Subresource};
use crate::model::status::Status;
use crate::objects::access::{self, Identity};
use crate::objects::{Address, ApplyRequest, fields};

/// Answers every path under `/api` and `/apis`.
pub(super) async fn handle(State(state): State<KubeState>, request: Request) -> Response {
    match route(&state, request).await {
        Ok(response) => response,
        Err(status) => Refusal(status).into_response(),
    }
}

async fn route(state: &KubeState, request: Request) -> Result<Response, Status> {
    let mut request = request;
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<PeerIdentity>().ok_or_else(Status::unauthorized)?;
    let identity = Identity { user: peer.user.clone(), groups: peer.groups.clone() };
    let identity = impersonation::identity(state, identity, &parts.headers).await?;
    let resource = match path::parse(parts.uri.path()) {
        Path::Resource(resource) => resource,
        Path::Unknown => return Err(Status::unknown_resource()),
        _ if parts.method != Method::GET => return Err(Status::method_not_allowed()),
        Path::Root { legacy } => return Ok(discovery::root(legacy, &parts.headers)),
        Path::Group(group) => return discovery::group(&group),
        Path::GroupVersion { group, version } => return discovery::resources(&group, &version),
    };
    let options = query(&parts.uri)?;
    let call = Call {
        state,
        identity,
        shape: accept::shape(&parts.headers)?,
        include: Include::parse(options.get("includeObject")),
        options,
        headers: parts.headers,
        resource,
    };
    if let Some(action) = call.resource.subresource.and_then(streams::action) {
        return call.stream(&parts.method, action, parts.uri.query(), upgrade).await;
    }
    call.run(&parts.method, body).await
}

fn query(uri: &Uri) -> Result<Options, Status> {
    Query::try_from_uri(uri)
        .map(|Query(map)| Options(map))
        .map_err(|error| Status::bad_request(format!("the query cannot be read: {error}")))
}

struct Call<'a> {
    state: &'a KubeState,
    identity: Identity,
    shape: Shape,
    include: Include,
    options: Options,
    headers: HeaderMap,
    resource: Resource,
}

impl Call<'_> {
    async fn run(&self, method: &Method, body: Body) -> Result<Response, Status> {
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
            ("PUT", Some(name), subresource) => self.update(name, subresource, body).await,
            ("PATCH", Some(name), subresource) => self.patch(name, subresource, body).await,
            ("DELETE", Some(name), None) => self.delete(name, body).await,
            ("DELETE", None, _) => self.delete_collection(body).await,
            _ => Err(Status::method_not_allowed()),
        }
    }

    fn kind(&self) -> &'static Kind {
        self.resource.kind
    }

    fn namespace(&self) -> Option<&str> {
        self.resource.namespace.as_deref()
    }

    fn address(&self, name: &str) -> Address {
        Address::new(self.kind(), self.namespace(), name)
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

    /// A conversation with a pod. Kubernetes asks for `create` whatever the method is,
    /// because a WebSocket can only be opened with GET.
    async fn stream(
        &self,
        method: &Method,
        action: Action,
        query: Option<&str>,
        upgrade: OnUpgrade,
    ) -> Result<Response, Status> {
        let Some(name) = &self.resource.name else { return Err(Status::method_not_allowed()) };
        match *method {
            Method::GET => self.authorize("get", name).await?,
            Method::POST => {}
            _ => return Err(Status::method_not_allowed()),
        }
        self.authorize("create", name).await?;
        let request = streams::StreamRequest {
            action,
            options: &self.options,
            query: query.unwrap_or_default(),
            headers: &self.headers,
        };
        streams::serve(self.state, &self.address(name), request, upgrade).await
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

    async fn get(&self, name: &str, part: Option<Subresource>) -> Result<Response, Status> {
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

    async fn list(&self) -> Result<Response, Status> {
        self.authorize("list", "").await?;
        let request = self.options.list(self.kind(), self.namespace())?;
        let listing = self.state.objects.list(&request).await?;
        let body = match self.shape {
            Shape::Object => respond::list(self.kind(), listing),
            Shape::Partial => respond::partial_list(&listing),
            Shape::Table => {
                let meta = respond::list_meta(&listing);
                table::of(self.kind(), &listing.items, meta, self.include, true)
            }
        };
        Ok(json_response(StatusCode::OK, &body))
    }

    async fn watch(&self, name: Option<&str>) -> Result<Response, Status> {
        self.authorize("watch", name.unwrap_or_default()).await?;
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

    /// The object in a body that must be of this path's kind, and the warnings about it.
    async fn own_body(&self, body: Body) -> Result<(Value, Vec<String>), Status> {
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
        let warnings = fields::check(kind, &object, &doubled, self.options.field_validation()?)?;
        Ok((object, warnings))
    }

    async fn create(&self, body: Body) -> Result<Response, Status> {
        if self.kind().namespaced && self.namespace().is_none() {
            return Err(Status::method_not_allowed());
        }
        let (object, warnings) = self.own_body(body).await?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        self.authorize("create", name).await?;
        let write = self.options.write(&self.headers)?;
        let created =
            self.state.objects.create(self.kind(), self.namespace(), object, write).await?;
        let mut response = self.answer(StatusCode::CREATED, created);
        respond::warn(&mut response, &warnings);
        Ok(response)
    }

    /// Answers a question; nothing is stored.
    async fn review(&self, body: Body) -> Result<Response, Status> {
        if self.kind().namespaced && self.namespace().is_none() {
            return Err(Status::method_not_allowed());
        }
        let (question, warnings) = self.own_body(body).await?;
        self.options.dry_run()?;
        let answer = reviews::answer(
            &self.state.objects,
            &self.identity,
            self.kind(),
            self.namespace(),
            question,
        );
        let mut response = json_response(StatusCode::CREATED, &answer.await?);
        respond::warn(&mut response, &warnings);
        Ok(response)
    }

    async fn bind(&self, name: &str, body: Body) -> Result<Response, Status> {
        self.authorize("create", name).await?;
        let binding = body::object(&self.headers, body).await?;
        let write = self.options.write(&self.headers)?;
        self.state.objects.bind(&self.address(name), &binding, write).await?;
        let done = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
        });
        Ok(json_response(StatusCode::CREATED, &done))
    }

    async fn evict(&self, name: &str, body: Body) -> Result<Response, Status> {
        self.authorize("create", name).await?;
        let eviction = body::object(&self.headers, body).await?;
        let wish = eviction.get("deleteOptions").unwrap_or(&Value::Null);
        let request = body::delete_request(wish, &self.options)?;
        self.state.objects.delete(&self.address(name), &request).await?;
        let done = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
        });
        Ok(json_response(StatusCode::CREATED, &done))
    }

    async fn update(
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
        let (address, write) = (self.address(name), self.options.write(&self.headers)?);
        let updated = self.state.objects.update(&address, part, object, write).await?;
        let mut response = self.answer(StatusCode::OK, updated);
        respond::warn(&mut response, &warnings);
        Ok(response)
    }

    async fn patch(
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
        let (address, write) = (self.address(name), self.options.write(&self.headers)?);
        let validation = self.options.field_validation()?;
        let (patched, warnings) =
            self.state.objects.patch(&address, part, &patch, validation, write).await?;
        let mut response = self.answer(StatusCode::OK, patched);
        respond::warn(&mut response, &warnings);
        Ok(response)
    }

    async fn apply(
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
        let (address, write) = (self.address(name), self.options.write(&self.headers)?);
        let request = ApplyRequest { config, force: self.options.flag("force")? };
        let applied = self.state.objects.apply(&address, part, request, write).await?;
        let code = if applied.created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(self.answer(code, applied.object))
    }

    async fn delete(&self, name: &str, body: Body) -> Result<Response, Status> {
        self.authorize("delete", name).await?;
        let wish = body::object(&self.headers, body).await?;
        let request = body::delete_request(&wish, &self.options)?;
        let kind = self.kind();
        let deletion = self.state.objects.delete(&self.address(name), &request).await?;
        if !deletion.gone {
            return Ok(self.answer(StatusCode::OK, deletion.object));
        }
        let uid = deletion.object["metadata"]["uid"].as_str().unwrap_or_default();
        let status = Status::deleted(kind.plural, kind.group, name, uid);
        Ok(json_response(StatusCode::OK, &status))
    }

    async fn delete_collection(&self, body: Body) -> Result<Response, Status> {
        self.authorize("deletecollection", "").await?;
        let wish = body::object(&self.headers, body).await?;
        let request = body::delete_request(&wish, &self.options)?;
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
