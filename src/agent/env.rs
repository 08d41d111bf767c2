//! A container's environment, resolved as the kubelet does.
//!
//! Order: Service variables, `envFrom`, `env`; a later name replaces an earlier one.
//! `$(NAME)` is replaced by what was defined before it, `$$` stands for `$`, and an
//! unknown name stays as it is written.

use k8s_openapi::api::core::v1::{Container, EnvVarSource};

use super::AgentError;
use super::downward::Downward;
use super::references::{Content, References, Referent};

/// What an environment may speak of.
#[derive(Debug)]
pub(crate) struct EnvContext<'a> {
    /// What the pod may know of itself.
    pub downward: &'a Downward<'a>,
    /// `KUBERNETES_SERVICE_HOST` and the port.
    pub api_service: (&'a str, u16),
    pub references: &'a References,
}

/// In order, each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment(Vec<(String, String)>);

impl Environment {
    pub(crate) fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `NAME=value` lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Replaces `$(NAME)`.
    pub(crate) fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let tail = &rest[at + 1..];
            if let Some(after) = tail.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some((name, after)) =
                tail.strip_prefix('(').and_then(|inner| inner.split_once(')'))
            {
                match self.get(name) {
                    Some(value) => out.push_str(value),
                    None => out.push_str(&format!("$({name})")),
                }
                rest = after;
            } else {
                out.push('$');
                rest = tail;
            }
        }
        out.push_str(rest);
        out
    }
}

/// Resolves everything; an error names what is missing.
pub(crate) async fn environment(
    context: &EnvContext<'_>,
    container: &Container,
) -> Result<Environment, AgentError> {
    let mut env = Environment::default();
    let (host, port) = context.api_service;
    env.set("KUBERNETES_SERVICE_HOST", host.to_owned());
    env.set("KUBERNETES_SERVICE_PORT", port.to_string());
    env.set("KUBERNETES_SERVICE_PORT_HTTPS", port.to_string());
    env.set("KUBERNETES_PORT", format!("tcp://{host}:{port}"));
    let name = format!("KUBERNETES_PORT_{port}_TCP");
    env.set(&name, format!("tcp://{host}:{port}"));
    env.set(&format!("{name}_ADDR"), host.to_owned());
    env.set(&format!("{name}_PORT"), port.to_string());
    env.set(&format!("{name}_PROTO"), "tcp".to_owned());
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let (what, name, optional) = match (&source.config_map_ref, &source.secret_ref) {
            (Some(map), _) => (Referent::ConfigMap, &map.name, map.optional),
            (None, Some(secret)) => (Referent::Secret, &secret.name, secret.optional),
            (None, None) => return Err(AgentError::config("envFrom names no source")),
        };
        let optional = optional.unwrap_or(false);
        if let Some(content) = demand(context, what, name, optional).await? {
            for (key, value) in content {
                // Bytes that are no text cannot stand in an environment.
                if let Ok(value) = String::from_utf8(value) {
                    env.set(&format!("{prefix}{key}"), value);
                }
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value_from, &variable.value) {
            (Some(source), _) => from_source(context, container, source).await?,
            (None, value) => Some(env.expand(value.as_deref().unwrap_or_default())),
        };
        if let Some(value) = value {
            env.set(&variable.name, value);
        }
    }
    Ok(env)
}

async fn demand(
    context: &EnvContext<'_>,
    what: Referent,
    name: &str,
    optional: bool,
) -> Result<Option<Content>, AgentError> {
    context.references.demand(what, &context.downward.identity.namespace, name, optional).await
}

async fn from_source(
    context: &EnvContext<'_>,
    container: &Container,
    source: &EnvVarSource,
) -> Result<Option<String>, AgentError> {
    if let Some(field) = &source.field_ref {
        return context.downward.field(&field.field_path).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        let divisor = resource.divisor.as_ref().map_or("", |divisor| divisor.0.as_str());
        return context.downward.resource(container, &resource.resource, divisor).map(Some);
    }
    let (what, name, key, optional) = match (&source.config_map_key_ref, &source.secret_key_ref) {
        (Some(one), _) => (Referent::ConfigMap, &one.name, &one.key, one.optional),
        (None, Some(one)) => (Referent::Secret, &one.name, &one.key, one.optional),
        (None, None) => {
            return Err(AgentError::config(
                "env: valueFrom supports fieldRef, resourceFieldRef, configMapKeyRef and \
                 secretKeyRef only",
            ));
        }
    };
    let optional = optional.unwrap_or(false);
    let Some(mut content) = demand(context, what, name, optional).await? else {
        return Ok(None);
    };
    match content.remove(key) {
        Some(value) => String::from_utf8(value).map(Some).map_err(|_| {
            AgentError::config(format!("key {key} in {} {name} is no text", what.title()))
        }),
        None if optional => Ok(None),
        None => {
            let title = what.title();
            Err(AgentError::config(format!("couldn't find key {key} in {title} {name}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_once_and_unknown_ones_stay() {
        let mut env = Environment::default();
        env.set("A", "1".into());
        env.set("B", "$(A)".into());
        assert_eq!(env.expand("x$(A)y$$(A)$(NONE)$"), "x1y$(A)$(NONE)$");
        assert_eq!(env.expand("$(B)"), "$(A)");
        assert_eq!(env.expand("$(A"), "$(A");
        env.set("A", "2".into());
        assert_eq!(env.lines(), ["A=2", "B=$(A)"]);
    }
}
