//! `command`, `service`, `systemd`, `sysctl`, `modprobe`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{Call, ModuleError, Outcome, wrong};
use crate::sys::process::Program;
use crate::sys::systemd::Systemd;
use crate::sys::{files, host};

const COMMAND_SECONDS: u64 = 300;

/// Runs a program; `cmd` is split at blanks, quotes group words, no shell is involved.
pub(super) async fn command(call: &Call<'_>) -> Result<Outcome, ModuleError> {
    call.allow(&["cmd", "argv", "chdir", "creates", "removes", "environment", "timeout"])?;
    let skip = |name: &str, exists: bool| -> Result<bool, ModuleError> {
        Ok(call.text(name)?.is_some_and(|path| Path::new(&path).exists() == exists))
    };
    if skip("creates", true)? || skip("removes", false)? {
        return Ok(Outcome::changed(false).with("rc", 0).with("stdout", "").with("stderr", ""));
    }
    let argv = match call.text("cmd")? {
        Some(line) => words(&line).ok_or_else(|| wrong("cmd", "has an open quote"))?,
        None => call.strings("argv")?,
    };
    if call.check {
        return Ok(Outcome { skipped: true, ..Outcome::default() });
    }
    let mut environment = BTreeMap::new();
    if let Some(Value::Object(map)) = call.args.get("environment") {
        for (name, value) in map {
            let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            environment.insert(name.clone(), text);
        }
    }
    let directory = call.text("chdir")?.map(PathBuf::from);
    let program = Program { argv, environment, directory };
    let finished = program.run(call.seconds("timeout", COMMAND_SECONDS)?).await?;
    if finished.code != 0 {
        let output = match finished.stderr.trim() {
            "" => finished.stdout.trim(),
            text => text,
        };
        return Err(ModuleError::Command {
            program: program.argv.first().cloned().unwrap_or_default(),
            code: finished.code,
            output: output.to_owned(),
        });
    }
    Ok(Outcome::changed(true)
        .with("rc", finished.code)
        .with("stdout", finished.stdout.trim_end())
        .with("stderr", finished.stderr.trim_end()))
}

/// Splits a line at blanks; single and double quotes group.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote, mut started) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                started = true;
            }
            (None, c) if c.is_whitespace() => {
                if started {
                    words.push(std::mem::take(&mut word));
                    started = false;
                }
            }
            (_, c) => {
                word.push(c);
                started = true;
            }
        }
    }
    if started {
        words.push(word);
    }
    quote.is_none().then_some(words)
}

/// Service state by the host's manager; `enabled` and `daemon_reload` where the manager
/// is systemd (our own PID 1 reads both from the service file).
pub(super) async fn service(call: &Call<'_>) -> Result<Outcome, ModuleError> {
    call.allow(&["name", "state", "enabled", "daemon_reload"])?;
    let systemd = (call.services.name() == "systemd").then_some(Systemd);
    let mut changed = false;
    if call.flag("daemon_reload")? == Some(true)
        && !call.check
        && let Some(systemd) = &systemd
    {
        systemd.reload_units().await?;
    }
    let Some(name) = call.text("name")? else { return Ok(Outcome::changed(false)) };
    if let (Some(wanted), Some(systemd)) = (call.flag("enabled")?, &systemd)
        && systemd.is_enabled(&name).await? != wanted
    {
        changed = true;
        if !call.check {
            systemd.set_enabled(&name, wanted).await?;
        }
    }
    let state = call.text("state")?;
    let running = call.services.is_running(&name).await?;
    changed |= match state.as_deref() {
        None => false,
        Some("started") if running => false,
        Some("stopped") if call.check => running,
        Some("started" | "restarted") if call.check => true,
        Some("started") => call.services.start(&name).await.map(|()| true)?,
        // Also where it does not run: it may have died and wait to be started again.
        Some("stopped") => call.services.stop(&name).await.map(|()| running)?,
        Some("restarted") => call.services.restart(&name).await.map(|()| true)?,
        Some(_) => return Err(wrong("state", "must be started, stopped or restarted")),
    };
    Ok(Outcome::changed(changed).with("name", name))
}

/// A kernel setting, now, and with `sysctl_file` also at the next boot.
pub(super) fn sysctl(call: &Call<'_>) -> Result<Outcome, ModuleError> {
    call.allow(&["name", "value", "sysctl_file"])?;
    let name = call.required("name")?;
    let value = call.required("value")?;
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    let found = files::read_text(&path)?;
    let mut changed = false;
    if normal(&found) != normal(&value) {
        changed = true;
        if !call.check {
            call.undo.before_kernel(&path, found.trim())?;
            files::write_kernel(&path, &value)?;
        }
    }
    if call.text("sysctl_file")?.is_some() {
        changed |= persist(call, &call.path("sysctl_file")?, &name, &value)?;
    }
    Ok(Outcome::changed(changed).with("name", name))
}

fn normal(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Sets one line of a sysctl file of our own.
fn persist(call: &Call<'_>, file: &Path, name: &str, value: &str) -> Result<bool, ModuleError> {
    let old = files::read_if_present(file)?.unwrap_or_default();
    let old = String::from_utf8_lossy(&old);
    let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let mut lines: Vec<String> =
        old.lines().filter(|line| key(line) != name).map(ToOwned::to_owned).collect();
    lines.push(format!("{name} = {value}"));
    lines.sort();
    let text = lines.join("\n") + "\n";
    if text == old {
        return Ok(false);
    }
    if !call.check {
        call.undo.before_change(file)?;
        if let Some(dir) = file.parent().filter(|dir| !dir.exists()) {
            files::create_dir(dir, 0o755)?;
        }
        files::write_atomic(file, text.as_bytes(), 0o644)?;
    }
    Ok(true)
}

/// Loads a kernel module unless it is there already. Modules stay loaded after `reset`:
/// others may have begun to use them.
pub(super) async fn modprobe(call: &Call<'_>) -> Result<Outcome, ModuleError> {
    call.allow(&["name", "state"])?;
    let name = call.required("name")?;
    if host::has_module(&name) {
        return Ok(Outcome::changed(false));
    }
    if !call.check {
        let program = Program::new(&["modprobe", &name]);
        let finished = program.run(Duration::from_secs(60)).await?;
        if finished.code != 0 {
            let (code, output) = (finished.code, finished.stderr.trim().to_owned());
            return Err(ModuleError::Command { program: "modprobe".into(), code, output });
        }
    }
    Ok(Outcome::changed(true))
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn quotes_group_words() {
        let split = words("a 'b c'  \"d\" e\"f g\" ''").expect("closed");
        assert_eq!(split, ["a", "b c", "d", "ef g", ""]);
        assert_eq!(words("a 'b"), None);
    }
}
