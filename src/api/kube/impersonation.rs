//! Acting as somebody else: the `Impersonate-*` headers (`kubectl --as`).
//!
//! Invariants: whoever sends them must be allowed to impersonate each user, group, uid,
//! extra value and service account named; what is done is then judged by the rights of
//! the other alone.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::KubeState;
use crate::model::status::Status;
use crate::objects::access::{ACCOUNT_PREFIX, Identity, Request};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
/// Where the rights to impersonate uids and extra values stand.
const AUTHENTICATION: &str = "authentication.k8s.io";

fn text(value: &http::HeaderValue) -> Result<String, Status> {
    let text = value.to_str().map_err(|_| Status::bad_request("a header is not text"))?;
    Ok(text.to_owned())
}

/// Undoes the percent signs of a header's name.
fn unescape(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let code = tail.get(..2).and_then(|code| std::str::from_utf8(code).ok())?;
            bytes.push(u8::from_str_radix(code, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

fn extra_of(headers: &HeaderMap) -> Result<BTreeMap<String, Vec<String>>, Status> {
    let mut extra = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        let key = unescape(key).filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| Status::bad_request(format!("{name} names no key")))?;
        extra.entry(key.to_lowercase()).or_default().push(text(value)?);
    }
    Ok(extra)
}

/// Whose rights are asked for instead of the caller's, if any and if allowed.
pub(super) async fn identity(
    state: &KubeState,
    caller: &Identity,
    headers: &HeaderMap,
) -> Result<Option<Identity>, Status> {
    let user = headers.get(USER).map(text).transpose()?.unwrap_or_default();
    let uid = headers.get(UID).map(text).transpose()?.unwrap_or_default();
    let asked: Result<Vec<String>, Status> = headers.get_all(GROUP).iter().map(text).collect();
    let (mut groups, extra) = (asked?, extra_of(headers)?);
    if user.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(None);
        }
        return Err(Status::bad_request(
            "groups, uid or extra cannot be impersonated without a user",
        ));
    }
    let account = user.strip_prefix(ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':'));
    let core =
        |resource, namespace, name| Asked { group: "", resource, part: None, namespace, name };
    match account {
        Some((namespace, name)) => {
            allow(state, caller, core("serviceaccounts", namespace, name)).await?;
        }
        None => allow(state, caller, core("users", "", &user)).await?,
    }
    for group in &groups {
        allow(state, caller, core("groups", "", group)).await?;
    }
    let special =
        |resource, part, name| Asked { group: AUTHENTICATION, resource, part, namespace: "", name };
    if !uid.is_empty() {
        allow(state, caller, special("uids", None, &uid)).await?;
    }
    for (key, values) in &extra {
        for value in values {
            allow(state, caller, special("userextras", Some(key), value)).await?;
        }
    }
    if let (Some((namespace, _)), true) = (account, groups.is_empty()) {
        groups.push("system:serviceaccounts".into());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    Ok(Some(Identity { user, uid, groups, extra }.authenticated()))
}

struct Asked<'a> {
    group: &'a str,
    resource: &'a str,
    part: Option<&'a str>,
    namespace: &'a str,
    name: &'a str,
}

async fn allow(state: &KubeState, caller: &Identity, asked: Asked<'_>) -> Result<(), Status> {
    let Asked { group, resource, part, namespace, name } = asked;
    let request =
        Request { verb: "impersonate", group, resource, subresource: part, namespace, name };
    state.objects.authorize(caller, &request).await
}
