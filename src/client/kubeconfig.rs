//! Reads a kubeconfig: which server, which authority, who I am.
//!
//! Why own types: of the format's many forms Holdfast writes one (client certificate,
//! inline or by file) and reads tokens beside it, and a form that is not understood must be named, not ignored.
//! Not here: exec plugins and passwords.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::client::endpoint::HttpConfig;
use crate::sys::documents;

#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not a kubeconfig: {reason}")]
    Parse { path: PathBuf, reason: String },
    #[error("{path} names {what} {name:?} but does not define it")]
    Undefined { path: PathBuf, what: &'static str, name: String },
    #[error("{path} lacks {what}")]
    Missing { path: PathBuf, what: &'static str },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
}

#[derive(Debug, Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
}

#[derive(Debug, Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Debug, Deserialize)]
struct Context {
    cluster: String,
    user: String,
    #[serde(default)]
    namespace: Option<String>,
}

/// What a kubeconfig says about its current context.
#[derive(Debug)]
pub struct Target {
    pub http: HttpConfig,
    /// The namespace of the context, where it names one.
    pub namespace: Option<String>,
}

/// Loads the current context of the kubeconfig at `path`. Other clusters of the file
/// whose authority is the same are taken as further servers of the same cluster.
pub fn load(path: &Path) -> Result<Target, KubeconfigError> {
    let text = documents::read_text(path)
        .map_err(|source| KubeconfigError::Read { path: path.to_owned(), source })?;
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<Target, KubeconfigError> {
    let config: Kubeconfig = serde_saphyr::from_str(text).map_err(|error| {
        KubeconfigError::Parse { path: path.to_owned(), reason: error.to_string() }
    })?;
    let undefined = |what, name: &str| KubeconfigError::Undefined {
        path: path.to_owned(),
        what,
        name: name.to_owned(),
    };
    let context = config.contexts.iter().find(|entry| entry.name == config.current_context);
    let context =
        &context.ok_or_else(|| undefined("current-context", &config.current_context))?.context;
    let cluster = config.clusters.iter().find(|entry| entry.name == context.cluster);
    let cluster = &cluster.ok_or_else(|| undefined("cluster", &context.cluster))?.cluster;
    let user = config.users.iter().find(|entry| entry.name == context.user);
    let user = &user.ok_or_else(|| undefined("user", &context.user))?.user;

    let authority = |cluster: &Cluster| {
        let data = cluster.certificate_authority_data.as_deref();
        material(path, "certificate-authority", data, cluster.certificate_authority.as_deref())
    };
    let ca_pem = authority(cluster)?.ok_or_else(|| KubeconfigError::Missing {
        path: path.to_owned(),
        what: "certificate-authority",
    })?;
    let certificate = material(
        path,
        "client-certificate",
        user.client_certificate_data.as_deref(),
        user.client_certificate.as_deref(),
    )?;
    let key =
        material(path, "client-key", user.client_key_data.as_deref(), user.client_key.as_deref())?;
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(missing(path, "client-key")),
        (None, Some(_)) => return Err(missing(path, "client-certificate")),
    };
    let mut servers = vec![cluster.server.clone()];
    for other in &config.clusters {
        if !servers.contains(&other.cluster.server)
            && authority(&other.cluster)?.as_ref() == Some(&ca_pem)
        {
            servers.push(other.cluster.server.clone());
        }
    }
    let token = match (&user.token, &user.token_file) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(file)) => {
            let file = path.parent().unwrap_or(Path::new(".")).join(file);
            let read = documents::read_text(&file);
            let text = read.map_err(|source| KubeconfigError::Read { path: file, source })?;
            Some(text.trim().to_owned())
        }
        (None, None) => None,
    };
    let http = HttpConfig { servers, ca_pem, identity, token };
    Ok(Target { http, namespace: context.namespace.clone() })
}

fn missing(path: &Path, what: &'static str) -> KubeconfigError {
    KubeconfigError::Missing { path: path.to_owned(), what }
}

/// Inline data goes before a file; a relative file lies beside the kubeconfig.
fn material(
    path: &Path,
    what: &'static str,
    data: Option<&str>,
    file: Option<&Path>,
) -> Result<Option<Vec<u8>>, KubeconfigError> {
    if let Some(data) = data {
        let compact: String = data.split_whitespace().collect();
        let bytes = STANDARD.decode(compact).map_err(|error| KubeconfigError::Parse {
            path: path.to_owned(),
            reason: format!("{what}-data: {error}"),
        })?;
        return Ok(Some(bytes));
    }
    let Some(file) = file else { return Ok(None) };
    let file = path.parent().unwrap_or(Path::new(".")).join(file);
    match documents::read_bytes(&file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) => Err(KubeconfigError::Read { path: file, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
apiVersion: v1
kind: Config
current-context: admin@lab
contexts:
- name: admin@lab
  context: {cluster: lab, user: admin, namespace: shop}
clusters:
- name: lab
  cluster: {server: 'https://10.0.0.1:6443', certificate-authority-data: Y2E=}
- name: lab-2
  cluster: {server: 'https://10.0.0.2:6443', certificate-authority-data: Y2E=}
- name: other
  cluster: {server: 'https://10.9.0.1:6443', certificate-authority-data: b3RoZXI=}
users:
- name: admin
  user: {client-certificate-data: Y2VydA==, client-key-data: a2V5}
";

    #[test]
    fn servers_of_the_same_authority_are_tried_too() {
        let target = parse(TEXT, Path::new("/nowhere/config")).unwrap();
        assert_eq!(target.http.servers, ["https://10.0.0.1:6443", "https://10.0.0.2:6443"]);
        assert_eq!(target.http.ca_pem, b"ca");
        assert_eq!(target.http.identity, Some((b"cert".to_vec(), b"key".to_vec())));
        assert_eq!(target.namespace.as_deref(), Some("shop"));
    }

    #[test]
    fn a_token_stands_in_the_place_of_a_certificate() {
        let text =
            TEXT.replace("client-certificate-data: Y2VydA==, client-key-data: a2V5", "token: t");
        let target = parse(&text, Path::new("/nowhere/config")).unwrap();
        assert_eq!((target.http.identity, target.http.token.as_deref()), (None, Some("t")));
    }

    #[test]
    fn an_undefined_user_is_named() {
        let text = TEXT.replace("user: admin,", "user: nobody,");
        let error = parse(&text, Path::new("/nowhere/config")).unwrap_err();
        assert!(error.to_string().contains("nobody"), "{error}");
    }
}
