//! `file`, `copy`, `template`, `stat`.

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Call, ModuleError, Outcome, wrong};
use crate::sys::files;

/// Largest file whose change is shown line by line, bytes.
const DIFF_MAX_BYTES: usize = 256 * 1024;

/// Like Ansible's: `state` is `file` (default), `directory`, `link`, `absent`, `touch`;
/// ours besides: `expected`, a file that another program will make and `reset` removes.
pub(super) fn file(call: &Call<'_>) -> Result<Outcome, ModuleError> {
    call.allow(&["path", "state", "mode", "src"])?;
    let path = call.path("path")?;
    let mode = call.mode()?;
    let state = call.text("state")?.unwrap_or_else(|| "file".into());
    let found = files::inspect(&path)?;
    match state.as_str() {
        "directory" => match found {
            Some(info) if info.is_dir => set_mode(call, &path, info.mode, mode),
            Some(_) => Err(wrong("path", "exists and is not a directory")),
            None => {
                if !call.check {
                    call.undo.before_change(&path)?;
                    files::create_dir(&path, mode.unwrap_or(0o755))?;
                }
                Ok(Outcome::changed(true))
            }
        },
        "link" => {
            let target = call.path("src")?;
            match found {
                Some(info) if info.link_target.as_deref() == Some(&target) => {
                    Ok(Outcome::changed(false))
                }
                Some(info) if !info.is_link => Err(wrong("path", "exists and is not a link")),
                _ => {
                    if !call.check {
                        call.undo.before_change(&path)?;
                        files::link(&path, &target)?;
                    }
                    Ok(Outcome::changed(true))
                }
            }
        }
        "absent" => match found {
            None => Ok(Outcome::changed(false)),
            Some(info) if info.is_dir => {
                if !call.check && !files::remove_dir_if_empty(&path)? {
                    return Err(wrong("path", "is a directory that is not empty"));
                }
                Ok(Outcome::changed(true))
            }
            Some(_) => {
                if !call.check {
                    call.undo.before_change(&path)?;
                    files::remove_file(&path)?;
                }
                Ok(Outcome::changed(true))
            }
        },
        // Another program is about to make it; only `reset` needs to know.
        "expected" => {
            if found.is_none() && !call.check {
                call.undo.before_change(&path)?;
            }
            Ok(Outcome::changed(false))
        }
        "touch" | "file" => match found {
            Some(info) if !info.is_dir => set_mode(call, &path, info.mode, mode),
            None if state == "touch" => put(call, &path, b"", mode),
            _ => Err(wrong("path", "is not a file")),
        },
        _ => Err(wrong("state", "must be file, directory, link, absent, touch or expected")),
    }
}

fn set_mode(
    call: &Call<'_>,
    path: &Path,
    found: u32,
    wanted: Option<u32>,
) -> Result<Outcome, ModuleError> {
    let Some(mode) = wanted.filter(|mode| *mode != found) else {
        return Ok(Outcome::changed(false));
    };
    if !call.check {
        call.undo.before_change(path)?;
        files::set_mode(path, mode)?;
    }
    Ok(Outcome::changed(true))
}

/// `content`, or `src` from the bundle, to `dest`.
pub(super) fn copy(call: &Call<'_>) -> Result<Outcome, ModuleError> {
    call.allow(&["dest", "content", "src", "mode", "remote_src"])?;
    let dest = call.path("dest")?;
    let content = match (call.args.get("content"), call.text("src")?) {
        (Some(Value::String(text)), None) => text.clone().into_bytes(),
        // Ansible writes a structure as JSON.
        (Some(value), None) => value.to_string().into_bytes(),
        (None, Some(src)) if call.flag("remote_src")? == Some(true) => {
            files::read(Path::new(&src))?
        }
        (None, Some(src)) => call.files.read(&format!("playbooks/files/{src}"))?,
        _ => return Err(wrong("content", "give either content or src")),
    };
    put(call, &dest, &content, call.mode()?)
}

/// A template from the bundle, rendered with the task's variables.
pub(super) fn template(call: &Call<'_>) -> Result<Outcome, ModuleError> {
    call.allow(&["src", "dest", "mode"])?;
    let src = call.required("src")?;
    let source = call.files.read(&format!("playbooks/templates/{src}"))?;
    let text = call.evaluator.template(&String::from_utf8_lossy(&source), call.vars)?;
    put(call, &call.path("dest")?, text.as_bytes(), call.mode()?)
}

fn put(
    call: &Call<'_>,
    dest: &Path,
    content: &[u8],
    mode: Option<u32>,
) -> Result<Outcome, ModuleError> {
    let found = files::inspect(dest)?;
    if found.as_ref().is_some_and(|info| info.is_dir) {
        return Err(wrong("dest", "is a directory"));
    }
    let old = files::read_if_present(dest)?;
    let old_mode = found.map(|info| info.mode);
    let mode = mode.or(old_mode).unwrap_or(0o644);
    let same = old.as_deref() == Some(content);
    if same && old_mode == Some(mode) {
        return Ok(Outcome::changed(false));
    }
    if !call.check {
        call.undo.before_change(dest)?;
        if let Some(dir) = dest.parent().filter(|dir| !dir.exists()) {
            files::create_dir(dir, 0o755)?;
        }
        files::write_atomic(dest, content, mode)?;
    }
    let mut outcome = Outcome::changed(true);
    // A file that only its owner may read does not belong on a screen or in a log.
    if !same && mode & 0o077 != 0 {
        outcome.diff = diff(dest, old.as_deref().unwrap_or_default(), content);
    }
    Ok(outcome.with("dest", dest.display().to_string()))
}

fn diff(path: &Path, old: &[u8], new: &[u8]) -> Option<String> {
    if old.len() > DIFF_MAX_BYTES || new.len() > DIFF_MAX_BYTES {
        return None;
    }
    let (old, new) = (std::str::from_utf8(old).ok()?, std::str::from_utf8(new).ok()?);
    let name = path.display().to_string();
    let changes = similar::TextDiff::from_lines(old, new);
    Some(changes.unified_diff().context_radius(2).header(&name, &name).to_string())
}

/// What is there, as `stat` in the result, in Ansible's words.
pub(super) fn stat(call: &Call<'_>) -> Result<Outcome, ModuleError> {
    call.allow(&["path"])?;
    let path = call.path("path")?;
    let stat = match files::inspect(&path)? {
        None => json!({ "exists": false }),
        Some(info) => {
            let checksum = if info.is_dir || info.is_link {
                Value::Null
            } else {
                Value::from(hex::encode(Sha256::digest(files::read(&path)?)))
            };
            json!({
                "exists": true,
                "isdir": info.is_dir,
                "islnk": info.is_link,
                "isreg": !info.is_dir && !info.is_link,
                "mode": format!("{:04o}", info.mode),
                "uid": info.uid,
                "gid": info.gid,
                "size": info.size_bytes,
                "checksum": checksum,
            })
        }
    };
    Ok(Outcome::changed(false).with("stat", stat))
}
