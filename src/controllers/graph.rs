//! Who owns whom, over all resources: the metadata that collection needs, and no more.
//!
//! Why metadata only: the collector looks at every object of the cluster; holding whole
//! objects a second time would double the caches.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Deserialize;

use crate::client::api::{ListOptions, ResourceRef, SharedApi};
use crate::client::informer::Informer;
use crate::client::key::ObjectKey;
use crate::model::kinds::Kind;

/// Index of objects by the uids of their owners.
const BY_OWNER: &str = "owner";

/// An object as far as collection is concerned.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Tracked {
    pub(super) metadata: TrackedMetadata,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TrackedMetadata {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) deletion_timestamp: Option<String>,
    pub(super) finalizers: Vec<String>,
    pub(super) owner_references: Vec<OwnerReference>,
}

impl Tracked {
    pub(super) fn key(&self) -> ObjectKey {
        ObjectKey::new(self.metadata.namespace.clone(), self.metadata.name.clone())
    }

    pub(super) fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether a change of it may mean anything to whoever collects: what else stands in an
    /// object, its status above all, changes far more often.
    pub(super) fn differs(&self, other: &Tracked) -> bool {
        let (own, other) = (&self.metadata, &other.metadata);
        own.uid != other.uid
            || own.deletion_timestamp.is_some() != other.deletion_timestamp.is_some()
            || own.finalizers != other.finalizers
            || own.owner_references != other.owner_references
    }

    /// The reference by which the object names this owner.
    pub(super) fn reference_to(&self, owner_uid: &str) -> Option<&OwnerReference> {
        self.metadata.owner_references.iter().find(|owner| owner.uid == owner_uid)
    }
}

fn by_owner(object: &Tracked) -> Vec<String> {
    object.metadata.owner_references.iter().map(|owner| owner.uid.clone()).collect()
}

/// One object of the graph: which resource, which name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct GraphKey {
    pub(super) resource: usize,
    pub(super) plural: &'static str,
    pub(super) key: ObjectKey,
}

impl std::fmt::Display for GraphKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.plural, self.key)
    }
}

/// All resources that take part in collection.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    pub(super) resources: Vec<(ResourceRef, Informer<Tracked>)>,
}

/// How controllers address a kind.
pub(super) fn resource_of(kind: &'static Kind) -> ResourceRef {
    ResourceRef {
        group: kind.group,
        version: kind.version,
        kind: kind.kind,
        plural: kind.plural,
        namespaced: kind.namespaced,
    }
}

/// The cache of a resource.
pub(super) fn informer(api: &SharedApi, resource: &ResourceRef) -> Informer<Tracked> {
    let indexes: &[(&'static str, crate::client::informer::IndexFn<Tracked>)] =
        &[(BY_OWNER, by_owner)];
    Informer::indexed(api.clone(), resource.clone(), None, ListOptions::default(), indexes)
}

impl Graph {
    pub(super) fn key(&self, resource: usize, key: ObjectKey) -> GraphKey {
        GraphKey { resource, plural: self.resources[resource].0.plural, key }
    }

    /// The number of the resource that an owner reference speaks of.
    pub(super) fn resource_of(&self, owner: &OwnerReference) -> Option<usize> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        self.resources
            .iter()
            .position(|(resource, _)| resource.kind == owner.kind && resource.group == group)
    }

    /// Where the owner of an object in `namespace` is found.
    pub(super) fn owner_key(&self, owner: &OwnerReference, namespace: &str) -> Option<GraphKey> {
        let resource = self.resource_of(owner)?;
        let namespace = if self.resources[resource].0.namespaced { namespace } else { "" };
        Some(self.key(resource, ObjectKey::new(namespace, owner.name.clone())))
    }

    /// All objects that name this uid as an owner.
    pub(super) fn dependents(&self, owner_uid: &str) -> Vec<GraphKey> {
        let resources = self.resources.iter().enumerate();
        let found = resources.flat_map(|(at, (_, informer))| {
            let objects = informer.by_index(BY_OWNER, owner_uid);
            objects.into_iter().map(move |object| (at, object.key()))
        });
        found.map(|(at, key)| self.key(at, key)).collect()
    }

    /// How many dependents hold the owner's deletion up.
    pub(super) fn blocking(&self, owner_uid: &str) -> usize {
        let informers = self.resources.iter().map(|(_, informer)| informer);
        let objects = informers.flat_map(|informer| informer.by_index(BY_OWNER, owner_uid));
        let references = objects.filter(|object| {
            let reference = object.reference_to(owner_uid);
            reference.and_then(|reference| reference.block_owner_deletion) == Some(true)
        });
        references.count()
    }
}
