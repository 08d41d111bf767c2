//! The emulator of this machine: where it lies and how it is to run.
//!
//! `.ci/install-test` puts QEMU's packages below `.build/vm/qemu` without installing them,
//! because their dependencies may conflict with what the machine has; one that is on the
//! PATH serves as well.
//! Not here: a running machine (`machine`).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::failure::failed;
use crate::root::Root;

const PROGRAM: &str = "qemu-system-x86_64";
/// How long a kernel may take under KVM until it gives up for want of a root.
const TRIAL: Duration = Duration::from_secs(20);

/// How the guest's processor is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accelerator {
    Kvm,
    Emulation,
}

/// QEMU as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Qemu {
    /// Where its packages were unpacked; none if it is installed.
    tree: Option<PathBuf>,
}

impl Qemu {
    /// Looks below `.build/vm` first, then on the PATH.
    pub(crate) fn find(build: &Path) -> Result<Self, Failed> {
        let tree = build.join("qemu");
        if tree.join("usr/bin").join(PROGRAM).is_file() {
            return Ok(Self { tree: Some(tree) });
        }
        let answer = Command::new(PROGRAM).arg("--version").output();
        match answer {
            Ok(output) if output.status.success() => Ok(Self { tree: None }),
            _ => Err(format!("there is no {PROGRAM}; run .ci/install-test").into()),
        }
    }

    /// The program with what every machine gets: nothing that is not asked for.
    pub(crate) fn command(&self, accelerator: Accelerator) -> Command {
        let mut command = match &self.tree {
            None => Command::new(PROGRAM),
            Some(tree) => {
                let mut command = Command::new(tree.join("usr/bin").join(PROGRAM));
                let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
                let paths: Vec<String> =
                    libraries.iter().map(|dir| tree.join(dir).display().to_string()).collect();
                command.env("LD_LIBRARY_PATH", paths.join(":"));
                for firmware in ["usr/share/seabios", "usr/share/qemu"] {
                    command.arg("-L").arg(tree.join(firmware));
                }
                command
            }
        };
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-smp", "1"]);
        command.args(match accelerator {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // Five-level page tables cost the emulation a level on every miss; virtualization
            // inside of it would only make the guest load its modules.
            Accelerator::Emulation => ["-accel", "tcg", "-cpu", "max,-la57,-svm"],
        });
        command
    }

    /// KVM if it is there and boots this very kernel, for there are hosts where it starts
    /// and does not. `HOLDFAST_VM_ACCEL=kvm|tcg` decides without a trial.
    pub(crate) fn accelerator(&self, root: &Root) -> Accelerator {
        static CHOSEN: OnceLock<Accelerator> = OnceLock::new();
        *CHOSEN.get_or_init(|| match std::env::var("HOLDFAST_VM_ACCEL").as_deref() {
            Ok("kvm") => Accelerator::Kvm,
            Ok("tcg") => Accelerator::Emulation,
            _ if self.kvm_boots(root) => Accelerator::Kvm,
            _ => Accelerator::Emulation,
        })
    }

    /// A kernel that finds no root panics and resets, and QEMU ends well: then it ran.
    fn kvm_boots(&self, root: &Root) -> bool {
        if !Path::new("/dev/kvm").exists() {
            return false;
        }
        let mut command = self.command(Accelerator::Kvm);
        command.args(["-m", "256", "-no-reboot"]).arg("-kernel").arg(root.kernel());
        command.args(["-append", "panic=-1"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(mut child) = command.spawn() else { return false };
        let started = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) if started.elapsed() < TRIAL => {
                    std::thread::park_timeout(Duration::from_millis(100));
                }
                _ => return end(&mut child).is_err(),
            }
        }
    }
}

/// Takes the power away.
pub(crate) fn end(child: &mut Child) -> Result<(), Failed> {
    child.kill().map_err(|error| failed("kill QEMU", error))?;
    child.wait().map(drop).map_err(|error| failed("wait for QEMU", error))
}
