//! Which release this host has, so that an older one is never put over it.
//!
//! Why the highest ever begun, not the last completed: a killed installation may have put
//! anything of its bundle in place.
//! Invariant: the record is durable before the first file of its bundle is written.

use std::path::PathBuf;

use crate::model::node_config::Paths;
use crate::sys::files;

use super::apply::InstallError;
use super::ports::Release;

fn path(paths: &Paths) -> PathBuf {
    paths.config.join("release.json")
}

/// As if nothing had been installed.
pub(crate) fn forget(paths: &Paths) -> Result<(), InstallError> {
    files::remove_file(&path(paths))?;
    Ok(())
}

/// What is recorded, if anything was ever installed here.
pub(crate) fn installed(paths: &Paths) -> Result<Option<Release>, InstallError> {
    let path = path(paths);
    let Some(bytes) = files::read_if_present(&path)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| InstallError::Damaged { path, reason: error.to_string() })
}

/// Refuses a release that is older than what this host has.
pub fn check(paths: &Paths, offered: &Release) -> Result<(), InstallError> {
    match installed(paths)? {
        Some(installed) if installed.serial > offered.serial => {
            Err(InstallError::OlderBundle { installed, offered: offered.clone() })
        }
        _ => Ok(()),
    }
}

/// Notes a release that [`check`] let pass.
pub(crate) fn record(paths: &Paths, release: &Release) -> Result<(), InstallError> {
    if installed(paths)?.as_ref() == Some(release) {
        return Ok(());
    }
    let json = serde_json::to_vec(release).expect("a release serializes");
    Ok(files::write_atomic(&path(paths), &json, 0o644)?)
}
