//! From a request to the object layer and back: the verbs.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, Uri};
use hyper::upgrade::OnUpgrade;
use serde_json::{Value, json};

use super::accept::{self, Shape};
use super::authentication::{self, Caller, NoCaller};
use super::body::{self, PatchBody};
use super::discovery::Served;
use super::locate::{described, locate};
use super::options::Options;
use super::path::{Path, Resource};
use super::respond::{self, Refusal, json_response};
use super::table::{self, Include};
use super::{KubeState, logs, metrics, reviews, streams, watch};
use crate::api::pod_streams::Action;
use crate::model::kinds::{Kind, Subresource};
use crate::model::status::Status;
use crate::objects::access::{self, Author, Identity};
use crate::objects::{
    Address, ApplyRequest, DeleteRequest, Listing, WriteOptions, definitions, fields,
};

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
    let caller = authentication::of(state, &parts).await;
    let path = locate(state, parts.uri.path(), caller.is_ok()).await;
    let caller = match caller {
        Ok(caller) => caller,
        Err(NoCaller::Unknown(status)) => return Err(status),
        Err(NoCaller::Refused(status, caller)) => {
            if let Path::Resource(resource) = &path {
                let author = author_of(caller, resource, &parts.method);
                settle(state, author.as_ref(), &Err(&status)).await?;
            }
            return Err(status);
        }
    };
    let resource = match path {
        Path::Resource(resource) => resource,
        Path::Unknown => return Err(Status::unknown_resource()),
        _ => {
            authentication::check_url(state, &parts, &caller).await?;
            if parts.method != Method::GET {
                return Err(Status::method_not_allowed());
            }
            state.objects.freshen_kinds().await;
            return described(&Served::of(state.objects.kinds()), path, &parts.headers);
        }
    };
    let options = query(&parts.uri)?;
    let author = author_of(caller.clone(), &resource, &parts.method).map(Arc::new);
    let call = Call {
        state,
        identity: caller.identity,
        author: author.clone(),
        shape: accept::shape(&parts.headers)?,
        include: Include::parse(options.get("includeObject")),
        options,
        headers: parts.headers,
        resource,
    };
    let entry = call.resource.subresource.and_then(streams::action);
    // Nobody enters a pod for a trial.
    let dry_run = entry.is_none() && call.options.get("dryRun") == Some("All");
    let mut answered = match entry {
        Some(action) => call.stream(&parts.method, action, parts.uri.query(), upgrade).await,
        None => call.run(&parts.method, body).await,
    };
    if !dry_run {
        let outcome = answered.as_ref().map(|response| response.status());
        settle(state, author.as_deref(), &outcome).await?;
    }
    if let (Ok(response), Some(author)) = (&mut answered, &author) {
        respond::warn(response, &author.warnings());
    }
    let custom = call.kind().custom();
    if let (Ok(response), Some(custom)) = (&mut answered, custom) {
        respond::warn(response, custom.deprecation.as_slice());
    }
    answered
}

/// Who is behind a request, if it is one that writes or enters a pod.
fn author_of(caller: Caller, resource: &Resource, method: &Method) -> Option<Author> {
    let stored = resource.kind.kept;
    let verb = match (method.as_str(), &resource.name) {
        _ if !stored => return None,
        ("GET", Some(_)) if resource.subresource.and_then(streams::action).is_some() => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", Some(_)) => "delete",
        ("DELETE", None) => "deletecollection",
        _ => return None,
    };
    let Caller { identity, impersonator, origin } = caller;
    let author =
        Author::new(identity, impersonator, origin, verb, resource.kind, resource.subresource);
    Some(author.about(resource.namespace.as_deref(), resource.name.as_deref()))
}

/// Records what has no record yet: what was refused, and what changed nothing. What the
/// store did not answer for may have its record, and cannot have one now.
async fn settle(
    state: &KubeState,
    author: Option<&Author>,
    outcome: &Result<StatusCode, &Status>,
) -> Result<(), Status> {
    let Some(author) = author.filter(|author| !author.is_recorded()) else { return Ok(()) };
    let (code, reason) = match outcome {
        Ok(code) => (code.as_u16(), ""),
        Err(status) => (status.code, status.reason.as_str()),
    };
    if code >= 500 {
        return Ok(());
    }
    match (state.objects.record_apart(author, code, reason).await, outcome) {
        (Err(status), Ok(_)) => Err(status),
        _ => Ok(()),
    }
}

fn query(uri: &Uri) -> Result<Options, Status> {
    Query::try_from_uri(uri)
        .map(|Query(map)| Options(map))
        .map_err(|error| Status::bad_request(format!("the query cannot be read: {error}")))
}

struct Call<'a> {
    state: &'a KubeState,
    identity: Identity,
    /// Of a request that writes.
    author: Option<Arc<Author>>,
    shape: Shape,
    include: Include,
    options: Options,
    headers: HeaderMap,
    resource: Resource,
}

impl Call<'_> {
    async fn run(&self, method: &Method, body: Body) -> Result<Response, Status> {
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

    fn kind(&self) -> &'static Kind {
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
            author: self.author.as_deref(),
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
        self.authorize("list", self.options.only_name()).await?;
        let request = self.options.list(self.kind(), self.namespace())?;
        Ok(self.answer_list(self.state.objects.list(&request).await?))
    }

    /// What nodes and pods use.
    async fn metrics(&self, method: &Method) -> Result<Response, Status> {
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
    fn answer_list(&self, listing: Listing) -> Response {
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

    async fn watch(&self, name: Option<&str>) -> Result<Response, Status> {
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
        let validation = self.options.field_validation()?;
        let mut warnings = fields::check(kind, &object, &doubled, validation)?;
        warnings.extend(definitions::warnings(kind, &object));
        Ok((object, warnings))
    }

    async fn create(&self, body: Body) -> Result<Response, Status> {
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
        let write = self.write()?;
        self.state.objects.bind(&self.address(name), &binding, write).await?;
        let done = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
        });
        Ok(json_response(StatusCode::CREATED, &done))
    }

    /// A token for a service account. A node may ask for its own pods.
    async fn token(&self, name: &str, body: Body) -> Result<Response, Status> {
        if self.options.dry_run()? {
            return Err(Status::bad_request(
                "a token is not made for a trial: dryRun is not served",
            ));
        }
        let node = self.identity.node();
        if node.is_none() {
            self.authorize("create", name).await?;
        }
        let mut request = body::object(&self.headers, body).await?;
        if !request.is_object() {
            return Err(Status::bad_request("the body of the request must be an object"));
        }
        let spec = request.get("spec").cloned().unwrap_or_default();
        let issued =
            self.state.objects.issue_account_token(&self.address(name), &spec, node).await?;
        request["kind"] = "TokenRequest".into();
        request["apiVersion"] = "authentication.k8s.io/v1".into();
        request["metadata"]["name"] = name.into();
        request["metadata"]["namespace"] = self.namespace().unwrap_or_default().into();
        request["metadata"]["creationTimestamp"] = Value::Null;
        request["spec"]["audiences"] = issued.audiences.into();
        request["spec"]["expirationSeconds"] = issued.seconds.into();
        if request["spec"].get("boundObjectRef").is_none() {
            request["spec"]["boundObjectRef"] = Value::Null;
        }
        request["status"] =
            json!({"token": issued.token, "expirationTimestamp": issued.expires.to_string()});
        Ok(json_response(StatusCode::CREATED, &request))
    }

    async fn evict(&self, name: &str, body: Body) -> Result<Response, Status> {
        self.authorize("create", name).await?;
        let eviction = body::object(&self.headers, body).await?;
        let own = eviction.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        if !own.is_empty() && own != name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let wish = eviction.get("deleteOptions").unwrap_or(&Value::Null);
        let request = self.delete_request(wish)?;
        self.state.objects.evict(&self.address(name), &request).await?;
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
        let (address, write) = (self.address(name), self.write()?);
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
        let (address, write) = (self.address(name), self.write()?);
        let validation = self.options.field_validation()?;
        let (patched, mut warnings) =
            self.state.objects.patch(&address, part, &patch, validation, write).await?;
        warnings.extend(definitions::warnings(self.kind(), &patched));
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
    fn delete_request(&self, wish: &Value) -> Result<DeleteRequest, Status> {
        let mut request = body::delete_request(wish, &self.options)?;
        if !request.dry_run {
            request.author = self.author.clone();
        } else if let Some(author) = &self.author {
            author.is_on_trial();
        }
        Ok(request)
    }

    async fn delete(&self, name: &str, body: Body) -> Result<Response, Status> {
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

    async fn delete_collection(&self, body: Body) -> Result<Response, Status> {
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
