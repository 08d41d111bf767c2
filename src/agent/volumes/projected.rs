//! Volumes whose files come from the API: configMap, secret, downwardAPI, projected.
//!
//! Invariant: a set of files is whole or an error; an optional source that is not there
//! adds nothing.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use super::Sources;
use crate::agent::AgentError;
use crate::agent::references::{Content, Referent};
use crate::client::ApiError;
use crate::sys::clock;
use crate::sys::pod_files::{self, read_end};
use crate::sys::published_files::PublishedFile;

const TOKEN_SECONDS: i64 = 3_600;
const FILE_MODE: u32 = 0o644;
/// No token is as long.
const TOKEN_MAX_BYTES: usize = 64 * 1024;

type Files = BTreeMap<String, PublishedFile>;

/// Whether the files must not lie on a disk.
pub(super) fn is_secret(volume: &Volume) -> bool {
    volume.secret.is_some() || volume.projected.is_some()
}

/// The files of such a volume; `None` for one of another kind.
pub(super) async fn files(
    sources: &Sources<'_>,
    volume: &Volume,
) -> Result<Option<Files>, AgentError> {
    if let Some(map) = &volume.config_map {
        let mode = bits(map.default_mode).unwrap_or(FILE_MODE);
        let wish = Wish { name: &map.name, items: map.items.as_deref(), optional: map.optional };
        return keyed(sources, Referent::ConfigMap, &wish, mode).await.map(Some);
    }
    if let Some(secret) = &volume.secret {
        let mode = bits(secret.default_mode).unwrap_or(FILE_MODE);
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let wish = Wish { name, items: secret.items.as_deref(), optional: secret.optional };
        return keyed(sources, Referent::Secret, &wish, mode).await.map(Some);
    }
    if let Some(fields) = &volume.downward_api {
        let mode = bits(fields.default_mode).unwrap_or(FILE_MODE);
        return downward(sources, fields.items.iter().flatten(), mode).map(Some);
    }
    let Some(projected) = &volume.projected else { return Ok(None) };
    let mode = bits(projected.default_mode).unwrap_or(FILE_MODE);
    let mut files = Files::new();
    for source in projected.sources.iter().flatten() {
        files.extend(one_projection(sources, &volume.name, source, mode).await?);
    }
    Ok(Some(files))
}

fn bits(mode: Option<i32>) -> Option<u32> {
    // No more than permissions: nobody gets a program of root's by naming other bits.
    mode.and_then(|mode| u32::try_from(mode).ok()).map(|mode| mode & 0o777)
}

async fn one_projection(
    sources: &Sources<'_>,
    volume: &str,
    source: &VolumeProjection,
    mode: u32,
) -> Result<Files, AgentError> {
    if let Some(map) = &source.config_map {
        let wish = Wish { name: &map.name, items: map.items.as_deref(), optional: map.optional };
        keyed(sources, Referent::ConfigMap, &wish, mode).await
    } else if let Some(secret) = &source.secret {
        let items = secret.items.as_deref();
        let wish = Wish { name: &secret.name, items, optional: secret.optional };
        keyed(sources, Referent::Secret, &wish, mode).await
    } else if let Some(fields) = &source.downward_api {
        downward(sources, fields.items.iter().flatten(), mode)
    } else if let Some(token) = &source.service_account_token {
        account_token(sources, volume, token, mode).await
    } else {
        Err(AgentError::config("a projected volume has a source that is not supported"))
    }
}

/// What is wanted of an object with keys.
struct Wish<'a> {
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: Option<bool>,
}

async fn keyed(
    sources: &Sources<'_>,
    what: Referent,
    wish: &Wish<'_>,
    mode: u32,
) -> Result<Files, AgentError> {
    let namespace = &sources.downward.identity.namespace;
    let optional = wish.optional.unwrap_or(false);
    match sources.references.demand(what, namespace, wish.name, optional).await? {
        Some(content) => choose(what, wish, content, mode),
        None => Ok(Files::new()),
    }
}

/// Which keys become which files.
fn choose(
    what: Referent,
    wish: &Wish<'_>,
    mut content: Content,
    mode: u32,
) -> Result<Files, AgentError> {
    let plain = |content, mode| PublishedFile { content, mode, owner: None };
    let Some(items) = wish.items.filter(|items| !items.is_empty()) else {
        return Ok(content.into_iter().map(|(key, bytes)| (key, plain(bytes, mode))).collect());
    };
    let mut files = Files::new();
    for item in items {
        // One key may become several files.
        match content.get_mut(&item.key) {
            Some(bytes) => {
                let mode = bits(item.mode).unwrap_or(mode);
                files.insert(item.path.clone(), plain(bytes.clone(), mode));
            }
            None if wish.optional == Some(true) => {}
            None => {
                let (name, key) = (wish.name, &item.key);
                let word = what.word();
                return Err(AgentError::config(format!("{word} {name} has no key {key}")));
            }
        }
    }
    Ok(files)
}

fn downward<'f>(
    sources: &Sources<'_>,
    items: impl Iterator<Item = &'f DownwardAPIVolumeFile>,
    mode: u32,
) -> Result<Files, AgentError> {
    let mut files = Files::new();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => sources.downward.file(&field.field_path)?,
            (None, Some(resource)) => {
                let divisor = resource.divisor.as_ref().map_or("", |divisor| divisor.0.as_str());
                let name = resource.container_name.as_deref().unwrap_or_default();
                sources.downward.resource_of(name, &resource.resource, divisor)?
            }
            (None, None) => {
                let path = &item.path;
                return Err(AgentError::config(format!("downwardAPI: {path} names no field")));
            }
        };
        let mode = bits(item.mode).unwrap_or(mode);
        files.insert(item.path.clone(), PublishedFile { content: text.into(), mode, owner: None });
    }
    Ok(files)
}

async fn account_token(
    sources: &Sources<'_>,
    volume: &str,
    wish: &ServiceAccountTokenProjection,
    mode: u32,
) -> Result<Files, AgentError> {
    let spec = sources.downward.spec;
    let account = spec.service_account_name.as_deref().filter(|name| !name.is_empty());
    let audience = wish.audience.as_deref().unwrap_or_default();
    let seconds = wish.expiration_seconds.unwrap_or(TOKEN_SECONDS);
    let identity = sources.downward.identity;
    let account = account.unwrap_or("default");
    let asked = sources.tokens.get(identity, account, audience, seconds, clock::now()).await;
    // A container that must start again while the API is away starts with what it had:
    // memory that is mounted outlives the agent that knew the token.
    let there = pod_files::below(&sources.dir.volume(volume), &wish.path)
        .map_err(|error| AgentError::config(format!("serviceAccountToken: {error}")))?;
    let token = match asked {
        Ok(token) => token.into_bytes(),
        Err(error) if is_silence(&error) => match read_end(&there, TOKEN_MAX_BYTES) {
            Ok(token) if !token.is_empty() => token,
            _ => return Err(error),
        },
        Err(error) => return Err(error),
    };
    // Its reader alone may read it, where the pod says who that is.
    let owner = one_user(sources);
    let mode = if owner.is_some() || sources.group().is_some() { 0o600 } else { mode };
    let file = PublishedFile { content: token, mode, owner };
    Ok(Files::from([(wish.path.clone(), file)]))
}

/// Nobody answered, or nobody could.
fn is_silence(error: &AgentError) -> bool {
    match error {
        AgentError::Api(ApiError::Unreachable { .. }) => true,
        AgentError::Api(ApiError::Refused(status)) => status.code >= 500,
        _ => false,
    }
}

/// The user that every container of the pod runs as, if it is the same for all.
fn one_user(sources: &Sources<'_>) -> Option<u32> {
    let spec = sources.downward.spec;
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let inits = spec.init_containers.iter().flatten();
    let mut users = inits.chain(&spec.containers).map(|container| {
        let own = container.security_context.as_ref().and_then(|context| context.run_as_user);
        own.or(of_pod)
    });
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn content() -> Content {
        let pairs: [(&str, &[u8]); 3] = [("a", b"1"), ("b", b"2"), ("c", &[0, 1])];
        pairs.iter().map(|(key, bytes)| ((*key).to_owned(), bytes.to_vec())).collect()
    }

    fn chosen(items: serde_json::Value, optional: bool) -> Result<Files, AgentError> {
        let items: Vec<KeyToPath> = serde_json::from_value(items).unwrap();
        let wish = Wish { name: "m", items: Some(&items), optional: Some(optional) };
        choose(Referent::Secret, &wish, content(), 0o400)
    }

    #[test]
    fn a_whole_object_or_chosen_items_become_files() {
        let whole = chosen(json!([]), false).unwrap();
        assert_eq!(whole.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!((&whole["c"].content[..], whole["c"].mode), (&[0, 1][..], 0o400));
        let items = json!([{"key": "a", "path": "x/y"}, {"key": "a", "path": "z", "mode": 0o644}]);
        let some = chosen(items, false).unwrap();
        assert_eq!(some.keys().collect::<Vec<_>>(), ["x/y", "z"]);
        assert_eq!((some["x/y"].mode, some["z"].mode), (0o400, 0o644));
    }

    #[test]
    fn files_get_permissions_and_no_other_bits() {
        assert_eq!(bits(Some(0o4755)), Some(0o755));
        assert_eq!(bits(Some(0o7777)), Some(0o777));
        assert_eq!(bits(Some(-1)), None);
        let items = json!([{"key": "a", "path": "x", "mode": 0o6777}]);
        assert_eq!(chosen(items, false).unwrap()["x"].mode, 0o777);
    }

    #[test]
    fn a_missing_key_is_an_error_unless_optional() {
        let items = json!([{"key": "z", "path": "z"}]);
        let error = chosen(items.clone(), false).unwrap_err().to_string();
        assert_eq!(error, "secret m has no key z");
        assert!(chosen(items, true).unwrap().is_empty());
    }
}
