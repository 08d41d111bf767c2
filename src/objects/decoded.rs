//! Objects that were decoded a moment ago, for everybody who watches them.
//!
//! Why: a change is told to every watcher of its kind, each of which must look into the
//! object to know whether it is selected. With a watcher on every node that is a thousand
//! looks at one object, and reading it from its bytes costs far more than the look. What they
//! are sent is the same text, too, so it is written once.
//! Invariants: a version of an object is what stands at its key at a revision, and never
//! changes; what cannot be read is not kept.

use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use serde_json::Value;

use super::stored;
use crate::model::kinds::Kind;
use crate::model::kv::{KeyValue, Revision};
use crate::model::status::Status;

/// Versions that are kept, the newest ones; watchers are rarely further apart.
const KEPT: usize = 1_024;

/// One version of an object, for everybody who looks at it.
#[derive(Debug)]
pub struct Version {
    value: Value,
    json: OnceLock<Bytes>,
}

impl Version {
    pub(super) fn new(value: Value) -> Self {
        Self { value, json: OnceLock::new() }
    }

    /// The object as JSON text.
    pub fn json(&self) -> Bytes {
        self.json.get_or_init(|| Bytes::from(self.value.to_string())).clone()
    }

    /// A copy without the owners of its fields, which are as large as the rest.
    pub fn without_owners(&self) -> Value {
        stored::without_owners(&self.value)
    }
}

impl Deref for Version {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}

/// Which version of which object, as which kind shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    api: (&'static str, &'static str),
    key: Bytes,
    revision: Revision,
}

#[derive(Debug, Default)]
struct Kept {
    objects: HashMap<Place, Arc<Version>>,
    /// The oldest first.
    order: VecDeque<Place>,
}

#[derive(Debug, Default)]
pub(super) struct Decoded {
    kept: Mutex<Kept>,
}

impl Place {
    fn of(kind: &Kind, kv: &KeyValue) -> Self {
        let api = (kind.group, kind.version);
        Self { api, key: kv.key.clone(), revision: kv.mod_revision }
    }
}

impl Decoded {
    /// The same for who reads one object now: only if a watcher has read it before.
    pub(super) fn known(&self, kind: &Kind, kv: &KeyValue) -> Option<Arc<Version>> {
        self.lock().objects.get(&Place::of(kind, kv)).cloned()
    }

    /// The object that stands at the key, with the resourceVersion of that.
    pub(super) fn object(&self, kind: &Kind, kv: &KeyValue) -> Result<Arc<Version>, Status> {
        // How such a kind is read changes with its definition.
        if kind.custom.is_some() {
            return stored::decode(kind, kv).map(|object| Arc::new(Version::new(object)));
        }
        if let Some(known) = self.known(kind, kv) {
            return Ok(known);
        }
        let place = Place::of(kind, kv);
        // Two may do this at once; better than that all wait for one.
        let object = Arc::new(Version::new(stored::decode(kind, kv)?));
        let mut kept = self.lock();
        if kept.objects.insert(place.clone(), object.clone()).is_none() {
            kept.order.push_back(place);
            if kept.order.len() > KEPT
                && let Some(oldest) = kept.order.pop_front()
            {
                kept.objects.remove(&oldest);
            }
        }
        Ok(object)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kinds;

    fn kv(name: &str, revision: Revision, text: &str) -> KeyValue {
        KeyValue {
            key: Bytes::from(format!("/registry/core/configmaps/default/{name}")),
            value: Bytes::from(text.to_owned()),
            create_revision: 1,
            mod_revision: revision,
            version: 1,
            lease: 0,
        }
    }

    #[test]
    fn the_text_is_written_once_and_owners_are_left_out_of_copies_only() {
        let version = Version::new(serde_json::json!({
            "kind": "Pod",
            "metadata": {"name": "a", "managedFields": [{"manager": "me"}]},
            "spec": {"managedFields": 1},
        }));
        let text = version.json();
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), *version);
        assert_eq!(text.as_ptr(), version.json().as_ptr());
        let copy = version.without_owners();
        assert_eq!(copy["metadata"], serde_json::json!({"name": "a"}));
        assert_eq!(copy["spec"], version["spec"]);
    }

    #[test]
    fn a_version_is_read_once_and_the_newest_are_kept() {
        let kind = kinds::by_path("", "v1", "configmaps").unwrap();
        let decoded = Decoded::default();
        let first = decoded.object(kind, &kv("a", 5, r#"{"data":{"k":"1"}}"#)).unwrap();
        assert_eq!(first["metadata"]["resourceVersion"], "5");
        // The bytes are not looked at again.
        let again = decoded.object(kind, &kv("a", 5, "no JSON")).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert!(Arc::ptr_eq(&first, &decoded.known(kind, &kv("a", 5, "no JSON")).unwrap()));
        assert!(decoded.known(kind, &kv("a", 6, "{}")).is_none(), "another version");
        let next = decoded.object(kind, &kv("a", 6, r#"{"data":{"k":"2"}}"#)).unwrap();
        assert_eq!(next["data"]["k"], "2");
        assert!(decoded.object(kind, &kv("b", 7, "no JSON")).is_err());
        let good = decoded.object(kind, &kv("b", 7, "{}")).unwrap();
        assert_eq!(good["metadata"]["resourceVersion"], "7");
        for revision in 10..10 + KEPT as Revision {
            decoded.object(kind, &kv("c", revision, "{}")).unwrap();
        }
        assert_eq!(decoded.lock().objects.len(), KEPT);
        assert!(decoded.object(kind, &kv("a", 5, "no JSON")).is_err(), "it was the oldest");
    }
}
