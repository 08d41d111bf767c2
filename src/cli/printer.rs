//! The one place that writes to the terminal: results to stdout, everything else to stderr.

use std::io::{StdoutLock, Write};

/// A result; ends with exactly one newline.
pub fn text(text: &str) {
    let mut out = stdout();
    // A reader that went away (`| head`) is no reason to fail.
    let _reader_gone = writeln!(out, "{}", text.trim_end_matches('\n'));
}

/// One JSON document, indented, as `-o json` promises.
pub fn document(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(rendered) => text(&rendered),
        Err(problem) => error(&format!("cannot render the answer as JSON: {problem}")),
    }
}

/// Standard output, for what is written piece by piece; an error is the writer's to judge.
pub fn stdout() -> StdoutLock<'static> {
    std::io::stdout().lock()
}

/// What went wrong, and what to do.
pub fn error(message: &str) {
    note(&format!("error: {message}"));
}

/// Anything for people that is no result: a step of a long operation, a complaint.
pub fn note(message: &str) {
    // Nothing is left to tell if stderr is closed.
    let _nobody_listens = writeln!(std::io::stderr().lock(), "{message}");
}
