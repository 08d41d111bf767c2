//! Reads a resource path.
//!
//! ```text
//! /api/v1/[namespaces/NS/]PLURAL[/NAME[/SUBRESOURCE]]
//! /apis/GROUP/VERSION/[namespaces/NS/]PLURAL[/NAME[/SUBRESOURCE]]
//! ```
//! `namespaces/NS` followed by nothing, `status` or `finalize` is the namespace itself.

use crate::model::kinds::{Kind, Subresource};

/// What a path is about.
#[derive(Clone, Debug)]
pub(super) enum Path {
    /// `/api` or `/apis`.
    Root {
        legacy: bool,
    },
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1` or `/apis/GROUP/VERSION`.
    GroupVersion {
        group: String,
        version: String,
    },
    Resource(Resource),
    Unknown,
}

/// A resource, one object or a part of one.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) kind: &'static Kind,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<Subresource>,
}

/// Finds the kind at a group, a version and a plural.
pub(super) trait Find: Fn(&str, &str, &str) -> Option<&'static Kind> {}
impl<F: Fn(&str, &str, &str) -> Option<&'static Kind>> Find for F {}

fn split(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

/// Group, version and plural of a path in a named group, whether they are served or not.
pub(super) fn named(path: &str) -> Option<(&str, &str, &str)> {
    match split(path).as_slice() {
        ["apis", group, version, "namespaces", _, plural, ..]
        | ["apis", group, version, plural, ..] => Some((group, version, plural)),
        _ => None,
    }
}

pub(super) fn parse(path: &str, find: &impl Find) -> Path {
    let segments = split(path);
    match segments.as_slice() {
        ["api"] => Path::Root { legacy: true },
        ["apis"] => Path::Root { legacy: false },
        ["api", version] => {
            Path::GroupVersion { group: String::new(), version: (*version).to_owned() }
        }
        ["apis", group] => Path::Group((*group).to_owned()),
        ["apis", group, version] => {
            Path::GroupVersion { group: (*group).to_owned(), version: (*version).to_owned() }
        }
        ["api", version, rest @ ..] => resource("", version, rest, find),
        ["apis", group, version, rest @ ..] => resource(group, version, rest, find),
        _ => Path::Unknown,
    }
}

fn resource(group: &str, version: &str, rest: &[&str], find: &impl Find) -> Path {
    let in_namespace = match rest {
        ["namespaces", _, part] => {
            !(group.is_empty() && (*part == "status" || *part == "finalize"))
        }
        ["namespaces", _, _, ..] => true,
        _ => false,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if in_namespace => (Some(*namespace), rest),
        rest => (None, rest),
    };
    let [plural, rest @ ..] = rest else { return Path::Unknown };
    let Some(kind) = find(group, version, plural) else { return Path::Unknown };
    if namespace.is_some() && !kind.namespaced {
        return Path::Unknown;
    }
    let (name, subresource) = match rest {
        [] => (None, None),
        [name] => (Some(*name), None),
        [name, part] => match kind.subresource(part) {
            Some(subresource) => (Some(*name), Some(subresource)),
            None => return Path::Unknown,
        },
        _ => return Path::Unknown,
    };
    if name.is_some() && kind.namespaced && namespace.is_none() {
        return Path::Unknown;
    }
    Path::Resource(Resource {
        kind,
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        subresource,
    })
}

#[cfg(test)]
mod tests {
    use super::Path;
    use crate::model::kinds::{Subresource, by_path};

    fn parse(path: &str) -> Path {
        super::parse(path, &by_path)
    }

    #[test]
    fn paths_are_read_as_kubernetes_reads_them() {
        let Path::Resource(pod) = parse("/api/v1/namespaces/a/pods/b/status") else {
            panic!("a pod's status is a resource")
        };
        assert_eq!(
            (pod.kind.kind, pod.namespace.as_deref(), pod.name.as_deref(), pod.subresource),
            ("Pod", Some("a"), Some("b"), Some(Subresource::Status))
        );
        let Path::Resource(namespace) = parse("/api/v1/namespaces/a/finalize") else {
            panic!("a namespace's finalize is a resource")
        };
        assert_eq!((namespace.kind.kind, namespace.name.as_deref()), ("Namespace", Some("a")));
        let Path::Resource(list) = parse("/apis/apps/v1/deployments") else {
            panic!("all deployments are a resource")
        };
        assert_eq!((list.kind.kind, list.name), ("Deployment", None));
        for unknown in ["/api/v1/pods/x", "/api/v1/nodes/x/scale", "/apis/apps/v2/deployments"] {
            assert!(matches!(parse(unknown), Path::Unknown), "{unknown}");
        }
    }
}
