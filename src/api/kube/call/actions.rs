//! What is done to one object beside reading and writing it, and questions that are not kept.

use axum::body::Body;
use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::respond::{self, json_response};
use super::super::{body, reviews, streams};
use super::Call;
use crate::api::pod_streams::Action;
use crate::model::status::Status;

impl Call<'_> {
    /// A conversation with a pod. Kubernetes asks for `create` whatever the method is,
    /// because a WebSocket can only be opened with GET.
    pub(in crate::api::kube) async fn stream(
        &self,
        method: &Method,
        action: Action,
        query: Option<&str>,
        handover: streams::Handover,
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
        streams::serve(self.state, &self.address(name), request, handover).await
    }

    /// Answers a question; nothing is stored.
    pub(super) async fn review(&self, body: Body) -> Result<Response, Status> {
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

    pub(super) async fn bind(&self, name: &str, body: Body) -> Result<Response, Status> {
        self.authorize("create", name).await?;
        let binding = body::object(&self.headers, body).await?;
        let write = self.write()?;
        self.state.objects.bind(&self.address(name), &binding, write).await?;
        Ok(done())
    }

    /// A token for a service account. A node may ask for its own pods.
    pub(super) async fn token(&self, name: &str, body: Body) -> Result<Response, Status> {
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

    pub(super) async fn evict(&self, name: &str, body: Body) -> Result<Response, Status> {
        self.authorize("create", name).await?;
        let eviction = body::object(&self.headers, body).await?;
        let own = eviction.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        if !own.is_empty() && own != name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let wish = eviction.get("deleteOptions").unwrap_or(&Value::Null);
        let request = self.delete_request(wish)?;
        self.state.objects.evict(&self.address(name), &request).await?;
        Ok(done())
    }
}

/// What Kubernetes says of an action that made no object.
fn done() -> Response {
    let said = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    json_response(StatusCode::CREATED, &said)
}
