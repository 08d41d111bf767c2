//! The schemas of OpenAPI: the table of types with its words, as JSON.
//!
//! They are made when they are asked for, which is seldom (clients keep them by their
//! hash), so that the words take no memory in between.

mod custom;

use std::collections::{BTreeSet, HashMap};
use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};

use crate::model::kinds::Kind;
use crate::model::schema::{
    DOCS_GZ, Definition, Field, ListKind, Scalar, Struct, Type, all, by_kind,
};

/// Which OpenAPI: they differ in where schemas stand and what may stand beside a `$ref`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    V2,
    V3,
}

impl Flavour {
    fn reference(self, name: &str) -> Value {
        let root = if self == Flavour::V2 { "#/definitions" } else { "#/components/schemas" };
        json!({"$ref": format!("{root}/{name}")})
    }
}

/// The types that the kinds need, by name.
pub(super) fn of<'k>(
    kinds: impl Iterator<Item = &'k Kind>,
    flavour: Flavour,
) -> Map<String, Value> {
    let mut wanted = BTreeSet::new();
    let mut custom = Vec::new();
    for kind in kinds {
        custom.extend(custom::schema(kind, flavour));
        reach(&kind.schema(), &mut wanted);
        if let Some(place) = place_of(&kind.api_version(), kind.kind) {
            wanted.insert(place);
        }
        for (group, version, name) in kind.subresources.iter().filter_map(|part| part.body_kind()) {
            let api_version =
                if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
            if let Some(place) = place_of(&api_version, name) {
                wanted.insert(place);
                reach(&all()[place].shape, &mut wanted);
            }
        }
    }
    let words = words();
    let words = Words::read(&words);
    let types = wanted.into_iter().map(|place| &all()[place]);
    types
        .map(|definition| (definition.name.to_owned(), schema(definition, &words, flavour)))
        .chain(custom)
        .collect()
}

fn place_of(api_version: &str, kind: &str) -> Option<usize> {
    by_kind(api_version, kind)?;
    all().iter().position(|definition| definition.kind == Some((api_version, kind)))
}

fn reach(shape: &Type, found: &mut BTreeSet<usize>) {
    match shape {
        Type::Named(place) => {
            if found.insert(*place) {
                reach(&all()[*place].shape, found);
            }
        }
        Type::List { element, .. } | Type::Map { element, .. } => reach(element, found),
        Type::Struct(own) => own.fields.values().for_each(|field| reach(&field.shape, found)),
        Type::Scalar(..) | Type::Any => {}
    }
}

/// The words of all types.
fn words() -> String {
    let mut text = String::new();
    GzDecoder::new(DOCS_GZ)
        .read_to_string(&mut text)
        .expect("the build has packed the words as UTF-8");
    text
}

/// Words by type, and by type and field; the empty field is the type itself.
struct Words<'t>(HashMap<(&'t str, &'t str), &'t str>);

impl<'t> Words<'t> {
    fn read(text: &'t str) -> Self {
        let mut found = HashMap::new();
        let mut own = "";
        for line in text.lines() {
            let Some((json, name)) = line.rsplit_once(' ') else { continue };
            match json.strip_prefix(' ') {
                Some(json) => found.insert((own, name), json),
                None => {
                    own = name;
                    found.insert((own, ""), json)
                }
            };
        }
        Self(found)
    }

    fn of(&self, name: &str, field: &str) -> Option<String> {
        let words: &HashMap<(&str, &str), &str> = &self.0;
        let text = words.get(&(name, field))?;
        serde_json::from_str::<String>(text).ok().filter(|text| !text.is_empty())
    }
}

fn schema(definition: &Definition, words: &Words<'_>, flavour: Flavour) -> Value {
    let mut made = match &definition.shape {
        Type::Struct(own) => object(definition.name, own, words, flavour),
        other => value(other, flavour),
    };
    if let Some(text) = words.of(definition.name, "") {
        made["description"] = text.into();
    }
    if let Some((api_version, kind)) = definition.kind {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        made["x-kubernetes-group-version-kind"] =
            json!([{"group": group, "version": version, "kind": kind}]);
    }
    made
}

fn object(name: &str, own: &Struct, words: &Words<'_>, flavour: Flavour) -> Value {
    let mut properties = Map::new();
    for (field_name, field) in &own.fields {
        properties
            .insert((*field_name).to_owned(), property(name, field_name, field, words, flavour));
    }
    let mut made = json!({"type": "object", "properties": properties});
    let required: Vec<&str> =
        own.fields.iter().filter(|(_, field)| field.required).map(|(name, _)| *name).collect();
    if !required.is_empty() {
        made["required"] = required.into();
    }
    if own.atomic {
        made["x-kubernetes-map-type"] = "atomic".into();
    }
    made
}

fn property(owner: &str, name: &str, field: &Field, words: &Words<'_>, flavour: Flavour) -> Value {
    let mut made = value(&field.shape, flavour);
    let text = words.of(owner, name);
    // Beside a `$ref` version 3 reads nothing, so it is put one deeper.
    if flavour == Flavour::V3 && text.is_some() && made.get("$ref").is_some() {
        made = json!({"allOf": [made]});
    }
    if let Some(text) = text {
        made["description"] = text.into();
    }
    if let Some(default) = field.default {
        made["default"] = default.into();
    }
    if let Some(key) = field.merge_key.filter(|key| !key.is_empty()) {
        made["x-kubernetes-patch-merge-key"] = key.into();
    }
    let merges = field.merge_key.is_some().then_some("merge");
    let strategies =
        [merges, field.retain_keys.then_some("retainKeys"), field.replace.then_some("replace")];
    let strategies: Vec<&str> = strategies.into_iter().flatten().collect();
    if !strategies.is_empty() {
        made["x-kubernetes-patch-strategy"] = strategies.join(",").into();
    }
    made
}

fn value(shape: &Type, flavour: Flavour) -> Value {
    match shape {
        Type::Scalar(scalar, format) => scalar_schema(*scalar, format, flavour),
        Type::Any => json!({"x-kubernetes-preserve-unknown-fields": true}),
        Type::List { element, kind } => {
            let mut made = json!({"type": "array", "items": value(element, flavour)});
            match kind {
                ListKind::Atomic => made["x-kubernetes-list-type"] = "atomic".into(),
                ListKind::Set => made["x-kubernetes-list-type"] = "set".into(),
                ListKind::Map(keys) => {
                    made["x-kubernetes-list-type"] = "map".into();
                    made["x-kubernetes-list-map-keys"] = keys.clone().into();
                }
            }
            made
        }
        Type::Map { element, atomic } => {
            let mut made =
                json!({"type": "object", "additionalProperties": value(element, flavour)});
            if *atomic {
                made["x-kubernetes-map-type"] = "atomic".into();
            }
            made
        }
        Type::Struct(_) => json!({"type": "object"}),
        Type::Named(place) => flavour.reference(all()[*place].name),
    }
}

fn scalar_schema(scalar: Scalar, format: &str, flavour: Flavour) -> Value {
    let mut made = match scalar {
        Scalar::Text => json!({"type": "string"}),
        Scalar::Integer => json!({"type": "integer"}),
        Scalar::Number => json!({"type": "number"}),
        Scalar::Bool => json!({"type": "boolean"}),
        Scalar::Quantity if flavour == Flavour::V3 => {
            json!({"oneOf": [{"type": "string"}, {"type": "number"}]})
        }
        Scalar::IntOrString if flavour == Flavour::V3 => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        Scalar::Quantity => json!({"type": "string"}),
        Scalar::IntOrString => json!({"type": "string", "format": "int-or-string"}),
    };
    if !format.is_empty() {
        made["format"] = format.into();
    }
    made
}

#[cfg(test)]
mod tests {
    use super::{Flavour, of};
    use crate::model::kinds::KINDS;

    #[test]
    fn every_reference_leads_somewhere_and_every_kind_is_named() {
        for (flavour, root) in
            [(Flavour::V2, "#/definitions/"), (Flavour::V3, "#/components/schemas/")]
        {
            let schemas = of(KINDS.iter(), flavour);
            let text = serde_json::to_string(&schemas).unwrap();
            for target in text.split("\"$ref\":\"").skip(1) {
                let target = target.split('"').next().unwrap();
                let name = target.strip_prefix(root).unwrap();
                assert!(schemas.contains_key(name), "{name}");
            }
            for kind in KINDS {
                let named = schemas.values().filter(|schema| {
                    let kinds = &schema["x-kubernetes-group-version-kind"][0];
                    kinds["kind"] == kind.kind
                        && kinds["group"] == kind.group
                        && kinds["version"] == kind.version
                });
                assert_eq!(named.count(), 1, "{}", kind.kind);
            }
        }
    }

    #[test]
    fn lists_say_how_they_merge_and_fields_what_they_mean() {
        let schemas = of(KINDS.iter().filter(|kind| kind.kind == "Pod"), Flavour::V3);
        let container = &schemas["io.k8s.api.core.v1.Container"]["properties"];
        let ports = &container["ports"];
        assert_eq!(ports["x-kubernetes-list-type"], "map");
        assert_eq!(
            ports["x-kubernetes-list-map-keys"],
            serde_json::json!(["containerPort", "protocol"])
        );
        assert_eq!(ports["x-kubernetes-patch-merge-key"], "containerPort");
        assert!(container["image"]["description"].as_str().unwrap().contains("image name"));
        let volumes = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"];
        assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    }
}
