//! Query parameters of resource requests.
//!
//! Invariant: a parameter that cannot be read is refused, never ignored; unknown ones
//! are ignored, as Kubernetes does.

use std::collections::HashMap;

use http::HeaderMap;
use http::header::USER_AGENT;

use crate::model::kinds::Kind;
use crate::model::status::Status;
use crate::objects::fields::FieldValidation;
use crate::objects::{ListRequest, WatchRequest, WriteOptions};

/// Longest name of a field manager.
const MANAGER_MAX: usize = 128;

/// The parameters by name; of a repeated one the last.
#[derive(Clone, Debug, Default)]
pub(super) struct Options(pub(super) HashMap<String, String>);

impl Options {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Status> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => Err(invalid(name, other)),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        self.get(name).map(|text| text.parse().map_err(|_| invalid(name, text))).transpose()
    }

    /// How to write; `headers` name the writer where the query does not.
    pub(super) fn write(&self, headers: &HeaderMap) -> Result<WriteOptions, Status> {
        Ok(WriteOptions { dry_run: self.dry_run()?, manager: self.manager(headers)?, author: None })
    }

    pub(super) fn dry_run(&self) -> Result<bool, Status> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(invalid("dryRun", other)),
        }
    }

    /// `fieldManager`, or the program's name from the User-Agent.
    fn manager(&self, headers: &HeaderMap) -> Result<String, Status> {
        if let Some(manager) = self.get("fieldManager") {
            if manager.chars().count() > MANAGER_MAX || manager.chars().any(char::is_control) {
                return Err(invalid("fieldManager", manager));
            }
            return Ok(manager.to_owned());
        }
        let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        let name = agent.unwrap_or_default().split('/').next().unwrap_or_default();
        Ok(name.chars().filter(|letter| !letter.is_control()).take(MANAGER_MAX).collect())
    }

    pub(super) fn field_validation(&self) -> Result<FieldValidation, Status> {
        match self.get("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some(other) => Err(invalid("fieldValidation", other)),
        }
    }

    /// The one name that a field selector asks for: RBAC judges by it.
    pub(super) fn only_name(&self) -> &str {
        let parts = self.get("fieldSelector").unwrap_or_default().split(',');
        let named = |part: &'_ str| part.trim().starts_with("metadata.name=");
        let found = parts.clone().find(|part| named(part)).unwrap_or_default();
        found.split_once('=').map(|(_, name)| name.trim_start_matches('=')).unwrap_or_default()
    }

    pub(super) fn list(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
    ) -> Result<ListRequest, Status> {
        let labels = self.get("labelSelector").unwrap_or_default();
        let fields = self.get("fieldSelector").unwrap_or_default();
        let limit = self.number("limit")?.unwrap_or_default();
        Ok(ListRequest {
            limit: usize::try_from(limit).unwrap_or_default(),
            continue_token: self.get("continue").map(str::to_owned),
            resource_version: self.get("resourceVersion").map(str::to_owned),
            exact: self.get("resourceVersionMatch") == Some("Exact"),
            ..ListRequest::selecting(kind, namespace, labels, fields)?
        })
    }

    pub(super) fn watch(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
    ) -> Result<WatchRequest, Status> {
        Ok(WatchRequest {
            send_initial_events: self.flag("sendInitialEvents")?,
            bookmarks: self.flag("allowWatchBookmarks")?,
            ..WatchRequest::of(self.list(kind, namespace)?)
        })
    }
}

fn invalid(name: &str, value: &str) -> Status {
    Status::bad_request(format!("{name}: Invalid value: {value:?}"))
}
