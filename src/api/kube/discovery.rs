//! What is served, in both of Kubernetes' discovery forms.
//!
//! The aggregated form (one document) is what kubectl asks for first; the plain one
//! (a document per group and version) is for everything else.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::accept;
use super::respond::json_response;
use crate::model::kinds::Kind;
use crate::model::kinds::custom::precedence;
use crate::model::status::Status;
use crate::objects::CustomKinds;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// `GET /version`.
pub(super) async fn version() -> impl IntoResponse {
    let version = json!({
        "major": "1",
        "minor": "32",
        "gitVersion": "v1.32.0+holdfast",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "linux/amd64",
    });
    // Scripts look for lines of it.
    ([(CONTENT_TYPE, "application/json")], format!("{version:#}"))
}

fn wants_aggregated(headers: &HeaderMap) -> bool {
    accept::ranges(headers).iter().any(|range| {
        range.is_json()
            && range.parameter("as") == Some("APIGroupDiscoveryList")
            && range.parameter("v") == Some("v2")
    })
}

/// What is served at the moment of one answer.
pub(super) struct Served(Vec<&'static Kind>);

impl Served {
    pub(super) fn of(kinds: &CustomKinds) -> Self {
        Self(kinds.all())
    }

    pub(super) fn kinds(&self) -> impl Iterator<Item = &'static Kind> + '_ {
        self.0.iter().copied()
    }

    /// The core group first, then in the order of the table.
    fn groups(&self) -> Vec<&'static str> {
        let mut groups = Vec::new();
        for kind in &self.0 {
            if !groups.contains(&kind.group) {
                groups.push(kind.group);
            }
        }
        groups
    }

    fn versions(&self, group: &str) -> Vec<&'static str> {
        let own: Vec<&Kind> = self.kinds().filter(|kind| kind.group == group).collect();
        let mut versions: Vec<&'static str> = Vec::new();
        for kind in &own {
            if !versions.contains(&kind.version) {
                versions.push(kind.version);
            }
        }
        if own.iter().any(|kind| kind.custom.is_some()) {
            versions.sort_by_cached_key(|version| precedence(version));
        }
        versions
    }

    /// Groups and their versions, the preferred first.
    pub(super) fn group_versions(&self) -> Vec<(&'static str, &'static str)> {
        let of_group =
            |group| self.versions(group).into_iter().map(move |version| (group, version));
        self.groups().into_iter().flat_map(of_group).collect()
    }

    /// By name, as Kubernetes lists them: `kubectl get all` follows this order.
    fn kinds_of(&self, group: &str, version: &str) -> Vec<&'static Kind> {
        let own = self.kinds().filter(|kind| kind.group == group && kind.version == version);
        let mut kinds: Vec<&'static Kind> = own.collect();
        kinds.sort_by_key(|kind| kind.plural);
        kinds
    }
}

/// `GET /api` (the core group) or `GET /apis` (all others).
pub(super) fn root(served: &Served, legacy: bool, headers: &HeaderMap) -> Response {
    if wants_aggregated(headers) {
        let groups = served.groups().into_iter().filter(|group| group.is_empty() == legacy);
        let items: Vec<Value> = groups.map(|group| aggregated_group(served, group)).collect();
        let body = json!({
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "metadata": {},
            "items": items,
        });
        let mut response = json_response(StatusCode::OK, &body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(AGGREGATED));
        return response;
    }
    let body = if legacy {
        json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
    } else {
        let named = served.groups().into_iter().filter(|group| !group.is_empty());
        let items: Vec<Value> = named.map(|group| plain_group(served, group)).collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": items})
    };
    json_response(StatusCode::OK, &body)
}

/// `GET /apis/GROUP`.
pub(super) fn group(served: &Served, name: &str) -> Result<Response, Status> {
    if !served.groups().contains(&name) {
        return Err(Status::unknown_resource());
    }
    let mut body = plain_group(served, name);
    body["kind"] = "APIGroup".into();
    body["apiVersion"] = "v1".into();
    Ok(json_response(StatusCode::OK, &body))
}

fn plain_group(served: &Served, group: &str) -> Value {
    let versions: Vec<Value> = served
        .versions(group)
        .into_iter()
        .map(|version| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
        .collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions[0]})
}

/// `GET /api/v1` or `GET /apis/GROUP/VERSION`.
pub(super) fn resources(served: &Served, group: &str, version: &str) -> Result<Response, Status> {
    let mut list = Vec::new();
    for kind in served.kinds_of(group, version) {
        list.push(json!({
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": kind.verbs,
            "shortNames": kind.short_names,
            "categories": kind.categories,
        }));
        for subresource in kind.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", kind.plural, subresource.name()),
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": subresource.verbs(),
            });
            if let Some((group, version, body)) = subresource.body_kind() {
                entry["group"] = group.into();
                entry["version"] = version.into();
                entry["kind"] = body.into();
            }
            list.push(entry);
        }
    }
    if list.is_empty() {
        return Err(Status::unknown_resource());
    }
    let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let body = json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": name,
        "resources": list,
    });
    Ok(json_response(StatusCode::OK, &body))
}

fn aggregated_group(served: &Served, group: &'static str) -> Value {
    let versions: Vec<Value> = served
        .versions(group)
        .into_iter()
        .map(|version| {
            let resources: Vec<Value> =
                served.kinds_of(group, version).into_iter().map(aggregated_kind).collect();
            json!({"version": version, "freshness": "Current", "resources": resources})
        })
        .collect();
    json!({"metadata": {"name": group}, "versions": versions})
}

fn aggregated_kind(kind: &Kind) -> Value {
    let own = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let subresources: Vec<Value> = kind
        .subresources
        .iter()
        .map(|subresource| {
            let response = match subresource.body_kind() {
                Some((group, version, kind)) => {
                    json!({"group": group, "version": version, "kind": kind})
                }
                None => own.clone(),
            };
            json!({
                "subresource": subresource.name(),
                "responseKind": response,
                "verbs": subresource.verbs(),
            })
        })
        .collect();
    let scope = if kind.namespaced { "Namespaced" } else { "Cluster" };
    json!({
        "resource": kind.plural,
        "responseKind": own,
        "scope": scope,
        "singularResource": kind.singular,
        "verbs": kind.verbs,
        "shortNames": kind.short_names,
        "categories": kind.categories,
        "subresources": subresources,
    })
}
