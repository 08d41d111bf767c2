//! What is logged by what runs on a host: plain lines on stderr, by module and level.
//!
//! Why no filter by fields of spans: it would carry a compiler of regular expressions along,
//! and nobody asks for it.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Who logs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Program {
    /// A node: its own steps, others' warnings.
    Node,
    /// PID 1 of a host.
    HostInit,
}

impl Program {
    /// The variable of the environment that says what is logged, and what is without it.
    fn wishes(self) -> (&'static str, &'static str) {
        match self {
            Program::Node => ("HOLDFAST_LOG", "warn,holdfast=info"),
            Program::HostInit => ("RUST_LOG", "info"),
        }
    }
}

/// Logs from now on. A subscriber may have been set by the caller; then that one is used.
pub(super) fn start(program: Program) {
    let (variable, usual) = program.wishes();
    let asked = std::env::var(variable).ok().and_then(|asked| asked.parse().ok());
    let filter: Targets =
        asked.or_else(|| usual.parse().ok()).expect("what is usual can be read, see the test");
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_is_usual_can_be_read_and_chooses_by_module() {
        for program in [Program::Node, Program::HostInit] {
            let filter: Targets = program.wishes().1.parse().unwrap();
            assert!(filter.would_enable("holdfast::store", &Level::INFO), "{program:?}");
            assert!(!filter.would_enable("holdfast::store", &Level::DEBUG), "{program:?}");
        }
        let filter: Targets = Program::Node.wishes().1.parse().unwrap();
        assert!(!filter.would_enable("openraft", &Level::INFO));
    }
}
