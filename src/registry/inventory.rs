//! All images of the registry, and where in the cluster their content is.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::registry::records::Recorded;
use crate::registry::{Digest, Registry, RegistryError};

/// One image of one repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageEntry {
    pub repository: String,
    /// Of the manifest or index.
    pub digest: String,
    /// In order; none for an image that only its digest names.
    pub tags: Vec<String>,
    pub media_type: String,
    /// Manifests, configuration and layers together.
    pub size_bytes: u64,
    /// Nodes that hold all of it.
    pub nodes: Vec<String>,
}

/// Everything that a manifest needs, the manifests of an index and their needs included.
fn content<'a>(
    root: &'a Recorded,
    known: &BTreeMap<(&str, &Digest), &'a Recorded>,
) -> BTreeMap<&'a Digest, u64> {
    let mut found = BTreeMap::from([(&root.digest, root.record.size)]);
    for need in &root.record.needs {
        found.insert(&need.digest, need.size);
        if root.record.is_index()
            && let Some(child) = known.get(&(root.repository.as_str(), &need.digest))
        {
            found.extend(child.record.needs.iter().map(|need| (&need.digest, need.size)));
        }
    }
    found
}

impl Registry {
    /// All images in order of repository and digest. The manifests of an index are shown
    /// as part of it only, unless they have a tag of their own.
    pub async fn inventory(&self) -> Result<Vec<ImageEntry>, RegistryError> {
        let manifests = self.records.manifests().await?;
        let tags = self.records.all_tags().await?;
        let presence = self.records.all_presence().await?;
        let known: BTreeMap<_, _> =
            manifests.iter().map(|one| ((one.repository.as_str(), &one.digest), one)).collect();
        let parts: BTreeSet<(&str, &Digest)> = manifests
            .iter()
            .filter(|one| one.record.is_index())
            .flat_map(|one| {
                one.record.needs.iter().map(|need| (one.repository.as_str(), &need.digest))
            })
            .collect();
        let mut entries = Vec::new();
        for one in &manifests {
            let own_tags: Vec<String> = tags
                .iter()
                .filter(|(repository, _, digest)| {
                    *repository == one.repository && digest == one.digest.as_str()
                })
                .map(|(_, tag, _)| tag.clone())
                .collect();
            if own_tags.is_empty() && parts.contains(&(one.repository.as_str(), &one.digest)) {
                continue;
            }
            let content = content(one, &known);
            let holders = presence
                .iter()
                .filter(|(_, held)| content.keys().all(|digest| held.contains(*digest)));
            entries.push(ImageEntry {
                repository: one.repository.clone(),
                digest: one.digest.to_string(),
                tags: own_tags,
                media_type: one.record.media_type.clone(),
                size_bytes: content.values().sum(),
                nodes: holders.map(|(node, _)| node.clone()).collect(),
            });
        }
        Ok(entries)
    }
}
