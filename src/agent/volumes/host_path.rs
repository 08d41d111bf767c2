//! Directories, files and devices of the host itself.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::agent::AgentError;
use crate::sys::pod_files;

/// Makes what the type says may be made, and checks what is there.
pub(super) fn check(path: &Path, kind: Option<&str>) -> Result<(), AgentError> {
    let kind = kind.unwrap_or_default();
    match kind {
        "DirectoryOrCreate" if !path.exists() => {
            pod_files::make_dir(path, 0o755).map_err(AgentError::files("make", path))?;
        }
        "FileOrCreate" if !path.exists() => {
            pod_files::touch_file(path, 0o644).map_err(AgentError::files("make", path))?;
        }
        _ => {}
    }
    let found = pod_files::kind_of(path).map_err(AgentError::files("look at", path))?;
    let is_right = found.is_some_and(|found| match kind {
        "DirectoryOrCreate" | "Directory" => found.is_dir(),
        "FileOrCreate" | "File" => found.is_file(),
        "Socket" => found.is_socket(),
        "CharDevice" => found.is_char_device(),
        "BlockDevice" => found.is_block_device(),
        _ => true,
    });
    if is_right {
        return Ok(());
    }
    let kind = if kind.is_empty() { "existing path" } else { kind };
    Err(AgentError::config(format!(
        "hostPath type check failed: {} is not a {kind}",
        path.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_checked_and_two_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        check(&at("made"), Some("DirectoryOrCreate")).unwrap();
        check(&at("touched/file"), Some("FileOrCreate")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let places = [at("made"), at("touched/file"), at("socket"), "/dev/null".into()];
        let kinds = ["Directory", "File", "Socket", "CharDevice"];
        for (index, place) in places.iter().enumerate() {
            check(place, None).unwrap();
            check(place, Some("")).unwrap();
            for (other, kind) in kinds.iter().enumerate() {
                assert_eq!(check(place, Some(kind)).is_ok(), index == other, "{place:?} {kind}");
            }
            assert!(check(place, Some("BlockDevice")).is_err());
        }
        let absent = check(&at("absent"), None).unwrap_err().to_string();
        assert!(absent.contains("is not a existing path"), "{absent}");
    }
}
