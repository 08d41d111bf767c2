//! Tests on real machines: QEMU, a distribution's own kernel and systemd, the shipped
//! binary and bundle. One folder a scenario.
//!
//! Why beside the lab: a lab host shares this machine's kernel, has our own PID 1 and
//! cannot lose power. What a namespace cannot show is shown here: unit files, kernel
//! modules, a host's own services beside ours, and disks that are cut off in mid-write.
//!
//! Run by `make vm-test`; needs root (to make a Debian root) and the bundle, QEMU and
//! mmdebstrap, which `.ci/install-test` provides; what is absent fails and is not skipped.
//! KVM is used where it boots the guest's kernel, else emulation. The guests' consoles are
//! kept in `.build/vm/logs`.

#![expect(clippy::print_stdout, reason = "a test tells how long its steps took")]

mod bare;
#[path = "existing-host/scenario.rs"]
mod existing_host;
#[path = "../tests/failure.rs"]
mod failure;
mod guest;
mod host_state;
mod machine;
#[path = "media/scenario.rs"]
mod media;
mod medium;
mod qemu;
mod root;
mod running;
mod steps;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Where everything that is kept between runs lies.
pub(crate) fn build() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".build/vm")
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Two emulated machines beside each other take longer than one after the other.
    arguments.test_threads = Some(1);
    let scenarios = vec![
        Trial::test("existing_host", existing_host::run),
        Trial::test("iso_bios", media::iso_bios),
        Trial::test("iso_uefi", media::iso_uefi),
        Trial::test("disk_bios", media::disk_bios),
        Trial::test("bad_medium", media::bad_medium),
    ];
    libtest_mimic::run(&arguments, scenarios).exit_code()
}
