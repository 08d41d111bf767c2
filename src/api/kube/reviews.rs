//! Answers to "who am I" and "may I": `kubectl auth whoami`, `kubectl auth can-i`.
//!
//! Invariants: the answer is that of the authorizer which judges requests; nobody learns
//! the rights of others but an administrator; nothing is stored.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::model::kinds::Kind;
use crate::model::rbac::Rule;
use crate::model::status::Status;
use crate::objects::Objects;
use crate::objects::access::{self, Identity, Request};

/// The question with its answer in `status`.
pub(super) async fn answer(
    objects: &Objects,
    asker: &Identity,
    kind: &Kind,
    namespace: Option<&str>,
    question: Value,
) -> Result<Value, Status> {
    let spec = question.get("spec").cloned().unwrap_or_else(|| json!({}));
    let status = match kind.kind {
        "SelfSubjectReview" => {
            json!({"userInfo": user_info(asker)})
        }
        "SelfSubjectAccessReview" => access_of(objects, asker, &spec).await?,
        "SelfSubjectRulesReview" => rules_of(objects, asker, text(&spec, "/namespace")).await?,
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            of_others(objects, asker, kind, namespace).await?;
            if let Some(namespace) = namespace
                && text(&spec, "/resourceAttributes/namespace") != namespace
            {
                return Err(Status::bad_request(
                    "spec.resourceAttributes.namespace must match the namespace of the request",
                ));
            }
            let subject = subject(&spec)?;
            access_of(objects, &subject, &spec).await?
        }
        "TokenReview" => {
            of_others(objects, asker, kind, namespace).await?;
            if text(&spec, "/token").is_empty() {
                return Err(Status::bad_request("spec.token: Required value"));
            }
            token_of(objects, &spec).await?
        }
        _ => return Err(Status::method_not_allowed()),
    };
    let mut answer = question;
    answer["apiVersion"] = kind.api_version().into();
    answer["kind"] = kind.kind.into();
    answer["metadata"] = json!({"creationTimestamp": null});
    answer["status"] = status;
    Ok(answer)
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// `UserInfo`, without what is empty.
fn user_info(identity: &Identity) -> Value {
    let mut info = json!({"username": identity.user});
    if !identity.uid.is_empty() {
        info["uid"] = identity.uid.as_str().into();
    }
    if !identity.groups.is_empty() {
        info["groups"] = identity.groups.clone().into();
    }
    if !identity.extra.is_empty() {
        info["extra"] = json!(identity.extra);
    }
    info
}

/// Whose token it is.
async fn token_of(objects: &Objects, spec: &Value) -> Result<Value, Status> {
    let named = spec.get("audiences").and_then(Value::as_array).into_iter().flatten();
    let audiences: Vec<String> = named.filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(match objects.authenticate(text(spec, "/token"), &audiences).await? {
        Some(found) => json!({
            "authenticated": true,
            "user": user_info(&found.identity),
            "audiences": found.audiences,
        }),
        None => json!({
            "authenticated": false,
            "user": {},
            "error": "the token is invalid, expired or for another audience",
        }),
    })
}

/// Asking about others is itself a right.
async fn of_others(
    objects: &Objects,
    asker: &Identity,
    kind: &Kind,
    namespace: Option<&str>,
) -> Result<(), Status> {
    let request = Request {
        verb: "create",
        group: kind.group,
        resource: kind.plural,
        subresource: None,
        namespace: namespace.unwrap_or_default(),
        name: "",
    };
    objects.authorize(asker, &request).await
}

fn subject(spec: &Value) -> Result<Identity, Status> {
    let user = text(spec, "/user").to_owned();
    let groups = spec.get("groups").and_then(Value::as_array).into_iter().flatten();
    let groups: Vec<String> = groups.filter_map(Value::as_str).map(str::to_owned).collect();
    if user.is_empty() && groups.is_empty() {
        return Err(Status::bad_request(
            "spec.user: Invalid value: \"\": at least one of user or group must be specified",
        ));
    }
    let uid = text(spec, "/uid").to_owned();
    let extra = spec.get("extra").cloned().filter(|extra| !extra.is_null());
    let extra = match extra {
        Some(extra) => serde_json::from_value(extra)
            .map_err(|error| Status::bad_request(format!("spec.extra: {error}")))?,
        None => BTreeMap::new(),
    };
    // The groups are those that are named: nothing is added to what somebody asks about.
    Ok(Identity { user, uid, groups, extra })
}

/// Whether the authorizer would let the request pass.
async fn access_of(objects: &Objects, subject: &Identity, spec: &Value) -> Result<Value, Status> {
    let resource = spec.get("resourceAttributes").filter(|value| !value.is_null());
    let url = spec.get("nonResourceAttributes").filter(|value| !value.is_null());
    match (resource, url) {
        (Some(asked), None) => {
            let subresource = Some(text(asked, "/subresource")).filter(|name| !name.is_empty());
            let request = Request {
                verb: text(asked, "/verb"),
                group: text(asked, "/group"),
                resource: text(asked, "/resource"),
                subresource,
                namespace: text(asked, "/namespace"),
                name: text(asked, "/name"),
            };
            Ok(allowed(objects.access(subject, &request).await?))
        }
        (None, Some(asked)) => {
            let (verb, path) = (text(asked, "/verb"), text(asked, "/path"));
            Ok(allowed(objects.access_url(subject, verb, path).await?))
        }
        _ => Err(Status::bad_request(
            "spec.resourceAttributes: Invalid value: \"null\": exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
    }
}

/// Why not is not said, as Kubernetes does not: nothing speaks for it.
fn allowed(ground: Option<String>) -> Value {
    match ground {
        Some(reason) if reason.is_empty() => json!({"allowed": true}),
        Some(reason) => json!({"allowed": true, "reason": reason}),
        None => json!({"allowed": false}),
    }
}

/// What somebody may do in a namespace, as rules.
async fn rules_of(objects: &Objects, asker: &Identity, namespace: &str) -> Result<Value, Status> {
    let mut rules = objects.rules_for(asker, namespace).await?;
    // The rights of a node to its own pods depend on the pods: no rule can say them.
    let incomplete = asker.node().is_some() && !asker.is_master();
    if asker.is_master() {
        rules.extend(Rule::all());
    } else if let Some(node) = asker.node() {
        let writes = ["create", "update", "patch"];
        rules.push(Rule::urls(&["get"], access::OPEN_URLS));
        rules.push(Rule::resources(&["get", "list", "watch"], &["*"], &["*"]));
        rules.push(Rule::resources(&writes, &[""], &["nodes", "nodes/status"]).named(&[node]));
        rules.push(Rule::resources(&writes, &["coordination.k8s.io"], &["leases"]).named(&[node]));
        rules.push(Rule::resources(&writes, &[""], &["events"]));
    }
    let (resources, urls): (Vec<Rule>, Vec<Rule>) =
        rules.into_iter().partition(|rule| rule.non_resource_urls.is_empty());
    Ok(json!({
        "resourceRules": resources, "nonResourceRules": urls, "incomplete": incomplete,
    }))
}
