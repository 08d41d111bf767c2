//! One host: booting it, entering it, and finding out whether it runs.
//!
//! Why no process of its own starts it: the thread that makes the namespaces starts PID 1
//! and ends; the host then belongs to nobody but its control group, so that no crash of a
//! lab process takes it along.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::command::{HOST_PATH, own_process_group};
use super::error::{LabError, files};
use super::layout::{HostPlan, Segment, hardware_address};
use super::switch::BRIDGE;
use super::{Lab, root};
use crate::base::limits;
use crate::sys::cgroup::Group;
use crate::sys::namespaces::{
    NetworkNamespace, spawn_first, spawn_in_host, unshare_host, unshare_network,
};
use crate::sys::netlink::{Links, set_sysctl};
use crate::sys::services::init_client::InitClient;
use crate::sys::services::{CONTROL_SOCKET, ServiceRequest};
use crate::sys::tree;
use crate::sys::waiting::wait_until;

/// How long PID 1 may take until it answers.
const BOOT_LIMIT: Duration = Duration::from_secs(30);
/// The host's link to the switch.
const LINK: &str = "eth0";

/// A host of an open lab.
#[derive(Debug)]
pub(super) struct Host<'a> {
    lab: &'a Lab,
    plan: &'a HostPlan,
    group: Group,
}

impl<'a> Host<'a> {
    pub(super) fn new(lab: &'a Lab, plan: &'a HostPlan) -> Self {
        Self { lab, plan, group: host_group(&lab.record.group, &plan.name) }
    }

    pub(super) fn name(&self) -> &str {
        &self.plan.name
    }

    pub(super) fn plan(&self) -> &HostPlan {
        self.plan
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        self.plan.address
    }

    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    pub(super) fn root(&self) -> PathBuf {
        self.lab.dir.root(&self.plan.name)
    }

    /// Its PID 1, by the machine's numbers; `None` while the host is down.
    pub(super) fn pid(&self) -> Option<i32> {
        self.group.first_process()
    }

    /// Its PID 1 as one to ask.
    pub(super) fn init(&self) -> Option<InitClient> {
        let pid = self.pid()?;
        Some(InitClient::at(format!("/proc/{pid}/root{CONTROL_SOCKET}")))
    }

    /// Boots it unless it runs; returns when its PID 1 answers.
    pub(super) fn ensure_booted(&self) -> Result<(), LabError> {
        if self.pid().is_none() {
            self.boot().map_err(|source| LabError::Host {
                host: self.plan.name.clone(),
                source: Box::new(source),
            })?;
        }
        let question = ServiceRequest::Status { name: "none".to_owned() };
        let answers = wait_until(BOOT_LIMIT, Duration::from_millis(10), || {
            self.init().is_some_and(|init| init.ask(&question).is_ok())
        });
        if answers {
            return Ok(());
        }
        let log = tree::tail(&self.lab.dir.init_log(&self.plan.name), 20).unwrap_or_default();
        let what = format!("PID 1 of host {}", self.plan.name);
        Err(LabError::Silent { what, limit_seconds: BOOT_LIMIT.as_secs(), log })
    }

    fn boot(&self) -> Result<(), LabError> {
        root::lay_disk(self, &self.lab.record.hosts)?;
        // As after a power cut: nothing of the life before is left in the kernel.
        self.group.clear(limits::LAB_KILL)?;
        self.group.make()?;
        let (segment, router) = self.lab.router_of(self.plan.address)?;
        let start = || self.start_first(&segment, &router);
        let result = std::thread::scope(|scope| scope.spawn(start).join());
        match result {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Becomes the host, on a thread that ends with it, and starts its PID 1.
    fn start_first(&self, segment: &Segment, router: &NetworkNamespace) -> Result<(), LabError> {
        let dir = &self.lab.dir;
        let log = tree::open_log(&dir.init_log(&self.plan.name))
            .and_then(|log| Ok((log.try_clone()?, log)))
            .map_err(files("open the log of PID 1"))?;
        let entrances = self.group.entrances()?;
        let own = unshare_network()?;
        self.plug_in(segment, router, &own)?;
        unshare_host(&self.plan.name)?;
        let record = &self.lab.record;
        root::enter(
            &self.root(),
            &dir.program(),
            record.bundle.as_deref(),
            record.trust.as_deref(),
        )?;
        let mut command = self.lab.program.command(root::PROGRAM, &["host-init"]);
        command.stdin(Stdio::null()).stdout(log.0).stderr(log.1).env("PATH", HOST_PATH);
        own_process_group(&mut command);
        spawn_first(command, entrances)?;
        Ok(())
    }

    /// Connects the calling thread's network namespace to its segment.
    fn plug_in(
        &self,
        segment: &Segment,
        router: &NetworkNamespace,
        own: &NetworkNamespace,
    ) -> Result<(), LabError> {
        let cable = format!("to-{}", self.plan.name);
        router.run(|| {
            let links = Links::open()?;
            // The end of a host that was killed a moment ago may still be there.
            links.remove(&cable)?;
            links.add_cable(&cable, BRIDGE, LINK, hardware_address(self.plan.address), own)
        })??;
        set_sysctl("ipv4/ip_forward", "1")?;
        let links = Links::open()?;
        links.set_up("lo")?;
        links.add_address(LINK, self.plan.address, segment.range.prefix_len())?;
        links.set_up(LINK)?;
        Ok(links.route_default_via(segment.gateway())?)
    }

    /// Starts a command as a process of the host.
    pub(super) fn spawn(&self, mut command: Command) -> Result<Child, LabError> {
        let down = || LabError::WrongState { host: self.plan.name.clone(), state: "down" };
        let pid = self.pid().ok_or_else(down)?;
        if self.group.is_frozen() {
            return Err(LabError::WrongState { host: self.plan.name.clone(), state: "stopped" });
        }
        command.current_dir("/");
        Ok(spawn_in_host(pid, self.group.entrances()?, command)?)
    }

    /// A command with the environment of a lab host.
    pub(super) fn clean_command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        set_environment(&mut command);
        command
    }

    /// The product's own program on this host.
    pub(super) fn holdfast(&self, verb: &[&str]) -> Command {
        let mut command = self.lab.program.command(root::PROGRAM, verb);
        set_environment(&mut command);
        command
    }
}

fn set_environment(command: &mut Command) {
    command.env("PATH", HOST_PATH).env("HOME", "/root");
    if let Some(terminal) = std::env::var_os("TERM") {
        command.env("TERM", terminal);
    }
}

/// The control group of a host below its lab's.
pub(super) fn host_group(lab: &Group, host: &str) -> Group {
    lab.child(&format!("host-{host}"))
}

impl Lab {
    /// Starts `command` on a host with this process's own input and output, waits, and
    /// returns its exit code (128 and more for a signal, as shells say it).
    pub fn exec(&self, host: &str, command: &[String]) -> Result<i32, LabError> {
        use std::os::unix::process::ExitStatusExt;
        let host = self.host(host)?;
        let (program, arguments) = command.split_first().ok_or_else(|| LabError::Start {
            what: "nothing".to_owned(),
            source: std::io::Error::other("no command given"),
        })?;
        let mut command = if program == "holdfast" && !self.program.instead.is_empty() {
            host.holdfast(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        } else {
            let mut command = host.clean_command(program);
            command.args(arguments);
            command
        };
        command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        let status = host.spawn(command)?.wait().map_err(files("wait for the command"))?;
        Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
    }
}
