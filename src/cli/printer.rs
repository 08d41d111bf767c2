//! The one place that writes to the terminal: results to stdout, everything else to stderr.

#![expect(clippy::print_stderr, reason = "this is where printing stands")]

use std::io::Write;

/// A result; ends with exactly one newline.
pub fn text(text: &str) {
    let mut out = std::io::stdout().lock();
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

/// What went wrong, and what to do.
pub fn error(message: &str) {
    eprintln!("holdfast: {message}");
}

/// A step of a long operation.
pub fn progress(message: &str) {
    eprintln!("{message}");
}
