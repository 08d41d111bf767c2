//! A machine without any system: a firmware, a medium, empty disks.
//!
//! Why apart from `machine`: nothing runs in it that could be asked; what it says stands on
//! its serial line, and what is typed there is all that it is told.
//! Invariant: no machine outlives its `Bare`.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;
use tempfile::TempDir;

use crate::failure::{Outcome, ensure, failed};
use crate::qemu::{Qemu, end};
use crate::root::Root;
use crate::running::eventually;

/// From power-on to what the medium's system says, on a busy machine under emulation.
const PATIENCE: Duration = Duration::from_secs(400);

/// What starts the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Firmware {
    Bios,
    Uefi,
}

/// How the medium is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drive {
    Cd,
    Stick,
}

/// A running machine.
#[derive(Debug)]
pub(crate) struct Bare {
    name: String,
    dir: TempDir,
    log: PathBuf,
    running: Child,
    /// What is typed goes here, once something was.
    serial: Option<UnixStream>,
}

/// An empty disk's size, bytes; the file has no blocks until something is written.
const DISK_BYTES: u64 = 9 << 30;

impl Bare {
    /// Turns it on.
    pub(crate) fn power_on(
        name: &str,
        firmware: Firmware,
        drive: Drive,
        medium: &Path,
    ) -> Result<Self, Failed> {
        let build = crate::build();
        let qemu = Qemu::find(&build)?;
        let log = build.join("logs").join(format!("{name}.log"));
        fs::create_dir_all(build.join("logs")).map_err(|error| failed("make logs", error))?;
        // QEMU begins the file anew only some time after its start; until then it would be that
        // of an earlier run.
        match fs::remove_file(&log) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed(log.display(), error));
            }
            _ => {}
        }
        let dir = tempfile::Builder::new().prefix("hf-vm-").tempdir();
        let dir = dir.map_err(|error| failed("temporary folder", error))?;
        let disk = File::create(dir.path().join("disk"));
        disk.and_then(|disk| disk.set_len(DISK_BYTES)).map_err(|error| failed("disk", error))?;
        let mut command = qemu.command(qemu.accelerator(&Root::ready(&build)?));
        command.args(["-name", name, "-m", "1024", "-rtc", "base=utc"]);
        if firmware == Firmware::Uefi {
            for (file, more) in uefi(&build, dir.path())? {
                let file = file.display();
                command.args(["-drive", &format!("if=pflash,format=raw,file={file}{more}")]);
            }
        }
        let file = medium.display();
        let kind = if drive == Drive::Cd { ",media=cdrom" } else { "" };
        command.args([
            "-drive",
            &format!("if=none,id=medium,format=raw,readonly=on,file={file}{kind}"),
        ]);
        command.args(match drive {
            Drive::Cd => {
                ["-device", "ahci,id=sata", "-device", "ide-cd,drive=medium,bus=sata.0,bootindex=0"]
            }
            Drive::Stick => {
                ["-device", "qemu-xhci", "-device", "usb-storage,drive=medium,bootindex=0"]
            }
        });
        let disk = dir.path().join("disk");
        command.args(["-drive", &format!("if=none,id=disk,format=raw,file={}", disk.display())]);
        command.args(["-device", "nvme,drive=disk,serial=HFTEST1"]);
        command.args(["-netdev", "hubport,id=lan,hubid=0", "-device", "e1000e,netdev=lan"]);
        let serial = format!(
            "socket,id=serial,path={},server=on,wait=off,logfile={}",
            dir.path().join("serial").display(),
            log.display(),
        );
        command.args(["-chardev", &serial, "-serial", "chardev:serial"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = command.spawn().map_err(|error| failed("start QEMU", error))?;
        Ok(Self { name: name.to_owned(), dir, log, running, serial: None })
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> Result<String, Failed> {
        let bytes = fs::read(&self.log).map_err(|error| failed(self.log.display(), error))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until it says this text.
    pub(crate) fn says(&mut self, text: &str) -> Outcome {
        eventually(
            &format!("{} says {text:?}, see {}", self.name, self.log.display()),
            PATIENCE,
            || {
                if let Ok(Some(status)) = self.running.try_wait() {
                    return Err(format!("QEMU ended by itself: {status}").into());
                }
                let said = self.said()?;
                let last: Vec<&str> = said.lines().rev().take(3).collect();
                ensure(said.contains(text), || format!("the last lines, backwards: {last:?}"))
            },
        )
    }

    /// Types a line at the serial console.
    pub(crate) fn type_line(&mut self, line: &str) -> Outcome {
        if self.serial.is_none() {
            self.serial = Some(self.serial_line()?);
        }
        let serial = self.serial.as_mut().ok_or("there is no serial line")?;
        // What a terminal sends for Enter.
        serial.write_all(format!("{line}\r").as_bytes()).map_err(|error| failed("type", error))?;
        serial.flush().map_err(|error| failed("type", error))
    }

    /// The serial line's other end. It stays open as long as the machine runs: at a hang-up QEMU
    /// may drop what the machine has not taken yet.
    fn serial_line(&self) -> Result<UnixStream, Failed> {
        let path = self.dir.path().join("serial");
        let serial = eventually("the serial line is there", PATIENCE, || {
            UnixStream::connect(&path).map_err(|error| failed(path.display(), error))
        })?;
        let mut said = serial.try_clone().map_err(|error| failed("serial line", error))?;
        // The log has it all; unread, it would make the machine wait. Ends with QEMU.
        let _reader = std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Ok(serial)
    }

    /// Waits until it has turned itself off.
    pub(crate) fn turns_off(&mut self) -> Outcome {
        eventually(&format!("{} turns itself off", self.name), PATIENCE, || {
            let status = self.running.try_wait().map_err(|error| failed("wait for QEMU", error))?;
            let status = status.ok_or("it is on")?;
            ensure(status.success(), || format!("QEMU ended with {status}"))
        })
    }

    /// Fails if anything was written to its disk.
    pub(crate) fn disk_is_untouched(&self) -> Outcome {
        use std::os::unix::fs::MetadataExt;
        let disk = self.dir.path().join("disk");
        let meta = fs::metadata(&disk).map_err(|error| failed(disk.display(), error))?;
        ensure(meta.blocks() == 0 && meta.len() == DISK_BYTES, || {
            format!("{} blocks of the disk were written", meta.blocks())
        })
    }
}

/// The firmware and a copy of its variables, which it writes.
fn uefi(build: &Path, dir: &Path) -> Result<[(PathBuf, &'static str); 2], Failed> {
    let unpacked = build.join("ovmf/usr/share/OVMF");
    let installed = PathBuf::from("/usr/share/OVMF");
    let from = if unpacked.is_dir() { unpacked } else { installed };
    let variables = dir.join("variables");
    let original = from.join("OVMF_VARS_4M.fd");
    fs::copy(&original, &variables).map_err(|error| failed(original.display(), error))?;
    Ok([(from.join("OVMF_CODE_4M.fd"), ",readonly=on"), (variables, "")])
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _best_effort = end(&mut self.running);
    }
}
