//! Kubernetes' `Status`: how the API says no, shared by server and client.
//!
//! Source: apimachinery `metav1.Status` and `api/errors`; clients match on `reason`
//! and `code`, people read `message`, so all three follow Kubernetes to the letter.

use serde::{Deserialize, Serialize};

/// One invalid or missing field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusCause {
    pub reason: String,
    pub message: String,
    pub field: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusDetails {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// A refusal (or, from a delete, a success) as the API prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct Status {
    pub kind: String,
    pub api_version: String,
    #[serde(default)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    pub status: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<StatusDetails>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub code: u16,
}

fn is_zero(code: &u16) -> bool {
    *code == 0
}

/// `plural` or `plural.group`, as Kubernetes names a resource in messages.
fn qualified(plural: &str, group: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

impl Status {
    /// A failure with the given HTTP code and machine-readable reason.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind: "Status".into(),
            api_version: "v1".into(),
            metadata: serde_json::Map::new(),
            status: "Failure".into(),
            message: message.into(),
            reason: reason.into(),
            details: None,
            code,
        }
    }

    fn about(mut self, plural: &str, group: &str, name: &str) -> Self {
        self.details = Some(StatusDetails {
            name: name.into(),
            group: group.into(),
            kind: plural.into(),
            ..StatusDetails::default()
        });
        self
    }

    pub fn not_found(plural: &str, group: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", qualified(plural, group));
        Self::failure(404, "NotFound", message).about(plural, group, name)
    }

    pub fn already_exists(plural: &str, group: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", qualified(plural, group));
        Self::failure(409, "AlreadyExists", message).about(plural, group, name)
    }

    pub fn conflict(plural: &str, group: &str, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            qualified(plural, group)
        );
        Self::failure(409, "Conflict", message).about(plural, group, name)
    }

    /// The update carried a resourceVersion that is no longer the newest.
    pub fn stale(plural: &str, group: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(plural, group, name, why)
    }

    /// 422 with one cause for each wrong field. `kind` is the CamelCase kind.
    pub fn invalid(kind: &str, group: &str, name: &str, causes: Vec<StatusCause>) -> Self {
        let list: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let text = if list.len() == 1 { list.concat() } else { format!("[{}]", list.join(", ")) };
        let message = format!("{} \"{name}\" is invalid: {text}", qualified(kind, group));
        let mut status = Self::failure(422, "Invalid", message).about(kind, group, name);
        if let Some(details) = &mut status.details {
            details.causes = causes;
        }
        status
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    pub fn forbidden(plural: &str, group: &str, name: &str, why: &str) -> Self {
        let subject = match name {
            "" => qualified(plural, group),
            name => format!("{} \"{name}\"", qualified(plural, group)),
        };
        let message = format!("{subject} is forbidden: {why}");
        Self::failure(403, "Forbidden", message).about(plural, group, name)
    }

    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    /// The asked revision was compacted away; the client must list again.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::failure(405, "MethodNotAllowed", message)
    }

    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::failure(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    /// Nobody can answer now (no leader, overload); the same request may be repeated.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    /// The write was sent, and nobody can say whether it happened.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::failure(504, "Timeout", message)
    }

    /// No such resource type; what a client gets for a misspelt one.
    pub fn unknown_resource() -> Self {
        Self::failure(404, "NotFound", "the server could not find the requested resource")
    }

    /// The success that a delete answers with.
    pub fn deleted(plural: &str, group: &str, name: &str, uid: &str) -> Self {
        let mut status = Self::failure(200, "", "").about(plural, group, name);
        status.status = "Success".into();
        status.code = 0;
        if let Some(details) = &mut status.details {
            details.uid = uid.into();
        }
        status
    }

    /// Tells clients when to come back, seconds.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }

    /// A lost race: another writer was first, or the object exists already.
    pub fn is_conflict(&self) -> bool {
        self.code == 409
    }

    pub fn is_expired(&self) -> bool {
        self.code == 410
    }
}
