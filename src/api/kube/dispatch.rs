//! From a request to its answer: who asks, for what, and what is recorded of it.

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, Uri};

use super::authentication::{self, Caller, NoCaller};
use super::call::Call;
use super::discovery::Served;
use super::locate::{described, locate};
use super::options::Options;
use super::path::{Path, Resource};
use super::respond::{self, Refusal};
use super::table::Include;
use super::{KubeState, accept, streams};
use crate::model::status::Status;
use crate::objects::access::Author;

/// Answers every path under `/api` and `/apis`.
pub(super) async fn handle(State(state): State<KubeState>, request: Request) -> Response {
    match route(&state, request).await {
        Ok(response) => response,
        Err(status) => Refusal(status).into_response(),
    }
}

async fn route(state: &KubeState, request: Request) -> Result<Response, Status> {
    let mut request = request;
    let handover = streams::Handover::of(&mut request);
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
        Some(action) => call.stream(&parts.method, action, parts.uri.query(), handover).await,
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
