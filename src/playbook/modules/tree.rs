//! `bundle_tree`: puts a tree of the bundle, such as the engine, in its place.
//!
//! Extracted beside the target and renamed over it, so that a killed run never leaves a
//! half-filled tree under the real name. A marker inside names the bundle it is from.

use super::{Call, ModuleError, Outcome};
use crate::sys::files;

/// In the tree's root; holds the digest of the bundle that it was extracted from.
const MARKER: &str = ".holdfast-tree";

pub(super) fn bundle_tree(call: &Call<'_>) -> Result<Outcome, ModuleError> {
    call.allow(&["name", "dest"])?;
    let name = call.required("name")?;
    let dest = call.path("dest")?;
    let marker = format!("{name} {}\n", call.files.digest());
    let found = files::read_if_present(&dest.join(MARKER))?;
    if found.as_deref() == Some(marker.as_bytes()) {
        return Ok(Outcome::changed(false));
    }
    if files::inspect(&dest)?.is_some() && found.is_none() {
        return Err(ModuleError::Argument {
            argument: "dest".into(),
            reason: format!("{} exists and is not ours; move it away", dest.display()),
        });
    }
    if call.check {
        return Ok(Outcome::changed(true));
    }
    let file_name = dest.file_name().unwrap_or_default().to_string_lossy();
    let (fresh, old) = (
        dest.with_file_name(format!(".{file_name}.new")),
        dest.with_file_name(format!(".{file_name}.old")),
    );
    for path in [&fresh, &old, &dest] {
        call.undo.before_tree(path)?;
    }
    files::remove_tree(&fresh)?;
    files::remove_tree(&old)?;
    files::create_dir(&fresh, 0o755)?;
    call.files.extract_tree(&name, &fresh)?;
    files::write_atomic(&fresh.join(MARKER), marker.as_bytes(), 0o644)?;
    files::sync_tree(&fresh)?;
    if found.is_some() {
        files::rename(&dest, &old)?;
    }
    files::rename(&fresh, &dest)?;
    files::remove_tree(&old)?;
    Ok(Outcome::changed(true).with("dest", dest.display().to_string()))
}
