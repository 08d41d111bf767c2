//! What the host is and how it is run.

use super::Severity::{Error, Info, Warning};
use super::{Check, check, of_machine, when};
use crate::model::kinds::is_dns_label;

/// The machine and what was started on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemFacts {
    pub root: bool,
    pub machine: String,
    pub hostname: String,
    pub service_manager: Option<String>,
    /// Names of the programs that run, as the kernel cuts them: 15 bytes.
    pub programs: Vec<String>,
    pub cpus: usize,
    /// Names from `/proc/cpuinfo`; empty where it names none.
    pub cpu_flags: Vec<String>,
    pub machine_id: Option<String>,
    /// The file that says that this is a container.
    pub container_mark: Option<String>,
    /// Directories that we write to and that cannot be written.
    pub read_only: Vec<String>,
    pub shutdown_scheduled: bool,
    pub reboot_required: bool,
    pub fips: bool,
    /// Frequency governor of the first processor.
    pub governor: Option<String>,
    /// Errors of the memory that no correction mended, since the machine started.
    pub memory_errors: Option<u64>,
}

pub(super) const CHECKS: &[Check] = &[
    check("not-root", Error, "run the command as root", |seen| {
        when(!seen.host.system.root, "process", || "this is not root".into())
    }),
    check("architecture", Error, "use an x86_64 host", |seen| {
        let machine = &seen.host.system.machine;
        when(machine != "x86_64", "uname -m", || {
            format!("the machine is {machine}, the bundle is for x86_64")
        })
    }),
    check("service-manager", Error, "use a host that systemd started", |seen| {
        when(seen.host.system.service_manager.is_none(), "PID 1", || {
            "neither systemd nor Holdfast's own PID 1 runs here".into()
        })
    }),
    of_machine("processors", Warning, "give the host at least two processors", |seen| {
        let cpus = seen.host.system.cpus;
        when(cpus == 1, "/proc/cpuinfo", || {
            "one processor: the control plane and the pods wait for each other".into()
        })
    }),
    of_machine(
        "processor-aes",
        Info,
        "switch AES on in the firmware, or in the virtual machine's processor model",
        |seen| {
            let flags = &seen.host.system.cpu_flags;
            let wrong = !flags.is_empty() && flags.iter().all(|flag| flag != "aes");
            when(wrong, "/proc/cpuinfo", || {
                "the processor has no AES: encrypted connections cost it several times as much"
                    .into()
            })
        },
    ),
    of_machine(
        "processor-governor",
        Info,
        "choose the governor performance (cpupower frequency-set -g performance)",
        |seen| {
            let governor = seen.host.system.governor.as_deref();
            when(governor == Some("powersave"), "/sys/devices/system/cpu", || {
                "the processors save power, which lengthens every answer".into()
            })
        },
    ),
    of_machine("memory-errors", Warning, "replace the memory module (edac-util -v)", |seen| {
        let errors = seen.host.system.memory_errors.unwrap_or_default();
        when(errors > 0, "/sys/devices/system/edac", || {
            format!("the memory had {errors} errors that could not be corrected")
        })
    }),
    check("hostname", Info, "nothing must be done; equal names are easier to read", |seen| {
        let (host, node) = (&seen.host.system.hostname, &seen.needs.node_name);
        when(host != node, "hostname", || format!("the host is named {host}, the node {node}"))
    }),
    check(
        "hostname-form",
        Warning,
        "name it with lower-case letters, digits and '-' (hostnamectl set-hostname NAME)",
        |seen| {
            let first = seen.host.system.hostname.split('.').next().unwrap_or_default();
            when(!is_dns_label(first), "hostname", || {
                format!("the host's name {first:?} is no DNS label")
            })
        },
    ),
    check(
        "hostname-localhost",
        Warning,
        "give the host a name of its own (hostnamectl set-hostname NAME)",
        |seen| {
            let name = &seen.host.system.hostname;
            when(name.split('.').next() == Some("localhost"), "hostname", || {
                format!("the host is named {name}, as every unnamed host is")
            })
        },
    ),
    of_machine(
        "machine-id",
        Warning,
        "run systemd-machine-id-setup; on copied machines empty the file first",
        |seen| {
            let id = seen.host.system.machine_id.as_deref().unwrap_or_default();
            let right = id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit());
            when(!right, "/etc/machine-id", || "the host has no valid machine id".into())
        },
    ),
    of_machine("in-container", Warning, "install on the host itself", |seen| {
        let mark = seen.host.system.container_mark.as_deref();
        when(mark.is_some(), mark.unwrap_or_default(), || {
            "this is a container; its engine could start none in it".into()
        })
    }),
    check("read-only", Error, "mount it for writing, or choose other directories", |seen| {
        let all = &seen.host.system.read_only;
        all.iter().map(|dir| (format!("{dir} cannot be written"), dir.clone())).collect()
    }),
    of_machine("shutdown-scheduled", Warning, "cancel it with shutdown -c, or wait", |seen| {
        when(seen.host.system.shutdown_scheduled, "/run/systemd/shutdown/scheduled", || {
            "the host is about to be shut down".into()
        })
    }),
    of_machine("reboot-required", Info, "reboot before the host bears load", |seen| {
        when(seen.host.system.reboot_required, "/run/reboot-required", || {
            "an earlier update asks for a reboot".into()
        })
    }),
    of_machine(
        "fips",
        Warning,
        "ask whether your rules need a validated module, which Holdfast's cryptography is not",
        |seen| {
            when(seen.host.system.fips, "/proc/sys/crypto/fips_enabled", || {
                "the kernel is in FIPS mode".into()
            })
        },
    ),
];
