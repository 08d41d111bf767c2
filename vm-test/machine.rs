//! One virtual machine: its disk, its place on the network, its power switch.
//!
//! ```text
//!  Machine::new ► power_on ► [guest commands] ► cut_power ► power_on ► …  ► dropped: off
//! ```
//! Invariants: the disk outlives the power; the network reaches other machines of the same
//! scenario and nothing else; no machine outlives its `Machine`.
//! Not here: what is done in the guest (`guest`), the emulator itself (`qemu`).

use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use qapi::{Qmp, Stream, qmp};
use tempfile::TempDir;

use crate::failure::{Outcome, failed};
use crate::guest::Guest;
use crate::qemu::{Qemu, end};
use crate::root::Root;

/// From power-on to a shell, on a busy machine under emulation.
const BOOT: Duration = Duration::from_secs(300);
/// How long one attempt to reach the guest's agent lasts.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The guest's memory, MiB: so much that preflight does not call it tight.
const MEMORY_MIB: &str = "1792";

/// A host made of emulation.
#[derive(Debug)]
pub(crate) struct Machine {
    name: String,
    qemu: Qemu,
    root: Root,
    medium: PathBuf,
    /// Holds the disk and the sockets.
    dir: TempDir,
    log: PathBuf,
    running: Option<Child>,
}

impl Machine {
    /// A machine that is off, with a fresh copy of the root.
    pub(crate) fn new(
        name: &str,
        build: &Path,
        root: &Root,
        medium: &Path,
    ) -> Result<Self, Failed> {
        let qemu = Qemu::find(build)?;
        let logs = build.join("logs");
        fs::create_dir_all(&logs).map_err(|error| failed(logs.display(), error))?;
        let log = logs.join(format!("{name}.log"));
        File::create(&log).map_err(|error| failed(log.display(), error))?;
        let dir = tempfile::Builder::new().prefix("hf-vm-").tempdir();
        let dir = dir.map_err(|error| failed("temporary folder", error))?;
        root.copy_disk(&dir.path().join("disk"))?;
        let (name, root, medium) = (name.to_owned(), root.clone(), medium.to_owned());
        Ok(Self { name, qemu, root, medium, dir, log, running: None })
    }

    fn socket(&self, of: &str) -> PathBuf {
        self.dir.path().join(of)
    }

    /// Turns it on and waits for its shell.
    pub(crate) fn power_on(&mut self) -> Result<Guest, Failed> {
        let accelerator = self.qemu.accelerator(&self.root);
        let mut command = self.qemu.command(accelerator);
        command.args(["-name", &self.name, "-m", MEMORY_MIB, "-rtc", "base=utc"]);
        command.arg("-kernel").arg(self.root.kernel());
        command.arg("-initrd").arg(self.root.initrd());
        // What the guest says is in the log also of a boot whose journal was lost.
        command.args([
            "-append",
            "root=LABEL=hf-root rw console=ttyS0 panic=-1 mitigations=off \
             systemd.journald.forward_to_console=1",
        ]);
        let disk = self.dir.path().join("disk");
        for (file, more) in [(&disk, ""), (&self.medium, ",readonly=on")] {
            let file = file.display();
            command.args(["-drive", &format!("file={file},format=raw,if=virtio{more}")]);
        }
        command.args(["-device", "virtio-rng-pci"]);
        // A hub with nothing else on it: a network card, and no way out.
        command.args(["-netdev", "hubport,id=lan,hubid=0", "-device", "virtio-net-pci,netdev=lan"]);
        let serial = format!("file,id=serial,append=on,path={}", self.log.display());
        command.args(["-chardev", &serial, "-serial", "chardev:serial"]);
        let listening = |name: &str| {
            format!("socket,id={name},path={},server=on,wait=off", self.socket(name).display())
        };
        command.args(["-chardev", &listening("qmp"), "-mon", "chardev=qmp,mode=control"]);
        command.args(["-chardev", &listening("agent"), "-device", "virtio-serial-pci"]);
        command.args(["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]);
        let errors = File::options().append(true).open(&self.log);
        let errors = errors.map_err(|error| failed(self.log.display(), error))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        self.running = Some(command.spawn().map_err(|error| failed("start QEMU", error))?);
        self.wait_for_shell()
    }

    fn wait_for_shell(&mut self) -> Result<Guest, Failed> {
        let guest = Guest::new(&self.socket("agent"));
        let started = Instant::now();
        loop {
            let child = self.running.as_mut().expect("was started just now");
            if let Ok(Some(status)) = child.try_wait() {
                return Err(self.fault(&format!("QEMU ended by itself: {status}")));
            }
            if guest.answers(ATTEMPT) {
                return Ok(guest);
            }
            if started.elapsed() > BOOT {
                return Err(self.fault(&format!("no shell within {BOOT:?}")));
            }
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }

    fn fault(&self, what: &str) -> Failed {
        format!("{}: {what}; see {}", self.name, self.log.display()).into()
    }

    /// Ends it between two instructions. What the guest's kernel had not yet written to its
    /// disk is lost.
    pub(crate) fn cut_power(&mut self) -> Outcome {
        let mut child = self.running.take().ok_or("the machine is off already")?;
        let asked = quit(&self.socket("qmp"));
        // Nothing depends on the politeness of the monitor.
        let ended = end(&mut child);
        asked.and(ended)
    }
}

/// Tells the emulator to stop existing; no signal reaches the guest.
fn quit(socket: &Path) -> Outcome {
    let stream = UnixStream::connect(socket).map_err(|error| failed("QMP", error))?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|error| failed("QMP", error))?;
    let reader = stream.try_clone().map_err(|error| failed("QMP", error))?;
    let mut monitor = Qmp::new(Stream::new(BufReader::new(reader), stream));
    monitor.handshake().map_err(|error| failed("QMP handshake", error))?;
    monitor.execute(&qmp::quit {}).map(drop).map_err(|error| failed("QMP quit", error))
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _best_effort = end(&mut child);
        }
    }
}
