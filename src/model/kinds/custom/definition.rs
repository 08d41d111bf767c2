//! Reads a definition: which kinds it makes, and what stands behind each.

use std::cmp::Reverse;
use std::sync::Arc;

use serde_json::Value;

use super::super::table::custom_kind;
use super::super::{Kind, Subresource};
use super::json_path::JsonPath;
use super::node::Node;
use super::{Custom, ScalePaths, Slot, columns, shape};
use crate::model::schema::intern;

/// What of a kind is kept for ever: two definitions that agree in it share one kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    group: String,
    version: String,
    kind: String,
    plural: String,
    singular: String,
    short_names: Vec<String>,
    categories: Vec<String>,
    namespaced: bool,
    has_status: bool,
    has_scale: bool,
    /// Names and JSON pointers of fields that selectors may name.
    fields: Vec<(String, String)>,
}

/// One version of a definition.
#[derive(Clone, Debug)]
pub struct Version {
    pub identity: Identity,
    pub custom: Arc<Custom>,
    pub served: bool,
    pub stored: bool,
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn texts(value: &Value, pointer: &str) -> Vec<String> {
    let items = value.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Kubernetes' order of versions: releases before betas before alphas, newer first, and
/// names of another kind after all of them.
pub fn precedence(version: &str) -> (u8, Reverse<u64>, Reverse<u64>, String) {
    let parsed = version.strip_prefix('v').and_then(|rest| {
        let digits =
            |text: &str| text.find(|one: char| !one.is_ascii_digit()).unwrap_or(text.len());
        let (major, rest) = rest.split_at(digits(rest));
        let major: u64 = major.parse().ok()?;
        if rest.is_empty() {
            return Some((0, major, 0));
        }
        let (class, minor) = match rest.strip_prefix("beta") {
            Some(minor) => (1, minor),
            None => (2, rest.strip_prefix("alpha")?),
        };
        Some((class, major, minor.parse().ok()?))
    });
    match parsed {
        Some((class, major, minor)) => (class, Reverse(major), Reverse(minor), String::new()),
        None => (3, Reverse(0), Reverse(0), version.to_owned()),
    }
}

/// The versions of a definition, the preferred first. Names are the accepted ones.
pub fn read(definition: &Value) -> Result<Vec<Version>, String> {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let stored = versions.clone().find(|version| version["storage"] == true);
    let stored = stored.map(|version| text(version, "/name")).unwrap_or_default();
    let mut found = Vec::new();
    for version in versions {
        found.push(one(definition, version, &stored)?);
    }
    found.sort_by_cached_key(|version| precedence(&version.identity.version));
    Ok(found)
}

fn one(definition: &Value, version: &Value, stored: &str) -> Result<Version, String> {
    let names = ["/status/acceptedNames", "/spec/names"];
    let names = names.iter().filter_map(|pointer| definition.pointer(pointer));
    let accepted = names.clone().find(|names| !text(names, "/plural").is_empty());
    let names = accepted.unwrap_or(&Value::Null);
    let mut fields = vec![("metadata.name".to_owned(), "/metadata/name".to_owned())];
    let namespaced = definition["spec"]["scope"] == "Namespaced";
    if namespaced {
        fields.push(("metadata.namespace".to_owned(), "/metadata/namespace".to_owned()));
    }
    for field in version["selectableFields"].as_array().into_iter().flatten() {
        let path = text(field, "/jsonPath");
        let pointer = JsonPath::parse(&path)?.pointer().ok_or("a selectable field is no field")?;
        fields.push((path.trim_start_matches('.').to_owned(), pointer));
    }
    let schema = version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_default();
    let node = Node::compile(&schema)?;
    let scale = scale(version)?;
    let group = text(definition, "/spec/group");
    let name = text(version, "/name");
    let kind = text(names, "/kind");
    let list_kind = Some(text(names, "/listKind")).filter(|name| !name.is_empty());
    let deprecation = (version["deprecated"] == true).then(|| {
        let own = Some(text(version, "/deprecationWarning")).filter(|text| !text.is_empty());
        own.unwrap_or_else(|| format!("{group}/{name} {kind} is deprecated"))
    });
    let custom = Custom {
        shape: shape::of_object(&node),
        schema: node,
        columns: columns::read(version)?,
        published: schema,
        list_kind: list_kind.unwrap_or_else(|| format!("{kind}List")),
        stored_as: format!("{group}/{stored}"),
        api_version: format!("{group}/{name}"),
        scale: scale.clone(),
        deprecation,
    };
    let identity = Identity {
        singular: text(names, "/singular"),
        plural: text(names, "/plural"),
        short_names: texts(names, "/shortNames"),
        categories: texts(names, "/categories"),
        has_status: version["subresources"]["status"].is_object(),
        has_scale: scale.is_some(),
        version: name.clone(),
        group,
        kind,
        namespaced,
        fields,
    };
    let stored = name == stored;
    let served = version["served"] == true;
    Ok(Version { identity, custom: Arc::new(custom), served, stored })
}

fn scale(version: &Value) -> Result<Option<ScalePaths>, String> {
    let Some(said) = version.pointer("/subresources/scale").filter(|said| said.is_object()) else {
        return Ok(None);
    };
    let pointer = |field: &str| {
        let path = text(said, field);
        let found = JsonPath::parse(&path)?.pointer();
        found.ok_or_else(|| format!("{path:?} names no field"))
    };
    let selector =
        (!text(said, "/labelSelectorPath").is_empty()).then(|| pointer("/labelSelectorPath"));
    Ok(Some(ScalePaths {
        spec: pointer("/specReplicasPath")?,
        status: pointer("/statusReplicasPath")?,
        selector: selector.transpose()?,
    }))
}

fn kept(texts: &[String]) -> &'static [&'static str] {
    if texts.is_empty() {
        return &[];
    }
    Vec::leak(texts.iter().map(|text| intern(text)).collect())
}

impl Identity {
    /// `plural.group`: the definition's own name.
    pub fn definition(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    /// The kind, kept for ever; whoever asks sees to it that this happens once.
    pub fn keep(&self, custom: Arc<Custom>) -> &'static Kind {
        let mut parts = Vec::new();
        if self.has_scale {
            parts.push(Subresource::Scale);
        }
        if self.has_status {
            parts.push(Subresource::Status);
        }
        let fields = self.fields.iter().map(|(name, pointer)| (intern(name), intern(pointer)));
        let slot: &'static Slot = Box::leak(Box::new(Slot::new(custom)));
        let kind = custom_kind(fields.collect(), Vec::leak(parts));
        Box::leak(Box::new(Kind {
            group: intern(&self.group),
            version: intern(&self.version),
            kind: intern(&self.kind),
            plural: intern(&self.plural),
            singular: intern(&self.singular),
            short_names: kept(&self.short_names),
            categories: kept(&self.categories),
            namespaced: self.namespaced,
            custom: Some(slot),
            ..kind
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::precedence;

    #[test]
    fn versions_stand_in_kubernetes_order() {
        let mut versions = [
            "foo10",
            "v1",
            "v11alpha2",
            "v10",
            "v2",
            "v12alpha1",
            "v3beta1",
            "v10beta3",
            "foo1",
            "v11beta2",
        ];
        versions.sort_by_cached_key(|version| precedence(version));
        let expected = [
            "v10",
            "v2",
            "v1",
            "v11beta2",
            "v10beta3",
            "v3beta1",
            "v12alpha1",
            "v11alpha2",
            "foo1",
            "foo10",
        ];
        assert_eq!(versions, expected);
    }
}
