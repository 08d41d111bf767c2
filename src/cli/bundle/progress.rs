//! Draws the bundle library's progress on stderr: a bar on a terminal, lines elsewhere.
//!
//! Why lines elsewhere: a log file full of redrawn bars helps nobody.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::bundle::Progress;

/// Shows one phase after the other.
#[derive(Debug)]
pub(in crate::cli) struct TerminalProgress {
    interactive: bool,
    phase: Mutex<Option<Phase>>,
}

#[derive(Debug)]
struct Phase {
    name: String,
    bar: ProgressBar,
    since: Instant,
}

impl TerminalProgress {
    pub(in crate::cli) fn new() -> Self {
        Self { interactive: std::io::stderr().is_terminal(), phase: Mutex::new(None) }
    }

    fn with(&self, act: impl FnOnce(&mut Option<Phase>)) {
        // A poisoned lock only means that another thread died while drawing.
        act(&mut self.phase.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

/// Progress that cannot be shown is no reason to stop the work.
fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn bar(name: &str, total: u64) -> ProgressBar {
    let template = if total == 0 {
        "{prefix} {spinner} {wide_msg}"
    } else {
        "{prefix} [{bar:30}] {bytes}/{total_bytes} {eta} {wide_msg}"
    };
    let style = ProgressStyle::with_template(template).expect("the template is constant");
    let bar = if total == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(total) };
    bar.set_style(style);
    bar.set_prefix(name.to_string());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

impl Progress for TerminalProgress {
    fn begin(&self, phase: &str, total_bytes: u64) {
        let bar = if self.interactive { bar(phase, total_bytes) } else { ProgressBar::hidden() };
        if !self.interactive {
            line(&format!("{phase} ..."));
        }
        let next = Phase { name: phase.into(), bar, since: Instant::now() };
        self.with(|there| *there = Some(next));
    }

    fn item(&self, name: &str) {
        self.with(|there| {
            if let Some(phase) = there {
                phase.bar.set_message(name.to_string());
            }
        });
    }

    fn advance(&self, bytes: u64) {
        self.with(|there| {
            if let Some(phase) = there {
                phase.bar.inc(bytes);
            }
        });
    }

    fn end(&self) {
        self.with(|there| {
            if let Some(phase) = there.take() {
                phase.bar.finish_and_clear();
                line(&format!(
                    "{} done in {:.1} s",
                    phase.name,
                    phase.since.elapsed().as_secs_f64()
                ));
            }
        });
    }
}
