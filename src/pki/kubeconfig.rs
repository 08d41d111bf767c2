//! Writes a kubeconfig with everything embedded, so that one file is enough anywhere.
//!
//! JSON on purpose: it is YAML too, kubectl reads it, and it cannot be mis-indented.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// What goes into the file.
#[derive(Clone, Copy, Debug)]
pub struct KubeconfigInput<'a> {
    pub cluster_name: &'a str,
    /// `https://10.0.0.1:6443`.
    pub server: &'a str,
    pub ca_pem: &'a str,
    pub user: &'a str,
    pub certificate_pem: &'a str,
    pub key_pem: &'a str,
}

/// The file's text.
pub fn kubeconfig(input: &KubeconfigInput<'_>) -> String {
    let data = |pem: &str| STANDARD.encode(pem);
    let context = format!("{}@{}", input.user, input.cluster_name);
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "current-context": context,
        "clusters": [{
            "name": input.cluster_name,
            "cluster": {
                "server": input.server,
                "certificate-authority-data": data(input.ca_pem),
            },
        }],
        "users": [{
            "name": input.user,
            "user": {
                "client-certificate-data": data(input.certificate_pem),
                "client-key-data": data(input.key_pem),
            },
        }],
        "contexts": [{
            "name": context,
            "context": { "cluster": input.cluster_name, "user": input.user },
        }],
    });
    let mut text = serde_json::to_string_pretty(&document).expect("literal keys serialize");
    text.push('\n');
    text
}
