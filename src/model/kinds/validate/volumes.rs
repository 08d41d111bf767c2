//! Volumes of a pod: which sources, and where their files may lie.
//!
//! Invariant: no file that a volume brings lies outside of the volume or where the agent
//! keeps its own links (names that begin with `..`).
//! Source: `validateVolumeSource`, `validateProjectionSources` and what they call.
//! Not here: whether the source is there (agent/), which claims fit (logic/volume_binding).

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::Problems;
use super::{list_at, str_at};

const MODE_TEXT: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const DUPLICATE_TEXT: &str = "conflicting duplicate paths";
const MINUTES_TEXT: &str = "may not specify a duration less than 10 minutes";
const LONG_TEXT: &str = "may not specify a duration larger than 2^32 seconds";

/// One volume at `at`; its name is the caller's.
pub(super) fn volume(volume: &Value, at: &str, problems: &mut Problems) {
    if let Some(map) = volume.get("configMap") {
        keyed(map, "name", &format!("{at}.configMap"), problems);
    }
    if let Some(secret) = volume.get("secret") {
        keyed(secret, "secretName", &format!("{at}.secret"), problems);
    }
    if let Some(fields) = volume.get("downwardAPI") {
        let at = format!("{at}.downwardAPI");
        mode(fields.get("defaultMode"), &format!("{at}.defaultMode"), problems);
        for (index, item) in list_at(fields, "/items").iter().enumerate() {
            downward_file(item, &format!("{at}.items[{index}]"), problems);
        }
    }
    if let Some(projected) = volume.get("projected") {
        let at = format!("{at}.projected");
        mode(projected.get("defaultMode"), &format!("{at}.defaultMode"), problems);
        sources(projected, &at, problems);
    }
}

/// A source whose keys become files.
fn keyed(source: &Value, name: &str, at: &str, problems: &mut Problems) {
    if str_at(source, &format!("/{name}")).is_empty() {
        problems.required(&format!("{at}.{name}"), "");
    }
    mode(source.get("defaultMode"), &format!("{at}.defaultMode"), problems);
    for (index, item) in list_at(source, "/items").iter().enumerate() {
        key_to_path(item, &format!("{at}.items[{index}]"), problems);
    }
}

fn key_to_path(item: &Value, at: &str, problems: &mut Problems) {
    if str_at(item, "/key").is_empty() {
        problems.required(&format!("{at}.key"), "");
    }
    file_path(item, at, problems);
    mode(item.get("mode"), &format!("{at}.mode"), problems);
}

fn downward_file(item: &Value, at: &str, problems: &mut Problems) {
    file_path(item, at, problems);
    match (item.get("fieldRef"), item.get("resourceFieldRef")) {
        (Some(_), Some(_)) => {
            let text = "fieldRef and resourceFieldRef can not be specified simultaneously";
            problems.invalid(at, &"resource".into(), text);
        }
        (None, None) => problems.required(at, "one of fieldRef and resourceFieldRef is required"),
        _ => {}
    }
    mode(item.get("mode"), &format!("{at}.mode"), problems);
}

fn sources(projected: &Value, at: &str, problems: &mut Problems) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (index, source) in list_at(projected, "/sources").iter().enumerate() {
        let here = format!("{at}.sources[{index}]");
        let mut kinds = 0;
        for kind in ["secret", "configMap"] {
            let Some(one) = source.get(kind) else { continue };
            kinds += 1;
            let name = str_at(one, "/name");
            keyed(one, "name", &format!("{here}.{kind}"), problems);
            for path in list_at(one, "/items").iter().map(|item| str_at(item, "/path")) {
                if !path.is_empty() && !seen.insert(path) {
                    problems.invalid(at, &name.into(), DUPLICATE_TEXT);
                }
            }
        }
        if let Some(fields) = source.get("downwardAPI") {
            kinds += 1;
            for (index, item) in list_at(fields, "/items").iter().enumerate() {
                let path = str_at(item, "/path");
                downward_file(item, &format!("{here}.downwardAPI.items[{index}]"), problems);
                if !path.is_empty() && !seen.insert(path) {
                    problems.invalid(at, &path.into(), DUPLICATE_TEXT);
                }
            }
        }
        if let Some(token) = source.get("serviceAccountToken") {
            kinds += 1;
            account_token(token, &format!("{here}.serviceAccountToken"), problems);
        }
        if kinds > 1 {
            problems.forbidden(&here, "may not specify more than 1 volume type");
        }
    }
}

fn account_token(token: &Value, at: &str, problems: &mut Problems) {
    if let Some(value) = token.get("expirationSeconds") {
        let seconds = value.as_i64().unwrap_or_default();
        let field = format!("{at}.expirationSeconds");
        if seconds < 600 {
            problems.invalid(&field, value, MINUTES_TEXT);
        }
        if seconds > 1 << 32 {
            problems.invalid(&field, value, LONG_TEXT);
        }
    }
    file_path(token, at, problems);
}

fn mode(mode: Option<&Value>, field: &str, problems: &mut Problems) {
    if let Some(mode) = mode
        && mode.as_i64().is_some_and(|bits| !(0..=0o777).contains(&bits))
    {
        problems.invalid(field, mode, MODE_TEXT);
    }
}

/// `path` of something that becomes a file.
fn file_path(item: &Value, at: &str, problems: &mut Problems) {
    let path = str_at(item, "/path");
    let field = format!("{at}.path");
    if path.is_empty() {
        problems.required(&field, "");
        return;
    }
    descending(path, &field, problems);
    if path.starts_with("..") && !path.starts_with("../") && path != ".." {
        problems.invalid(&field, &path.into(), "must not start with '..'");
    }
}

/// A path that stays below where it begins.
pub(super) fn descending(path: &str, field: &str, problems: &mut Problems) {
    if path.starts_with('/') {
        problems.invalid(field, &path.into(), "must be a relative path");
    }
    if path.split('/').any(|part| part == "..") {
        problems.invalid(field, &path.into(), "must not contain '..'");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::tests::{kind, problems_of};
    use super::*;

    fn problems(volume: Value, mount: Value) -> Vec<String> {
        let mut volume = volume;
        volume["name"] = "v".into();
        let spec = json!({"containers": [{"name": "c", "image": "i", "volumeMounts": mount}],
            "volumes": [volume]});
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
        problems_of(kind("", "pods"), pod)
    }

    #[test]
    fn files_of_volumes_stay_inside() {
        let paths = ["good/file", "..hidden", "/abs", "a/../../b", "..", "", "..good/.."];
        let items: Vec<Value> =
            paths.iter().map(|path| json!({"key": "k", "path": path})).collect();
        let at = "spec.volumes[0].projected.sources[0].configMap.items";
        let expected = [
            format!("{at}[1].path: Invalid value: \"..hidden\": must not start with '..'"),
            format!("{at}[2].path: Invalid value: \"/abs\": must be a relative path"),
            format!("{at}[3].path: Invalid value: \"a/../../b\": must not contain '..'"),
            format!("{at}[4].path: Invalid value: \"..\": must not contain '..'"),
            format!("{at}[5].path: Required value"),
            format!("{at}[6].path: Invalid value: \"..good/..\": must not contain '..'"),
            format!("{at}[6].path: Invalid value: \"..good/..\": must not start with '..'"),
        ];
        let map = json!({"projected": {"sources": [{"configMap": {"name": "m", "items": items}}]}});
        assert_eq!(problems(map, json!([])), expected);
        let plain = problems(json!({"configMap": {"name": "m", "items": items}}), json!([]));
        let moved = expected.map(|text| text.replace("projected.sources[0].", ""));
        assert_eq!(plain, moved);
    }

    #[test]
    fn sources_are_of_one_kind_and_do_not_share_a_path() {
        let item = |path: &str| json!([{"key": "k", "path": path}]);
        let wrong = json!({"projected": {"defaultMode": 512, "sources": [
            {"secret": {"name": "s", "items": item("x")},
             "configMap": {"name": "m", "items": item("x")}},
            {"downwardAPI": {"items": [{"path": "y"}]}},
            {"serviceAccountToken": {"path": "../t", "expirationSeconds": 60}},
            {"secret": {"items": [{"path": "z", "mode": -1}]}}]}});
        let at = "spec.volumes[0].projected";
        let expected = [
            format!("{at}.defaultMode: Invalid value: 512: {MODE_TEXT}"),
            format!("{at}: Invalid value: \"m\": {DUPLICATE_TEXT}"),
            format!("{at}.sources[0]: Forbidden: may not specify more than 1 volume type"),
            format!(
                "{at}.sources[1].downwardAPI.items[0]: Required value: one of fieldRef and resourceFieldRef is required"
            ),
            format!(
                "{at}.sources[2].serviceAccountToken.expirationSeconds: Invalid value: 60: {MINUTES_TEXT}"
            ),
            format!(
                "{at}.sources[2].serviceAccountToken.path: Invalid value: \"../t\": must not contain '..'"
            ),
            format!("{at}.sources[3].secret.name: Required value"),
            format!("{at}.sources[3].secret.items[0].key: Required value"),
            format!("{at}.sources[3].secret.items[0].mode: Invalid value: -1: {MODE_TEXT}"),
        ];
        assert_eq!(problems(wrong, json!([])), expected);
    }

    #[test]
    fn mounts_go_to_different_places_and_stay_in_their_volume() {
        let mounts = json!([{"name": "v", "mountPath": "/a", "subPath": "ok/there"},
            {"name": "v", "mountPath": "/a", "subPath": "/etc"},
            {"name": "v", "mountPath": "/b", "subPathExpr": "../x", "subPath": "y"}]);
        let at = "spec.containers[0].volumeMounts";
        assert_eq!(
            problems(json!({"emptyDir": {}}), mounts),
            [
                format!("{at}[1].mountPath: Invalid value: \"/a\": must be unique"),
                format!("{at}[1].subPath: Invalid value: \"/etc\": must be a relative path"),
                format!(
                    "{at}[2].subPathExpr: Invalid value: \"../x\": subPathExpr and subPath are mutually exclusive"
                ),
                format!("{at}[2].subPathExpr: Invalid value: \"../x\": must not contain '..'"),
            ]
        );
    }
}
