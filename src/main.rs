//! The `holdfast` binary: reads the command line, runs one verb, returns its exit code.

use std::process::ExitCode;

/// musl's allocator takes one lock for all threads; this one does not.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    holdfast::cli::main()
}
