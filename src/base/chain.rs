//! Renders an error with all its causes on one line.
//!
//! Why here: every floor reports errors, and a `#[source]` that is never printed is a
//! reason that nobody reads. Invariant: no cause is printed twice in a row, so an error
//! type that repeats its source in its text does not stutter.

use std::error::Error;

/// The error's text followed by each distinct cause, joined by `": "`.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let line = inner.to_string();
        if !text.ends_with(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::chain;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the log")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_are_appended_once() {
        let error = Outer(std::io::Error::other("disk on fire"));
        assert_eq!(chain(&error), "cannot open the log: disk on fire");
    }
}
