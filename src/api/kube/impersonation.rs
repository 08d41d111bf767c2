//! Acting as somebody else: the `Impersonate-*` headers (`kubectl --as`).
//!
//! Invariants: whoever sends them must be allowed to impersonate each user, group and
//! service account named; what is done is then judged by the rights of the other alone.

use http::HeaderMap;

use super::KubeState;
use crate::model::status::Status;
use crate::objects::access::{Identity, Request};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
const AUTHENTICATED: &str = "system:authenticated";
const ANONYMOUS: &str = "system:anonymous";

fn text(value: &http::HeaderValue) -> Result<String, Status> {
    let text = value.to_str().map_err(|_| Status::bad_request("a header is not text"))?;
    Ok(text.to_owned())
}

/// Whose rights count for the request: the caller's or, if asked for and allowed, others'.
pub(super) async fn identity(
    state: &KubeState,
    caller: Identity,
    headers: &HeaderMap,
) -> Result<Identity, Status> {
    let user = headers.get(USER).map(text).transpose()?.unwrap_or_default();
    let asked: Result<Vec<String>, Status> = headers.get_all(GROUP).iter().map(text).collect();
    let mut groups = asked?;
    let other = headers.keys().find(|name| *name == UID || name.as_str().starts_with(EXTRA));
    if user.is_empty() {
        if groups.is_empty() && other.is_none() {
            return Ok(caller);
        }
        return Err(Status::bad_request(
            "groups, uid or extra cannot be impersonated without a user",
        ));
    }
    if let Some(name) = other {
        // Nothing here would know what to do with them.
        return Err(Status::bad_request(format!("{name} is not supported")));
    }
    let account = user.strip_prefix(SERVICE_ACCOUNT).and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, name)) => {
            allow(state, &caller, "serviceaccounts", namespace, name).await?
        }
        None => allow(state, &caller, "users", "", &user).await?,
    }
    for group in &groups {
        allow(state, &caller, "groups", "", group).await?;
    }
    if let (Some((namespace, _)), true) = (account, groups.is_empty()) {
        groups.push("system:serviceaccounts".into());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    if user != ANONYMOUS && !groups.iter().any(|group| group == AUTHENTICATED) {
        groups.push(AUTHENTICATED.into());
    }
    Ok(Identity { user, groups })
}

async fn allow(
    state: &KubeState,
    caller: &Identity,
    resource: &str,
    namespace: &str,
    name: &str,
) -> Result<(), Status> {
    let request =
        Request { verb: "impersonate", group: "", resource, subresource: None, namespace, name };
    state.objects.authorize(caller, &request).await
}
