//! Real member processes are killed with signal 9, one, two or all at any moment, while
//! clients write, compare and swap, read and watch; then everything is compared.
//!
//! Another test fills a member's file system to the last byte (`full_disk`).
//!
//! `KILL_SECONDS=n` sets for how long (45), `KILL_SEED=n` which kills are made. Files and
//! the members' logs are kept on failure.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::exit,
    reason = "a test tells its seed and what it saw; its clients end with the program"
)]

mod clients;
mod full_disk;
mod history;
#[path = "../members/mod.rs"]
#[expect(dead_code, reason = "it serves the benchmarks, too")]
mod members;
mod rounds;

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// As in the product, whose members this program also runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, directory] = &words[..]
        && word == "member"
    {
        return match members::member::run(Path::new(directory)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("the member ended: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let killed = || rounds::run().map_err(|error| format!("{error:#}").into());
    let trials = vec![
        Trial::test("nothing_acknowledged_is_lost_or_done_twice_over_kills", killed),
        Trial::test("a_member_on_a_full_file_system_is_told_of_and_comes_back_with_space", || {
            full_disk::run().map_err(|error| format!("{error:#}").into())
        }),
        Trial::test("the_checker_finds_planted_faults", || {
            history::finds_planted_faults().map_err(|error| format!("{error:#}").into())
        }),
    ];
    let mut arguments = Arguments::from_args();
    // Each starts a cluster of processes.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit_code()
}
