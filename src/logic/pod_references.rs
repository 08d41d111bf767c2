//! Which config maps, secrets and claims a pod names.
//!
//! A node may read exactly what its pods need; so this list is a matter of security, and
//! one place knows it.

use serde_json::Value;

/// A kind of object that a pod may name, in its own namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referred {
    ConfigMap,
    Secret,
    Claim,
}

fn list<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// Whether the pod names the object.
pub fn refers(pod: &Value, what: Referred, name: &str) -> bool {
    !name.is_empty() && names(pod, what).any(|found| found == name)
}

/// The names of all objects of a kind that the pod needs or may use.
pub fn names(pod: &Value, what: Referred) -> impl Iterator<Item = &str> {
    let (source, name_field, from, all, key) = match what {
        Referred::ConfigMap => {
            ("/configMap", "/configMap/name", "configMapRef", true, "configMapKeyRef")
        }
        Referred::Secret => ("/secret", "/secret/secretName", "secretRef", true, "secretKeyRef"),
        Referred::Claim => {
            ("/persistentVolumeClaim", "/persistentVolumeClaim/claimName", "", false, "")
        }
    };
    let volumes = list(pod, "/spec/volumes").filter_map(move |volume| volume.pointer(name_field));
    let projected = list(pod, "/spec/volumes")
        .flat_map(|volume| list(volume, "/projected/sources"))
        .filter_map(move |one| one.pointer(source)?.get("name"));
    let containers = ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"];
    let environment =
        containers.into_iter().flat_map(|at| list(pod, at)).flat_map(move |container| {
            let whole =
                list(container, "/envFrom").filter_map(move |one| one.get(from)?.get("name"));
            let single = list(container, "/env")
                .filter_map(move |one| one.pointer("/valueFrom")?.get(key)?.get("name"));
            whole.chain(single)
        });
    let pull = list(pod, "/spec/imagePullSecrets")
        .filter(move |_| what == Referred::Secret)
        .filter_map(|one| one.get("name"));
    let rest = projected.chain(environment).filter(move |_| all);
    volumes.chain(rest).chain(pull).filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_that_names_an_object_counts() {
        let pod = json!({"spec": {
            "volumes": [
                {"name": "a", "configMap": {"name": "m-volume"}},
                {"name": "b", "secret": {"secretName": "s-volume"}},
                {"name": "c", "projected": {"sources": [
                    {"configMap": {"name": "m-projected"}},
                    {"secret": {"name": "s-projected"}},
                    {"serviceAccountToken": {"path": "token"}},
                ]}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "e", "emptyDir": {}},
            ],
            "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "s-init"}}]}],
            "containers": [{"name": "c",
                "envFrom": [{"configMapRef": {"name": "m-all"}}],
                "env": [
                    {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m-key", "key": "k"}}},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s-key", "key": "k"}}},
                    {"name": "C", "value": "plain"},
                ]}],
            "imagePullSecrets": [{"name": "s-pull"}],
        }});
        let sorted = |what| {
            let mut found: Vec<&str> = names(&pod, what).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(sorted(Referred::ConfigMap), ["m-all", "m-key", "m-projected", "m-volume"]);
        assert_eq!(
            sorted(Referred::Secret),
            ["s-init", "s-key", "s-projected", "s-pull", "s-volume"]
        );
        assert_eq!(sorted(Referred::Claim), ["claim"]);
        assert!(refers(&pod, Referred::Secret, "s-key"));
        assert!(!refers(&pod, Referred::Secret, "m-key"));
        assert!(!refers(&pod, Referred::Secret, ""));
    }
}
