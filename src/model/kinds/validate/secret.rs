//! Secrets: what each type must hold.
//!
//! Source: `pkg/apis/core/validation` (`ValidateSecret`). No message repeats a value.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::super::Problems;
use super::objects::data_key;
use super::str_at;

/// Data of one secret, bytes.
const SECRET_MAX_BYTES: usize = 1024 * 1024;
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const REDACTED: &str = "<secret contents redacted>";

pub(in super::super) fn secret(secret: &Value, problems: &mut Problems) {
    let empty = Map::new();
    let data = secret.get("data").and_then(Value::as_object).unwrap_or(&empty);
    let mut total = 0;
    for (key, value) in data {
        data_key("data", key, problems);
        total += bytes(Some(value)).len();
    }
    if total > SECRET_MAX_BYTES {
        problems.too_long("data", SECRET_MAX_BYTES, "bytes");
    }
    match str_at(secret, "/type") {
        "kubernetes.io/service-account-token" => {
            let annotations = secret.pointer("/metadata/annotations");
            let account = annotations.and_then(|all| all.get(ACCOUNT)).and_then(Value::as_str);
            if account.is_none_or(str::is_empty) {
                problems.required(&format!("metadata.annotations[{ACCOUNT}]"), "");
            }
        }
        "kubernetes.io/dockercfg" => json(data, ".dockercfg", problems),
        "kubernetes.io/dockerconfigjson" => json(data, ".dockerconfigjson", problems),
        "kubernetes.io/basic-auth"
            if !data.contains_key("username") && !data.contains_key("password") =>
        {
            problems.required("data[username]", "");
            problems.required("data[password]", "");
        }
        "kubernetes.io/ssh-auth" if bytes(data.get("ssh-privatekey")).is_empty() => {
            problems.required("data[ssh-privatekey]", "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if !data.contains_key(key) {
                    problems.required(&format!("data[{key}]"), "");
                }
            }
        }
        _ => {}
    }
}

fn bytes(value: Option<&Value>) -> Vec<u8> {
    let text = value.and_then(Value::as_str).unwrap_or_default();
    STANDARD.decode(text).unwrap_or_default()
}

fn json(data: &Map<String, Value>, key: &str, problems: &mut Problems) {
    let field = format!("data[{key}]");
    match data.get(key) {
        None => problems.required(&field, ""),
        Some(value) => {
            if let Err(error) = serde_json::from_slice::<Map<String, Value>>(&bytes(Some(value))) {
                problems.invalid(&field, &REDACTED.into(), &error.to_string());
            }
        }
    }
}

pub(in super::super) fn secret_update(old: &Value, new: &Value, problems: &mut Problems) {
    if old["type"] != new["type"] {
        problems.invalid("type", &new["type"], "field is immutable");
    }
    if old["immutable"] != Value::Bool(true) {
        return;
    }
    if new["immutable"] != Value::Bool(true) {
        problems.forbidden("immutable", "field is immutable when `immutable` is set");
    }
    if old["data"] != new["data"] {
        problems.forbidden("data", "field is immutable when `immutable` is set");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::defaults;
    use super::*;

    fn faults(kind: &str, data: Value) -> Vec<String> {
        let mut problems = Problems::default();
        let mut object = json!({"metadata": {"name": "s"}, "type": kind, "stringData": data});
        defaults::storage::secret(&mut object);
        assert!(object.get("stringData").is_none());
        secret(&object, &mut problems);
        problems.into_causes().into_iter().map(|cause| cause.field).collect()
    }

    #[test]
    fn each_type_must_hold_what_its_users_look_for() {
        let none: [&str; 0] = [];
        assert_eq!(faults("Opaque", json!({})), none);
        assert_eq!(faults("my.io/own", json!({"a": "b"})), none);
        assert_eq!(faults("kubernetes.io/tls", json!({"tls.crt": ""})), ["data[tls.key]"]);
        assert_eq!(
            faults("kubernetes.io/basic-auth", json!({})),
            ["data[username]", "data[password]"]
        );
        assert_eq!(faults("kubernetes.io/basic-auth", json!({"password": "x"})), none);
        let ssh = json!({"ssh-privatekey": ""});
        assert_eq!(faults("kubernetes.io/ssh-auth", ssh), ["data[ssh-privatekey]"]);
        let docker = "kubernetes.io/dockerconfigjson";
        assert_eq!(faults(docker, json!({})), ["data[.dockerconfigjson]"]);
        assert_eq!(faults(docker, json!({".dockerconfigjson": "no"})), ["data[.dockerconfigjson]"]);
        assert_eq!(faults(docker, json!({".dockerconfigjson": "{\"auths\": {}}"})), none);
        let token = "kubernetes.io/service-account-token";
        assert_eq!(faults(token, json!({})), [format!("metadata.annotations[{ACCOUNT}]")]);
        assert_eq!(faults("Opaque", json!({"bad/key": "x"})), ["data[bad/key]"]);
        let large = "x".repeat(SECRET_MAX_BYTES + 1);
        assert_eq!(faults("Opaque", json!({"k": large})), ["data"]);
    }

    #[test]
    fn a_message_never_repeats_a_value() {
        let mut problems = Problems::default();
        let value = STANDARD.encode("hunter2");
        let object = json!({"type": "kubernetes.io/dockercfg", "data": {".dockercfg": value}});
        secret(&object, &mut problems);
        let text = format!("{:?}", problems.into_causes());
        assert!(text.contains("redacted") && !text.contains("hunter2") && !text.contains(&value));
    }

    #[test]
    fn texts_go_over_bytes_and_types_and_immutable_data_stay() {
        let mut object = json!({"data": {"a": "b2xk", "b": "b2xk"}, "stringData": {"a": "new"}});
        defaults::storage::secret(&mut object);
        assert_eq!(object, json!({"data": {"a": "bmV3", "b": "b2xk"}, "type": "Opaque"}));
        let old = json!({"type": "Opaque", "immutable": true, "data": {"a": "b2xk"}});
        let fields = |new: Value| -> Vec<String> {
            let mut problems = Problems::default();
            secret_update(&old, &new, &mut problems);
            problems.into_causes().into_iter().map(|cause| cause.field).collect()
        };
        assert_eq!(
            fields(json!({"type": "x", "immutable": true, "data": {"a": "b2xk"}})),
            ["type"]
        );
        assert_eq!(fields(json!({"type": "Opaque", "immutable": true, "data": {}})), ["data"]);
        assert_eq!(fields(json!({"type": "Opaque", "data": {"a": "b2xk"}})), ["immutable"]);
    }
}
