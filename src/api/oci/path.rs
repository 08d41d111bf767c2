//! Reads the protocol's addresses; repository names contain slashes, so the end decides.

use crate::api::oci::answer::Refusal;
use crate::registry::{Digest, Reference, Repository};

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    Base,
    Catalog,
    /// Ours: all images, and on which nodes their content is.
    Inventory,
    Tags(Repository),
    Referrers(Repository, Digest),
    Manifest(Repository, Reference),
    /// Content is the same in every repository, so the name is checked and dropped.
    Blob(Digest),
    Uploads(Repository),
    Upload(Repository, String),
}

impl Target {
    pub(super) fn parse(path: &str) -> Result<Self, Refusal> {
        let rest = path.strip_prefix("/v2").unwrap_or(path).trim_start_matches('/');
        if rest.is_empty() {
            return Ok(Target::Base);
        }
        if rest == "_catalog" {
            return Ok(Target::Catalog);
        }
        if rest == "_holdfast/images" {
            return Ok(Target::Inventory);
        }
        let mut parts: Vec<&str> = rest.split('/').collect();
        // `…/blobs/uploads/` and `…/blobs/uploads` both begin a session.
        if parts.last() == Some(&"") {
            parts.pop();
        }
        let name = |count: usize| parts[..parts.len() - count].join("/").parse::<Repository>();
        Ok(match parts.as_slice() {
            [_, .., "tags", "list"] => Target::Tags(name(2)?),
            [_, .., "blobs", "uploads"] => Target::Uploads(name(2)?),
            [_, .., "blobs", "uploads", id] => Target::Upload(name(3)?, (*id).to_owned()),
            [_, .., "blobs", digest] => {
                name(2)?;
                Target::Blob(digest.parse()?)
            }
            [_, .., "manifests", reference] => Target::Manifest(name(2)?, reference.parse()?),
            [_, .., "referrers", digest] => Target::Referrers(name(2)?, digest.parse()?),
            _ => return Err(Refusal::not_found()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_path_decides() {
        let name = || "a/blobs/b".parse::<Repository>().unwrap();
        assert_eq!(Target::parse("/v2/").unwrap(), Target::Base);
        assert_eq!(Target::parse("/v2/a/blobs/b/tags/list").unwrap(), Target::Tags(name()));
        assert_eq!(Target::parse("/v2/a/blobs/b/blobs/uploads/").unwrap(), Target::Uploads(name()));
        assert_eq!(
            Target::parse("/v2/a/blobs/b/manifests/v1").unwrap(),
            Target::Manifest(name(), "v1".parse().unwrap())
        );
        assert_eq!(Target::parse("/v2/_holdfast/images").unwrap(), Target::Inventory);
        assert!(Target::parse("/v2/tags/list").is_err());
        assert!(Target::parse("/v2/../manifests/v1").is_err());
        assert!(Target::parse("/v2/a/nothing").is_err());
    }
}
