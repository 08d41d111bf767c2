//! How a scenario says what went wrong, and how it waits.

use std::fmt::Display;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

pub(crate) type Outcome = Result<(), Failed>;

/// Turns any error into a test failure that says what was being done.
pub(crate) fn failed(doing: impl Display, error: impl Display) -> Failed {
    format!("{doing}: {error}").into()
}

/// Fails with the text unless the condition holds.
pub(crate) fn ensure(condition: bool, text: impl FnOnce() -> String) -> Outcome {
    if condition { Ok(()) } else { Err(text().into()) }
}

/// Asks again after each `pause` until the check answers `Ok` or patience ends; then
/// reports the last answer.
pub(crate) fn eventually_after<T>(
    pause: Duration,
    what: &str,
    patience: Duration,
    mut check: impl FnMut() -> Result<T, Failed>,
) -> Result<T, Failed> {
    let started = Instant::now();
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() > patience => {
                let text = error.message().unwrap_or_default().to_owned();
                return Err(format!("not within {patience:?}: {what}: {text}").into());
            }
            Err(_) => std::thread::park_timeout(pause),
        }
    }
}
