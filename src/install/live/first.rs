//! First stage: from the boot loader to the root of the signed bundle.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::wait_for_person;
use crate::base::chain::chain;
use crate::bundle::{Bundle, BundleError, KeyError, Progress, TrustedKeys};
use crate::model::live::{BUNDLE_ON_MEDIUM, TRUSTED_KEYS};
use crate::sys::appliance::{
    Console, Modules, SwitchError, attach, block_devices, enter_program, holdfast_label,
    mount_kernel_views, mount_read_only,
};
use crate::sys::mounts::MountError;
use crate::sys::{bundle_file, waiting};

/// Sticks and a BMC's virtual media come up this long after the kernel.
const MEDIUM_PATIENCE: Duration = Duration::from_secs(90);
const MEDIUM_PAUSE: Duration = Duration::from_millis(300);
/// File systems and what they ask the kernel for by name, before it can ask us.
const FILE_SYSTEMS: [&str; 8] =
    ["isofs", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1", "nls_utf8", "squashfs", "loop"];
const MEDIUM: &str = "/run/medium";
/// The bundle's root, in memory: the medium may be taken out.
const ROOT_FILE: &str = "/run/root";
const ROOT: &str = "/root";

/// Why the machine does not start from this medium.
#[derive(Debug, thiserror::Error)]
enum FirstError {
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("cannot read the list of kernel modules")]
    Modules(#[source] std::io::Error),
    #[error("no medium labelled HOLDFAST was found within {} s", MEDIUM_PATIENCE.as_secs())]
    NoMedium,
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("cannot take the root into memory")]
    Root(#[source] std::io::Error),
    #[error(transparent)]
    Switch(#[from] SwitchError),
}

/// Whether this process was started by the kernel out of its first file system.
pub fn is_called() -> bool {
    std::process::id() == 1 && Path::new(TRUSTED_KEYS).exists()
}

/// Runs as the machine's first program; comes back only if nothing else is left to do.
pub fn run() -> std::io::Error {
    let mounted = mount_kernel_views();
    let console = match Console::open() {
        Ok(console) => console,
        Err(error) => return error,
    };
    let Err(error) = mounted.map_err(FirstError::from).and_then(|()| start(&console));
    console.say(&format!("\nThis machine cannot start from this medium: {}", chain(&error)));
    wait_for_person(&console)
}

fn start(console: &Console) -> Result<std::convert::Infallible, FirstError> {
    console.say("\nHoldfast is starting.");
    let mut modules = Modules::open().map_err(FirstError::Modules)?;
    for name in FILE_SYSTEMS {
        report(console, &modules.load(name));
    }
    let device = find_medium(console, &mut modules)?;
    console.say(&format!("Medium: {}", device.display()));
    let path = Path::new(MEDIUM).join(BUNDLE_ON_MEDIUM.trim_start_matches('/'));
    let bundle = Bundle::open(&path, &TrustedKeys::load(&[TRUSTED_KEYS])?)?;
    bundle.verify_all(&Percent::on(console))?;
    console.say(&format!(
        "Bundle: version {}, serial {}, signed by {}, every entry as signed.",
        bundle.version(),
        bundle.serial(),
        bundle.signer(),
    ));
    let mut root = bundle.open_entry("system/root")?;
    let file = Path::new(ROOT_FILE);
    let written = bundle_file::replace_from(file, 0o600, &mut root);
    written.map_err(|error| match root.blame() {
        Some(blame) => FirstError::Bundle(blame),
        None => FirstError::Root(error),
    })?;
    let device = attach(file).map_err(FirstError::Root)?;
    mount_read_only(&device, "squashfs", Path::new(ROOT))?;
    Err(enter_program(Path::new(ROOT), "/sbin/init").into())
}

/// Loads what leads to media until one is there, and mounts it.
fn find_medium(console: &Console, modules: &mut Modules) -> Result<PathBuf, FirstError> {
    let mut found = None;
    waiting::wait_until(MEDIUM_PATIENCE, MEDIUM_PAUSE, || {
        report(console, &modules.load_for_hardware());
        let mut media = block_devices().into_iter().filter_map(|device| {
            let kind = holdfast_label(&device)?;
            Some((device, kind))
        });
        found = media.next();
        found.is_some()
    });
    let (device, kind) = found.ok_or(FirstError::NoMedium)?;
    mount_read_only(&device, kind, Path::new(MEDIUM))?;
    Ok(device)
}

fn report(console: &Console, refused: &[String]) {
    for module in refused {
        console.say(&format!("The kernel does not take the module {module}"));
    }
}

/// Shows how far a check is, in lines: a serial log keeps them all.
struct Percent<'a> {
    console: &'a Console,
    total: AtomicU64,
    done: AtomicU64,
}

impl<'a> Percent<'a> {
    fn on(console: &'a Console) -> Self {
        Self { console, total: AtomicU64::new(0), done: AtomicU64::new(0) }
    }
}

impl Progress for Percent<'_> {
    fn begin(&self, phase: &str, total_bytes: u64) {
        self.total.store(total_bytes.max(1), Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        self.console.say(&format!("{phase} ..."));
    }

    fn item(&self, _name: &str) {}

    fn advance(&self, bytes: u64) {
        let total = self.total.load(Ordering::Relaxed);
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        let quarter = |bytes: u64| bytes.saturating_mul(4) / total;
        if quarter(before) != quarter(before + bytes) {
            self.console.say(&format!("  {} %", (before + bytes).saturating_mul(100) / total));
        }
    }

    fn end(&self) {}
}
