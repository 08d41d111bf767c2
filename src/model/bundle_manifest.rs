//! What a bundle says about itself: the signed manifest that stands first in the file.
//!
//! Why every size and digest twice (packed and plain): the packed pair lets a damaged
//! entry be named without unpacking it, the plain pair is what lands on the host.
//! Invariants: entry names are relative, clean and strictly ascending, so that the byte
//! offsets of the whole file follow from the manifest alone; links point only at a
//! sibling. [`Manifest::problem`] checks all of that, also on signed input.
//! Not here: the bytes around it (`bundle/format.rs`), keys (`bundle/keys.rs`).

use serde::{Deserialize, Serialize};

/// The format this program writes and the only one it reads.
pub const BUNDLE_FORMAT: u32 = 1;
/// The value of [`Manifest::kind`].
pub const BUNDLE_KIND: &str = "holdfast-bundle";

/// The manifest; its serialized bytes are what the signature covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Always [`BUNDLE_KIND`].
    pub kind: String,
    /// [`BUNDLE_FORMAT`].
    pub format: u32,
    /// The release's name for people, `0.1.0`.
    pub version: String,
    /// Grows with every release; a host refuses a smaller one than it has.
    pub serial: u64,
    /// Debian's name of the architecture, `amd64`.
    pub architecture: String,
    /// Identity of the key that signed, see `bundle/keys.rs`.
    pub key_id: String,
    /// Where the engine's files must stand to run, `/opt/holdfast/engine`.
    pub engine_prefix: String,
    /// The distribution packages that the engine was taken from.
    pub packages: Vec<PackageRecord>,
    /// All that follows, in the order in which it stands in the file.
    pub entries: Vec<Entry>,
}

/// A distribution package whose files are in the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PackageRecord {
    pub name: String,
    pub version: String,
    /// Digest of the package file, hex.
    pub sha256: String,
}

/// One file or link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// `engine/bin/dockerd`; the first component says what it belongs to.
    pub name: String,
    pub body: EntryBody,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EntryBody {
    /// Stands in the file as one zstd frame.
    #[serde(rename_all = "camelCase")]
    File {
        /// Permission bits, octal in text.
        mode: Mode,
        /// Plain bytes.
        size: u64,
        /// Of the plain bytes, hex.
        sha256: String,
        /// Bytes of the frame.
        packed_size: u64,
        /// Of the frame, hex.
        packed_sha256: String,
    },
    /// A symbolic link to a sibling; nothing of it stands in the file.
    Link { target: String },
}

/// Permission bits, written as `"0755"` because YAML and JSON have no octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(pub u32);

impl TryFrom<String> for Mode {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match u32::from_str_radix(&text, 8) {
            Ok(bits) if bits <= 0o7777 && text.len() >= 3 => Ok(Mode(bits)),
            _ => Err(format!("file mode {text:?} is not octal like \"0755\"")),
        }
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> String {
        format!("{:04o}", mode.0)
    }
}

impl Manifest {
    /// The first thing that makes this manifest unusable, if any.
    pub fn problem(&self) -> Option<String> {
        if self.kind != BUNDLE_KIND {
            return Some(format!("kind is {:?}, not {BUNDLE_KIND:?}", self.kind));
        }
        let mut before: Option<&str> = None;
        for entry in &self.entries {
            if let Some(reason) = name_problem(&entry.name) {
                return Some(format!("entry {:?}: {reason}", entry.name));
            }
            if before.is_some_and(|name| name >= entry.name.as_str()) {
                return Some(format!("entry {:?} is out of order or twice", entry.name));
            }
            if let EntryBody::Link { target } = &entry.body
                && (target.contains('/') || name_problem(target).is_some())
            {
                return Some(format!("link {:?} does not point at a sibling", entry.name));
            }
            before = Some(&entry.name);
        }
        None
    }

    /// The entry of that name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        let found = self.entries.binary_search_by(|entry| entry.name.as_str().cmp(name));
        found.ok().map(|index| &self.entries[index])
    }

    /// All entries below `folder`, with their names relative to it.
    pub fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        self.entries.iter().filter_map(move |entry| {
            let rest = entry.name.strip_prefix(folder)?.strip_prefix('/')?;
            Some((rest, entry))
        })
    }
}

/// Why `name` must not become a path below a destination, if it must not.
pub fn name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("the name is empty");
    }
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return Some("the name has a control character or a backslash");
    }
    let clean = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !name.split('/').all(clean) {
        return Some("the name is not a clean relative path");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, target: &str) -> Entry {
        Entry { name: name.into(), body: EntryBody::Link { target: target.into() } }
    }

    fn manifest(entries: Vec<Entry>) -> Manifest {
        Manifest {
            kind: BUNDLE_KIND.into(),
            format: BUNDLE_FORMAT,
            version: "1".into(),
            serial: 1,
            architecture: "amd64".into(),
            key_id: "k".into(),
            engine_prefix: "/opt".into(),
            packages: vec![],
            entries,
        }
    }

    #[test]
    fn names_that_leave_the_destination_are_refused() {
        for name in ["", "/etc/passwd", "a/../b", "..", "a//b", "a/", "./a", "a\nb"] {
            assert!(manifest(vec![link(name, "x")]).problem().is_some(), "{name:?}");
        }
        for target in ["../x", "/x", "", "a/b", ".."] {
            assert!(manifest(vec![link("a", target)]).problem().is_some(), "{target:?}");
        }
        assert_eq!(manifest(vec![link("a/b", "c")]).problem(), None);
    }

    #[test]
    fn entries_must_ascend() {
        assert!(manifest(vec![link("b", "x"), link("a", "x")]).problem().is_some());
        assert!(manifest(vec![link("a", "x"), link("a", "x")]).problem().is_some());
    }

    #[test]
    fn entries_are_found_by_folder() {
        let manifest = manifest(vec![link("a/b", "x"), link("ab/c", "x")]);
        let names: Vec<_> = manifest.below("a").map(|(name, _)| name).collect();
        assert_eq!(names, ["b"]);
        assert!(manifest.entry("ab/c").is_some());
    }

    #[test]
    fn modes_are_octal_text() {
        assert_eq!(Mode::try_from("0755".to_string()), Ok(Mode(0o755)));
        assert_eq!(String::from(Mode(0o644)), "0644");
        assert!(Mode::try_from("rwx".to_string()).is_err());
    }
}
