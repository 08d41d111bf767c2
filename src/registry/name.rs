//! Names of the registry: digests, repositories, tags, and images as pods write them.
//!
//! Why checked types: they become file names and store keys; a `..` in one of them must
//! not get that far. Source: OCI distribution-spec 1.1, "Pulling manifests".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::registry::RegistryError;

/// `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// From the 32 bytes of a SHA-256.
    pub fn from_sha256(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(bytes)))
    }

    /// The digest of this content.
    pub fn of(content: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::from_sha256(&sha2::Sha256::digest(content))
    }

    /// The hexadecimal part.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// With the algorithm, as it travels.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = RegistryError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("sha256:").unwrap_or_default();
        let valid = digits.len() == 64
            && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(RegistryError::DigestInvalid { value: text.to_owned() })
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = RegistryError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A repository's name, such as `holdfast/pause`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(String);

impl Repository {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !word(first) || !word(last) {
        return false;
    }
    text.split(|c: char| c.is_ascii() && word(c as u8))
        .filter(|gap| !gap.is_empty())
        .all(|gap| matches!(gap, "." | "_" | "__") || gap.bytes().all(|byte| byte == b'-'))
}

impl FromStr for Repository {
    type Err = RegistryError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() <= 255 && text.split('/').all(is_component) {
            Ok(Self(text.to_owned()))
        } else {
            Err(RegistryError::NameInvalid { value: text.to_owned() })
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = RegistryError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let valid = bytes.len() <= 128
            && bytes.first().is_some_and(word)
            && bytes.iter().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(RegistryError::TagInvalid { value: text.to_owned() })
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An image as a pod names it, reduced to where it may lie in our registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    /// In the order in which they are looked up.
    pub repositories: Vec<Repository>,
    /// Used when there is no digest.
    pub tag: Tag,
    /// Takes precedence over the tag.
    pub digest: Option<Digest>,
}

impl FromStr for ImageName {
    type Err = RegistryError;

    /// The registry's own host name is dropped: every image comes from the cluster's
    /// registry, wherever a manifest written for another cluster says it is.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason| RegistryError::ImageInvalid { value: text.to_owned(), reason };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon behind the last slash starts the tag; one before it is a port.
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, tag),
            _ => (rest, "latest"),
        };
        let path = match path.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
            _ => path,
        };
        if path.is_empty() {
            return Err(invalid("it has no repository"));
        }
        let mut repositories = vec![path.parse::<Repository>()?];
        if let Some(short) = path.strip_prefix("library/") {
            repositories.push(short.parse()?);
        }
        Ok(Self { repositories, tag: tag.parse()?, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> (Vec<String>, String, bool) {
        let name: ImageName = text.parse().unwrap();
        let repositories = name.repositories.iter().map(ToString::to_string).collect();
        (repositories, name.tag.to_string(), name.digest.is_some())
    }

    #[test]
    fn image_names_are_reduced_to_repositories() {
        assert_eq!(image("hello"), (vec!["hello".into()], "latest".into(), false));
        assert_eq!(image("localhost:5000/hello:1"), (vec!["hello".into()], "1".into(), false));
        assert_eq!(
            image("docker.io/library/nginx:1.2"),
            (vec!["library/nginx".into(), "nginx".into()], "1.2".into(), false)
        );
        assert_eq!(image("10.0.0.1:5000/a/b"), (vec!["a/b".into()], "latest".into(), false));
        let digest = Digest::of(b"x");
        assert_eq!(image(&format!("a/b:1@{digest}")), (vec!["a/b".into()], "1".into(), true));
        for bad in ["", "UPPER:1", "a//b", "a/../b", "hello:", "hello@sha256:12", "localhost:5000/"]
        {
            assert!(bad.parse::<ImageName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_could_leave_the_directory_are_refused() {
        for bad in ["..", "a/..", "/a", "a/", "a..b", "a___b", "-a", "a-", "a b"] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
        for good in ["a", "a/b-c", "a--b", "a__b.c"] {
            assert!(good.parse::<Repository>().is_ok(), "{good}");
        }
        assert!("..".parse::<Tag>().is_err());
        assert!("sha256:../../etc/passwd".parse::<Digest>().is_err());
        assert_eq!(Digest::of(b"").hex().len(), 64);
    }
}
