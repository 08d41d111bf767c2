//! Real member processes are killed with signal 9, one, two or all at any moment, while
//! clients write, compare and swap, read and watch; then everything is compared.
//!
//! `KILL_SECONDS=n` sets for how long (45), `KILL_SEED=n` which kills are made. Files and
//! the members' logs are kept on failure.

#![expect(clippy::print_stdout, reason = "a test tells its seed and what it saw")]

mod clients;
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
        Trial::test("the_checker_finds_planted_faults", || {
            history::finds_planted_faults().map_err(|error| format!("{error:#}").into())
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
