//! Answers to "who am I" and "may I": `kubectl auth whoami`, `kubectl auth can-i`.
//!
//! Invariants: the answer is that of the authorizer which judges requests; nobody learns
//! the rights of others but an administrator; nothing is stored.

use serde_json::{Value, json};

use crate::model::kinds::Kind;
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
            json!({"userInfo": {"username": asker.user, "groups": with_authenticated(asker)}})
        }
        "SelfSubjectAccessReview" => access_of(objects, asker, &spec).await?,
        "SelfSubjectRulesReview" => rules_of(asker),
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
            // Certificates say who somebody is; there is no issuer of tokens.
            json!({"authenticated": false, "user": {}, "error": "no token is known here"})
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

/// Everybody whom a certificate names is in this group.
fn with_authenticated(identity: &Identity) -> Vec<String> {
    let mut groups = identity.groups.clone();
    let known = groups.iter().any(|group| group == "system:authenticated");
    if !known && identity.user != "system:anonymous" {
        groups.push("system:authenticated".into());
    }
    groups
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
    Ok(Identity { user, groups })
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
            match objects.authorize(subject, &request).await {
                Ok(()) => Ok(json!({"allowed": true})),
                // No reason, as Kubernetes gives none: nothing speaks for it.
                Err(status) if status.code == 403 => Ok(json!({"allowed": false})),
                Err(status) => Err(status),
            }
        }
        (None, Some(asked)) => Ok(
            json!({"allowed": access::may_get(subject, text(asked, "/verb"), text(asked, "/path"))}),
        ),
        _ => Err(Status::bad_request(
            "spec.resourceAttributes: Invalid value: \"null\": exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
    }
}

/// What somebody may do, as rules.
fn rules_of(asker: &Identity) -> Value {
    let rule = |verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]| {
        let mut rule = json!({"verbs": verbs, "apiGroups": groups, "resources": resources});
        if !names.is_empty() {
            rule["resourceNames"] = json!(names);
        }
        rule
    };
    let mut resources = vec![
        rule(&["create"], &["authentication.k8s.io"], &["selfsubjectreviews"], &[]),
        rule(
            &["create"],
            &["authorization.k8s.io"],
            &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
            &[],
        ),
    ];
    let mut urls = vec![json!({"verbs": ["get"], "nonResourceURLs": access::OPEN_URLS})];
    // The rights of a node to its own pods depend on the pods: no rule can say them.
    let mut incomplete = false;
    if asker.is_master() {
        resources.push(rule(&["*"], &["*"], &["*"], &[]));
        urls.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    } else if let Some(node) = asker.node() {
        incomplete = true;
        let writes = ["create", "update", "patch"];
        resources.push(rule(&["get", "list", "watch"], &["*"], &["*"], &[]));
        resources.push(rule(&writes, &[""], &["nodes", "nodes/status"], &[node]));
        resources.push(rule(&writes, &["coordination.k8s.io"], &["leases"], &[node]));
        resources.push(rule(&writes, &[""], &["events"], &[]));
    }
    json!({
        "resourceRules": resources, "nonResourceRules": urls, "incomplete": incomplete,
    })
}
