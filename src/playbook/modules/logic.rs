//! `assert`, `fail`, `set_fact`, `debug`, `wait_for`.

use std::path::PathBuf;
use std::time::Duration;

use super::{Call, ModuleError, Outcome, wrong};

/// Every expression of `that` must hold.
pub(super) fn assert(call: &Call<'_>) -> Result<Outcome, ModuleError> {
    call.allow(&["that", "fail_msg", "success_msg", "quiet"])?;
    for condition in call.strings("that")? {
        if !call.evaluator.condition(&condition, call.vars)? {
            let message = match call.args.get("fail_msg") {
                None => format!("{condition} does not hold"),
                Some(text) => {
                    let text = call.evaluator.value(text, call.vars)?;
                    text.as_str().map_or_else(|| text.to_string(), ToOwned::to_owned)
                }
            };
            return Err(ModuleError::Asserted(message));
        }
    }
    Ok(Outcome::changed(false))
}

pub(super) fn fail(call: &Call<'_>) -> Result<Outcome, ModuleError> {
    call.allow(&["msg"])?;
    Err(ModuleError::Asserted(call.text("msg")?.unwrap_or_else(|| "failed as asked".into())))
}

pub(super) fn set_fact(call: &Call<'_>) -> Result<Outcome, ModuleError> {
    Ok(Outcome { facts: call.args.clone(), ..Outcome::default() })
}

pub(super) fn debug(call: &Call<'_>) -> Result<Outcome, ModuleError> {
    call.allow(&["msg", "var"])?;
    let message = match call.text("var")? {
        Some(name) => call.vars.get(&name).map_or_else(String::new, ToString::to_string),
        None => call.text("msg")?.unwrap_or_default(),
    };
    Ok(Outcome::changed(false).with("msg", message))
}

/// Waits until a path exists, a Unix socket at `socket` or a TCP port answers.
pub(super) async fn wait_for(call: &Call<'_>) -> Result<Outcome, ModuleError> {
    call.allow(&["path", "socket", "host", "port", "timeout", "state"])?;
    let deadline = call.seconds("timeout", 300)?;
    let wanted = match call.text("state")?.as_deref() {
        None | Some("present" | "started") => true,
        Some("absent" | "stopped") => false,
        Some(_) => return Err(wrong("state", "must be started, present, stopped or absent")),
    };
    let path = call.text("path")?.map(PathBuf::from);
    let socket = call.text("socket")?.map(PathBuf::from);
    let port = call.text("port")?;
    let host = call.text("host")?.unwrap_or_else(|| "127.0.0.1".into());
    let what = match (&path, &socket, &port) {
        (Some(path), None, None) => format!("path {}", path.display()),
        (None, Some(socket), None) => format!("socket {}", socket.display()),
        (None, None, Some(port)) => format!("{host}:{port}"),
        _ => return Err(wrong("path", "give exactly one of path, socket and port")),
    };
    if call.check {
        return Ok(Outcome { skipped: true, ..Outcome::default() });
    }
    let there = async || match (&path, &socket, &port) {
        (Some(path), _, _) => path.exists(),
        (_, Some(socket), _) => tokio::net::UnixStream::connect(socket).await.is_ok(),
        (_, _, Some(port)) => {
            tokio::net::TcpStream::connect(format!("{host}:{port}")).await.is_ok()
        }
        _ => false,
    };
    let wait = async {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tick.tick().await;
            if there().await == wanted {
                return;
            }
        }
    };
    match tokio::time::timeout(deadline, wait).await {
        Ok(()) => Ok(Outcome::changed(false)),
        Err(_) => Err(ModuleError::Waited { what, waited: deadline }),
    }
}
