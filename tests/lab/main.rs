//! Tests on the lab: real namespaces, real engines, the shipped binary and bundle.
//!
//! Why an own `main`: one three-master lab is brought up once, the scenarios run on it
//! in order, and it is taken down after the last one whatever happened. Scenarios that
//! must start from bare hosts make a small lab of their own.
//!
//! Run by `make test-lab`; needs root and the bundle (`HOLDFAST_BUNDLE`, by default
//! `.build/holdfast.hfb`).

#![expect(clippy::print_stdout, reason = "a test tells its seed and what it skips")]

mod expected;
mod harness;
mod host_state;
mod install;
mod scenarios;
mod test_bundle;
mod transcript;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    holdfast::sys::tls::install_crypto();
    let mut arguments = Arguments::from_args();
    // The scenarios share one lab and leave it as they found it, one after another.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, scenarios::all()).exit_code()
}
