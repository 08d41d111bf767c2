//! A container's environment, resolved as the kubelet does.
//!
//! Order: Service variables, `envFrom`, `env`; a later name replaces an earlier one.
//! `$(NAME)` is replaced by what was defined before it, `$$` stands for `$`, and an
//! unknown name stays as it is written.

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, PodSpec};

use super::AgentError;
use super::config_maps::ConfigMaps;
use super::labels::PodIdentity;
use super::quantity::{milli, milli_of, units_of};

/// What an environment may speak of.
#[derive(Debug)]
pub(crate) struct EnvContext<'a> {
    pub pod: &'a Pod,
    pub spec: &'a PodSpec,
    pub identity: &'a PodIdentity,
    pub host_ip: &'a str,
    pub pod_ip: &'a str,
    /// `KUBERNETES_SERVICE_HOST` and the port.
    pub api_service: (&'a str, u16),
    pub config_maps: &'a ConfigMaps,
    /// What `limits.cpu` means when there is no limit.
    pub node_cpu_milli: i64,
    pub node_memory_bytes: i64,
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
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let Some(reference) = &source.config_map_ref else {
            return Err(AgentError::config("envFrom: only configMapRef is supported"));
        };
        let optional = reference.optional.unwrap_or(false);
        if let Some(map) = config_map(context, &reference.name, optional).await? {
            for (key, value) in map.data.unwrap_or_default() {
                env.set(&format!("{prefix}{key}"), value);
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

async fn config_map(
    context: &EnvContext<'_>,
    name: &str,
    optional: bool,
) -> Result<Option<ConfigMap>, AgentError> {
    match context.config_maps.get(&context.identity.namespace, name).await? {
        None if !optional => Err(AgentError::config(format!("configmap \"{name}\" not found"))),
        found => Ok(found),
    }
}

async fn from_source(
    context: &EnvContext<'_>,
    container: &Container,
    source: &EnvVarSource,
) -> Result<Option<String>, AgentError> {
    if let Some(field) = &source.field_ref {
        return field_value(context, &field.field_path).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        let divisor = resource.divisor.as_ref().map_or("", |divisor| divisor.0.as_str());
        return resource_value(context, container, &resource.resource, divisor).map(Some);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional.unwrap_or(false);
        let Some(map) = config_map(context, &reference.name, optional).await? else {
            return Ok(None);
        };
        let value = map.data.and_then(|mut data| data.remove(&reference.key));
        if value.is_none() && !optional {
            let (key, name) = (&reference.key, &reference.name);
            let reason = format!("couldn't find key {key} in ConfigMap {name}");
            return Err(AgentError::config(reason));
        }
        return Ok(value);
    }
    Err(AgentError::config(
        "env: valueFrom supports fieldRef, resourceFieldRef and configMapKeyRef only",
    ))
}

/// `metadata.labels['app']` into its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

pub(crate) fn field_value(context: &EnvContext<'_>, path: &str) -> Result<String, AgentError> {
    let metadata = &context.pod.metadata;
    if let Some((map, key)) = subscript(path) {
        let entries = match map {
            "metadata.labels" => metadata.labels.as_ref(),
            "metadata.annotations" => metadata.annotations.as_ref(),
            _ => return Err(AgentError::config(format!("fieldPath {path} is not supported"))),
        };
        return Ok(entries.and_then(|all| all.get(key)).cloned().unwrap_or_default());
    }
    let value = match path {
        "metadata.name" => context.identity.name.clone(),
        "metadata.namespace" => context.identity.namespace.clone(),
        "metadata.uid" => context.identity.uid.clone(),
        "spec.nodeName" => context.spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => {
            context.spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned())
        }
        "status.hostIP" | "status.hostIPs" => context.host_ip.to_owned(),
        "status.podIP" | "status.podIPs" => context.pod_ip.to_owned(),
        _ => return Err(AgentError::config(format!("fieldPath {path} is not supported"))),
    };
    Ok(value)
}

fn resource_value(
    context: &EnvContext<'_>,
    container: &Container,
    resource: &str,
    divisor: &str,
) -> Result<String, AgentError> {
    let resources = container.resources.clone().unwrap_or_default();
    let (limits, requests) = (resources.limits.as_ref(), resources.requests.as_ref());
    let amount_milli: i128 = match resource {
        "limits.cpu" => milli_of(limits, "cpu").unwrap_or(context.node_cpu_milli).into(),
        "requests.cpu" => milli_of(requests, "cpu").unwrap_or(0).into(),
        "limits.memory" => {
            let bytes = units_of(limits, "memory").unwrap_or(context.node_memory_bytes);
            i128::from(bytes) * 1_000
        }
        "requests.memory" => i128::from(units_of(requests, "memory").unwrap_or(0)) * 1_000,
        _ => return Err(AgentError::config(format!("resource {resource} is not supported"))),
    };
    let divisor_milli = match milli(divisor) {
        Some(value) if value > 0 => value,
        _ => 1_000,
    };
    Ok(((amount_milli + divisor_milli - 1) / divisor_milli).to_string())
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

    #[test]
    fn subscripts_are_read() {
        assert_eq!(subscript("metadata.labels['a/b']"), Some(("metadata.labels", "a/b")));
        assert_eq!(subscript("metadata.name"), None);
    }
}
