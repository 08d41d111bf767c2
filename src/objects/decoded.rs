//! Objects that were decoded a moment ago, for everybody who watches them.
//!
//! Why: a change is told to every watcher of its kind, each of which must look into the
//! object to know whether it is selected. With a watcher on every node that is a thousand
//! looks at one object, and reading it from its bytes costs far more than the look.
//! Invariants: a version of an object is what stands at its key at a revision, and never
//! changes; what cannot be read is not kept.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::Value;

use super::stored;
use crate::model::kinds::Kind;
use crate::model::kv::{KeyValue, Revision};
use crate::model::status::Status;

/// Versions that are kept, the newest ones; watchers are rarely further apart.
const KEPT: usize = 1_024;

/// One version of one object as one kind shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Version {
    api: (&'static str, &'static str),
    key: Bytes,
    revision: Revision,
}

#[derive(Debug, Default)]
struct Kept {
    objects: HashMap<Version, Arc<Value>>,
    /// The oldest first.
    order: VecDeque<Version>,
}

#[derive(Debug, Default)]
pub(super) struct Decoded {
    kept: Mutex<Kept>,
}

impl Decoded {
    /// The object that stands at the key, with the resourceVersion of that.
    pub(super) fn object(&self, kind: &Kind, kv: &KeyValue) -> Result<Arc<Value>, Status> {
        // How such a kind is read changes with its definition.
        if kind.custom.is_some() {
            return stored::decode(kind, kv).map(Arc::new);
        }
        let version = Version {
            api: (kind.group, kind.version),
            key: kv.key.clone(),
            revision: kv.mod_revision,
        };
        let known = self.lock().objects.get(&version).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        // Two may do this at once; better than that all wait for one.
        let object = Arc::new(stored::decode(kind, kv)?);
        let mut kept = self.lock();
        if kept.objects.insert(version.clone(), object.clone()).is_none() {
            kept.order.push_back(version);
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
    fn a_version_is_read_once_and_the_newest_are_kept() {
        let kind = kinds::by_path("", "v1", "configmaps").unwrap();
        let decoded = Decoded::default();
        let first = decoded.object(kind, &kv("a", 5, r#"{"data":{"k":"1"}}"#)).unwrap();
        assert_eq!(first["metadata"]["resourceVersion"], "5");
        // The bytes are not looked at again.
        let again = decoded.object(kind, &kv("a", 5, "no JSON")).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
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
