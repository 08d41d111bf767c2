//! What a CustomResourceDefinition may say.
//!
//! Source: apiextensions-apiserver `pkg/apis/apiextensions/validation`.
//! Not here: the schemas (`definition_schema`), names that others have
//! (`logic/definition`).

use serde_json::{Value, json};

use super::super::custom::JsonPath;
use super::super::{KINDS, Problems};
use super::meta::{LABEL_1035_TEXT, SUBDOMAIN_TEXT, is_dns_label, is_subdomain};
use super::{definition_schema, list_at, str_at};

const APPROVED: &str = "api-approved.kubernetes.io";
const COLUMN_TYPES: &[&str] = &["integer", "number", "string", "boolean", "date"];
const COLUMN_FORMATS: &[&str] =
    &["int32", "int64", "float", "double", "byte", "date", "date-time", "password"];

fn is_label_1035(text: &str) -> bool {
    is_dns_label(text) && text.starts_with(|first: char| first.is_ascii_lowercase())
}

fn label(text: &str, at: &str, problems: &mut Problems) {
    if !is_label_1035(text) {
        problems.invalid(at, &text.into(), LABEL_1035_TEXT);
    }
}

pub(in super::super) fn definition(definition: &Value, problems: &mut Problems) {
    let (group, plural) =
        (str_at(definition, "/spec/group"), str_at(definition, "/spec/names/plural"));
    let name = str_at(definition, "/metadata/name");
    if name != format!("{plural}.{group}") {
        let text = r#"must be spec.names.plural+"."+spec.group"#;
        problems.invalid("metadata.name", &name.into(), text);
    }
    let own = |kind: &&super::super::Kind| kind.group == group && kind.plural == plural;
    if KINDS.iter().any(|kind| own(&kind)) {
        let text = "is a resource of the cluster itself";
        problems.invalid("metadata.name", &name.into(), text);
    }
    of_group(definition, group, problems);
    let scope = str_at(definition, "/spec/scope");
    match scope {
        "" => problems.required("spec.scope", ""),
        "Cluster" | "Namespaced" => {}
        other => problems.not_supported("spec.scope", other, &["Cluster", "Namespaced"]),
    }
    if definition.pointer("/spec/preserveUnknownFields") == Some(&true.into()) {
        let text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        problems.invalid("spec.preserveUnknownFields", &true.into(), text);
    }
    names(&definition["spec"]["names"], "spec.names", problems);
    versions(definition, problems);
    match str_at(definition, "/spec/conversion/strategy") {
        "None" => {
            if definition.pointer("/spec/conversion/webhook").is_some() {
                let text = "should not be set when strategy is not set to Webhook";
                problems.forbidden("spec.conversion.webhook", text);
            }
        }
        // Objects that no webhook converted would be served in a form that they do not have.
        other => problems.not_supported("spec.conversion.strategy", other, &["None"]),
    }
    for (place, stored) in list_at(definition, "/status/storedVersions").iter().enumerate() {
        let known = list_at(definition, "/spec/versions").iter();
        let stored = stored.as_str().unwrap_or_default();
        if !known.clone().any(|version| version["name"] == *stored) {
            let text = format!(
                "missing from spec.versions; {stored} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {stored} and removes {stored} from status.storedVersions"
            );
            let at = format!("status.storedVersions[{place}]");
            problems.invalid(&at, &stored.into(), &text);
        }
    }
}

fn of_group(definition: &Value, group: &str, problems: &mut Problems) {
    let at = "spec.group";
    if group.is_empty() {
        problems.required(at, "");
    } else if !is_subdomain(group) || group.len() > 253 {
        problems.invalid(at, &group.into(), SUBDOMAIN_TEXT);
    } else if !group.contains('.') {
        problems.invalid(at, &group.into(), "should be a domain with at least one dot");
    }
    let under = |domain: &str| group == domain || group.ends_with(&format!(".{domain}"));
    if !(under("k8s.io") || under("kubernetes.io")) {
        return;
    }
    let approved = definition["metadata"]["annotations"][APPROVED].as_str().unwrap_or_default();
    let at = format!("metadata.annotations[{APPROVED}]");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    if approved.is_empty() {
        let text = format!("protected groups must have approval annotation {APPROVED:?}, {see}");
        problems.required(&at, &text);
    } else if !approved.starts_with("unapproved") && !approved.starts_with("https://") {
        let text = format!(
            "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", {see}"
        );
        problems.invalid(&at, &approved.into(), &text);
    }
}

fn names(names: &Value, at: &str, problems: &mut Problems) {
    let text = |field: &str| names[field].as_str().unwrap_or_default();
    for field in ["plural", "singular", "kind", "listKind"] {
        let (value, at) = (text(field), format!("{at}.{field}"));
        match field {
            _ if value.is_empty() => problems.required(&at, ""),
            "kind" | "listKind" if is_label_1035(&value.to_lowercase()) => {}
            "kind" | "listKind" => {
                let rule = LABEL_1035_TEXT;
                let text = format!("may have mixed case, but should otherwise match: {rule}");
                problems.invalid(&at, &value.into(), &text);
            }
            _ => label(value, &at, problems),
        }
    }
    if !text("kind").is_empty() && text("kind") == text("listKind") {
        let at = format!("{at}.listKind");
        problems.invalid(&at, &text("listKind").into(), "kind and listKind may not be the same");
    }
    for list in ["shortNames", "categories"] {
        for (place, name) in list_at(names, &format!("/{list}")).iter().enumerate() {
            label(name.as_str().unwrap_or_default(), &format!("{at}.{list}[{place}]"), problems);
        }
    }
}

fn versions(definition: &Value, problems: &mut Problems) {
    let at = "spec.versions";
    let versions = list_at(definition, "/spec/versions");
    let listed: Vec<&str> = versions.iter().map(|version| str_at(version, "/name")).collect();
    if versions.is_empty() {
        problems.invalid(at, &json!([]), "must have at least one version");
        return;
    }
    for (place, version) in versions.iter().enumerate() {
        let (name, at) = (listed[place], format!("{at}[{place}]"));
        if !is_label_1035(name) {
            problems.invalid(&format!("{at}.name"), &name.into(), LABEL_1035_TEXT);
        }
        of_version(version, &at, problems);
    }
    let twice = |name: &&str| listed.iter().filter(|other| *other == name).count() > 1;
    if listed.iter().any(twice) {
        problems.invalid(at, &json!(listed), "must contain unique version names");
    }
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let text = "must have exactly one version marked as storage version";
        problems.invalid(at, &json!(listed), text);
    }
}

fn of_version(version: &Value, at: &str, problems: &mut Problems) {
    let warning = version["deprecationWarning"].as_str();
    if let Some(warning) = warning.filter(|_| version["deprecated"] != true) {
        let text = "can only be set for deprecated versions";
        problems.invalid(&format!("{at}.deprecationWarning"), &warning.into(), text);
    }
    let schema = &version["schema"]["openAPIV3Schema"];
    let place = format!("{at}.schema.openAPIV3Schema");
    if schema.is_object() {
        definition_schema::schema(schema, &place, problems);
    } else {
        problems.required(&place, "schemas are required");
    }
    for (index, column) in list_at(version, "/additionalPrinterColumns").iter().enumerate() {
        of_column(column, &format!("{at}.additionalPrinterColumns[{index}]"), problems);
    }
    for (index, field) in list_at(version, "/selectableFields").iter().enumerate() {
        let at = format!("{at}.selectableFields[{index}].jsonPath");
        simple_path(str_at(field, "/jsonPath"), &at, &[".spec", ".status", "."], problems);
    }
    let scale = &version["subresources"]["scale"];
    if scale.is_object() {
        let at = format!("{at}.subresources.scale");
        for (field, below) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
            let path = scale[field].as_str().unwrap_or_default();
            simple_path(path, &format!("{at}.{field}"), &[below], problems);
        }
        let path = scale["labelSelectorPath"].as_str().unwrap_or_default();
        if !path.is_empty() {
            let at = format!("{at}.labelSelectorPath");
            simple_path(path, &at, &[".spec.", ".status."], problems);
        }
    }
}

fn of_column(column: &Value, at: &str, problems: &mut Problems) {
    if str_at(column, "/name").is_empty() {
        problems.required(&format!("{at}.name"), "");
    }
    match str_at(column, "/type") {
        "" => {
            let text = format!("must be one of {}", COLUMN_TYPES.join(","));
            problems.required(&format!("{at}.type"), &text);
        }
        known if COLUMN_TYPES.contains(&known) => {}
        other => {
            let text = format!("must be one of {}", COLUMN_TYPES.join(","));
            problems.invalid(&format!("{at}.type"), &other.into(), &text);
        }
    }
    let format = str_at(column, "/format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let text = format!("must be one of {}", COLUMN_FORMATS.join(","));
        problems.invalid(&format!("{at}.format"), &format.into(), &text);
    }
    let (path, at) = (str_at(column, "/jsonPath"), format!("{at}.jsonPath"));
    if path.is_empty() {
        problems.required(&at, "");
    } else if let Err(why) = JsonPath::parse(path) {
        problems.invalid(&at, &path.into(), &why);
    }
}

/// A path of fields alone, below one of the places.
fn simple_path(path: &str, at: &str, below: &[&str], problems: &mut Problems) {
    let fields = JsonPath::parse(path).ok().and_then(|parsed| parsed.pointer());
    if path.is_empty() {
        problems.required(at, "");
    } else if fields.is_none() || path.contains('[') {
        let text = "should be a simple json path: fields divided by dots";
        problems.invalid(at, &path.into(), text);
    } else if !below.iter().any(|place| path.starts_with(place)) {
        let text = format!("should be a json path under {}", below[0].trim_end_matches('.'));
        problems.invalid(at, &path.into(), &text);
    }
}

/// What stays once objects may exist.
pub(in super::super) fn definition_update(old: &Value, new: &Value, problems: &mut Problems) {
    let conditions = list_at(old, "/status/conditions").iter();
    let established =
        conditions.clone().any(|one| one["type"] == "Established" && one["status"] == "True");
    let always = ["group", "names.plural"].iter();
    let later = ["scope", "names.kind"].iter().filter(|_| established);
    for field in always.chain(later) {
        let pointer = format!("/spec/{}", field.replace('.', "/"));
        let (before, after) = (old.pointer(&pointer), new.pointer(&pointer));
        if before != after {
            let value = after.cloned().unwrap_or_default();
            problems.invalid(&format!("spec.{field}"), &value, "field is immutable");
        }
    }
}
