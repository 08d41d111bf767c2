//! What a pod may know of itself: fields and resources, for variables and for files.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::AgentError;
use super::labels::PodIdentity;
use crate::logic::amount::{milli, milli_of, units_of};

/// The pod, and where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Downward<'a> {
    pub pod: &'a Pod,
    pub spec: &'a PodSpec,
    pub identity: &'a PodIdentity,
    pub host_ip: &'a str,
    pub pod_ip: &'a str,
    /// What `limits.cpu` means when there is no limit.
    pub node_cpu_milli: i64,
    pub node_memory_bytes: i64,
}

/// `metadata.labels['app']` into its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

impl Downward<'_> {
    /// A field of the pod as a variable has it.
    pub(crate) fn field(&self, path: &str) -> Result<String, AgentError> {
        let metadata = &self.pod.metadata;
        if let Some((map, key)) = subscript(path) {
            let entries = match map {
                "metadata.labels" => metadata.labels.as_ref(),
                "metadata.annotations" => metadata.annotations.as_ref(),
                _ => return Err(unsupported(path)),
            };
            return Ok(entries.and_then(|all| all.get(key)).cloned().unwrap_or_default());
        }
        let value = match path {
            "metadata.name" => self.identity.name.clone(),
            "metadata.namespace" => self.identity.namespace.clone(),
            "metadata.uid" => self.identity.uid.clone(),
            "spec.nodeName" => self.spec.node_name.clone().unwrap_or_default(),
            "spec.serviceAccountName" => {
                let name = self.spec.service_account_name.clone();
                name.unwrap_or_else(|| "default".to_owned())
            }
            "status.hostIP" | "status.hostIPs" => self.host_ip.to_owned(),
            "status.podIP" | "status.podIPs" => self.pod_ip.to_owned(),
            _ => return Err(unsupported(path)),
        };
        Ok(value)
    }

    /// A field as a file has it: labels and annotations also whole, a line each.
    pub(crate) fn file(&self, path: &str) -> Result<String, AgentError> {
        let metadata = &self.pod.metadata;
        let entries = match path {
            "metadata.labels" => metadata.labels.as_ref(),
            "metadata.annotations" => metadata.annotations.as_ref(),
            path => return self.field(path),
        };
        let lines = entries.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// A request or limit of a container in units of the divisor, rounded up.
    pub(crate) fn resource(
        &self,
        container: &Container,
        resource: &str,
        divisor: &str,
    ) -> Result<String, AgentError> {
        let resources = container.resources.clone().unwrap_or_default();
        let (side, name) = resource.split_once('.').unwrap_or_default();
        let list = match side {
            "limits" => resources.limits.as_ref(),
            "requests" => resources.requests.as_ref(),
            _ => return Err(AgentError::config(format!("resource {resource} is not supported"))),
        };
        let whole =
            |list, default: i64| i128::from(units_of(list, name).unwrap_or(default)) * 1_000;
        let amount_milli: i128 = match (side, name) {
            ("limits", "cpu") => milli_of(list, "cpu").unwrap_or(self.node_cpu_milli).into(),
            ("requests", "cpu") => milli_of(list, "cpu").unwrap_or(0).into(),
            ("limits", "memory") => whole(list, self.node_memory_bytes),
            ("requests", "memory") | (_, "ephemeral-storage") => whole(list, 0),
            (_, name) if name.starts_with("hugepages-") => whole(list, 0),
            _ => return Err(AgentError::config(format!("resource {resource} is not supported"))),
        };
        let divisor_milli = match milli(divisor) {
            Some(value) if value > 0 => value,
            _ => 1_000,
        };
        Ok(((amount_milli + divisor_milli - 1) / divisor_milli).to_string())
    }

    /// The same for a container that is named, as files do it.
    pub(crate) fn resource_of(
        &self,
        name: &str,
        resource: &str,
        divisor: &str,
    ) -> Result<String, AgentError> {
        let inits = self.spec.init_containers.iter().flatten();
        let found = inits.chain(&self.spec.containers).find(|container| container.name == name);
        match found {
            Some(container) => self.resource(container, resource, divisor),
            None => Err(AgentError::config(format!("container {name} not found"))),
        }
    }
}

fn unsupported(path: &str) -> AgentError {
    AgentError::config(format!("fieldPath {path} is not supported"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_and_resources_are_told_as_variables_and_as_files() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {"b": "2", "a": "say \"x\""}},
            "spec": {"containers": [{"name": "c", "resources": {
                "limits": {"cpu": "1500m", "memory": "64Mi"}}}]},
        }))
        .unwrap();
        let identity = PodIdentity { namespace: "ns".into(), name: "p".into(), uid: "u".into() };
        let downward = Downward {
            pod: &pod,
            spec: pod.spec.as_ref().unwrap(),
            identity: &identity,
            host_ip: "10.0.0.1",
            pod_ip: "10.1.0.2",
            node_cpu_milli: 4_000,
            node_memory_bytes: 1 << 30,
        };
        assert_eq!(downward.file("metadata.labels").unwrap(), "a=\"say \\\"x\\\"\"\nb=\"2\"");
        assert_eq!(downward.field("metadata.labels['b']").unwrap(), "2");
        assert_eq!(downward.file("status.podIP").unwrap(), "10.1.0.2");
        assert!(downward.field("metadata.labels").is_err());
        let of = |resource, divisor| downward.resource_of("c", resource, divisor).unwrap();
        assert_eq!(of("limits.cpu", ""), "2");
        assert_eq!(of("limits.cpu", "1m"), "1500");
        assert_eq!(of("limits.memory", "1Mi"), "64");
        assert_eq!(of("requests.cpu", ""), "0");
        assert_eq!(of("limits.ephemeral-storage", ""), "0");
        assert!(downward.resource_of("x", "limits.cpu", "").is_err());
        assert!(downward.resource_of("c", "limits.wood", "").is_err());
    }

    #[test]
    fn subscripts_are_read() {
        assert_eq!(subscript("metadata.labels['a/b']"), Some(("metadata.labels", "a/b")));
        assert_eq!(subscript("metadata.name"), None);
    }
}
