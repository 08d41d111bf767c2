//! `reset`: undoes an installation and leaves the host as it was.
//!
//! ```text
//!  leave the cluster ► stop holdfast ► containers ► network ► stop engine ► unmount ► undo log ► directories
//! ```
//! Goes on past failures and says all of them at the end, except that it goes no further
//! while containers of ours are left; what is needed to try again
//! (the undo log) is removed last and only when everything else is gone.
//! Invariant: touches only what the undo log, our service names and our directories
//! name; a host's own Docker and its files are none of them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::base::chain::chain;
use crate::model::node_config::Paths;
use crate::playbook::UndoLog;
use crate::sys::files;
use crate::sys::host;
use crate::sys::rtnl::{Rtnl, RtnlError};
use crate::sys::services::{SERVICE_DIR, ServiceManager};
use crate::sys::systemd::Systemd;

use super::apply::{ENGINE_BRIDGE, ENGINE_SERVICE, InstallError, NODE_SERVICE, undo_path};
use super::init::lock;
use super::leave::{Left, leave};
use super::phases::PhaseLog;
use super::ports::{CleanUp, Remote};

/// What reset works with.
#[derive(Clone, Debug)]
pub struct ResetTools {
    pub services: Arc<dyn ServiceManager>,
    /// Removes our containers; run while the engine still answers.
    pub containers: Arc<dyn CleanUp>,
    /// Removes bridge, routes and tables.
    pub network: Arc<dyn CleanUp>,
    /// The cluster that this node leaves first.
    pub remote: Arc<dyn Remote>,
    /// Control nodes beside this one, to ask.
    pub others: Vec<SocketAddr>,
    /// Goes on although the node cannot leave.
    pub force: bool,
}

/// What was done and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResetReport {
    /// False when nothing was installed here.
    pub was_installed: bool,
    /// What is left to do elsewhere.
    pub advice: Vec<String>,
    pub done: Vec<String>,
    /// Empty when the host is as it was.
    pub failed: Vec<String>,
}

impl ResetReport {
    fn step<E: std::fmt::Display>(&mut self, name: &str, result: Result<(), E>) {
        match result {
            Ok(()) => self.done.push(name.to_owned()),
            Err(error) => self.failed.push(format!("{name}: {error}")),
        }
    }
}

/// Undoes everything. Repeating it continues.
pub async fn reset(paths: &Paths, tools: &ResetTools) -> Result<ResetReport, InstallError> {
    let mut report = ResetReport::default();
    if PhaseLog::find(&paths.config)?.is_none() && files::inspect(&undo_path(paths))?.is_none() {
        return Ok(report);
    }
    report.was_installed = true;
    let lock = lock(paths)?;
    go(paths, tools, &mut report).await?;
    stop(tools, NODE_SERVICE, &mut report).await;
    report.step(tools.containers.name(), tools.containers.clean_up().await);
    if !report.failed.is_empty() {
        // Running containers would lose their mounts and their engine, and nothing could
        // remove them any more.
        return Ok(report);
    }
    report.step(tools.network.name(), tools.network.clean_up().await);
    stop(tools, ENGINE_SERVICE, &mut report).await;
    report.step("engine's bridge", remove_bridge().await.map_err(|error| chain(&error)));
    for dir in [&paths.data, &paths.run] {
        for point in host::mounts_below(dir) {
            let name = format!("unmount {}", point.display());
            report.step(&name, host::unmount(&point));
        }
    }
    if !report.failed.is_empty() {
        // Files that something may still use stay, and with them the way to try again.
        return Ok(report);
    }
    let undo = UndoLog::open(&undo_path(paths))?;
    for failure in undo.replay() {
        report.failed.push(failure);
    }
    if tools.services.name() == "systemd" {
        let reloaded = Systemd.reload_units().await;
        report.step("reload units", reloaded.map_err(|error| chain(&error)));
    }
    remove(&paths.data, &mut report);
    remove(&paths.run, &mut report);
    if report.failed.is_empty() {
        drop(lock);
        remove_config(&paths.config, Path::new(SERVICE_DIR), &mut report);
    }
    Ok(report)
}

/// Leaves the cluster, or says what must be done there instead.
async fn go(
    paths: &Paths,
    tools: &ResetTools,
    report: &mut ResetReport,
) -> Result<(), InstallError> {
    let name = match leave(paths, tools.remote.as_ref(), &tools.others).await {
        Ok(Left::Out) => {
            report.done.push("leave the cluster".to_owned());
            return Ok(());
        }
        Ok(Left::NeverIn) => return Ok(()),
        Ok(Left::Unknown { node_name }) => node_name,
        Err(InstallError::LastNode { .. }) if tools.force => return Ok(()),
        Err(error) if tools.force => {
            tracing::warn!(error = chain(&error), "the node did not leave the cluster");
            match error {
                InstallError::MustStay { name, .. } | InstallError::NobodyToAsk { name, .. } => {
                    name
                }
                // Its configuration cannot be read, so nobody was asked.
                _ => "NAME".to_owned(),
            }
        }
        Err(error) => return Err(error),
    };
    report.advice.push(format!(
        "the cluster may still count on this node: run `holdfast node remove {name}` on a control \
         node that is left"
    ));
    Ok(())
}

/// After the engine, which would make it again.
async fn remove_bridge() -> Result<(), RtnlError> {
    let rtnl = Rtnl::open()?;
    if rtnl.link_names().await?.iter().any(|name| name == ENGINE_BRIDGE) {
        rtnl.delete_link(ENGINE_BRIDGE).await?;
    }
    Ok(())
}

/// Stops it also where it does not run: one that has just died waits to be started again, as
/// the server of a node does that learned of its removal.
async fn stop(tools: &ResetTools, name: &str, report: &mut ResetReport) {
    if tools.services.name() == "systemd"
        && let Ok(true) = Systemd.is_enabled(name).await
    {
        let disabled = Systemd.set_enabled(name, false).await;
        report.step(&format!("disable {name}"), disabled.map_err(|error| chain(&error)));
    }
    let stopped = tools.services.stop(name).await;
    report.step(&format!("stop {name}"), stopped.map_err(|error| chain(&error)));
}

/// Removes the configuration. The directory that our own PID 1 reads services from was
/// there before any installation and stays, empty as it was then.
fn remove_config(config: &Path, services: &Path, report: &mut ResetReport) {
    if !services.starts_with(config) || !services.is_dir() {
        return remove(config, report);
    }
    match files::list_dir(config) {
        Ok(entries) => {
            for path in entries.iter().filter(|path| !services.starts_with(path)) {
                report.step(&format!("remove {}", path.display()), remove_any(path));
            }
        }
        Err(error) => report.failed.push(chain(&error)),
    }
}

fn remove_any(path: &Path) -> Result<(), String> {
    let removed = match files::inspect(path) {
        Ok(Some(found)) if found.is_dir => files::remove_tree(path),
        Ok(_) => files::remove_file(path).map(drop),
        Err(error) => Err(error),
    };
    removed.map_err(|error| chain(&error))
}

/// Removes one of our own directories whole. A mount inside would carry the removal into
/// something else, so it is looked for once more.
fn remove(dir: &Path, report: &mut ResetReport) {
    let name = format!("remove {}", dir.display());
    if let Some(point) = host::mounts_below(dir).first() {
        report.failed.push(format!("{name}: {} is still mounted", point.display()));
        return;
    }
    report.step(&name, files::remove_tree(dir).map_err(|error| chain(&error)));
}
