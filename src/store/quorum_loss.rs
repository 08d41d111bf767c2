//! The words for a majority that does not answer.
//!
//! Why a file of its own: errors, messages and the watch over the majority all carry it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Too few members answer; who does, who does not, and how many are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct QuorumLoss {
    /// Names of the voters that answer, the one that says this included.
    pub answering: Vec<String>,
    /// Names of the voters that do not.
    pub silent: Vec<String>,
    /// How many of the silent ones make a majority again.
    pub missing: usize,
}

/// `a`, `a and b`, `a, b and c`.
fn list(names: &[String], last: &str) -> String {
    match names {
        [] => "none".into(),
        [one] => one.clone(),
        [rest @ .., end] => format!("{} {last} {end}", rest.join(", ")),
    }
}

impl QuorumLoss {
    /// What brings a majority back: `start b1 or c1`.
    pub fn remedy(&self) -> String {
        match self.missing {
            1 => format!("start {}", list(&self.silent, "or")),
            all if all >= self.silent.len() => format!("start {}", list(&self.silent, "and")),
            some => format!("start {some} of {}", list(&self.silent, "and")),
        }
    }
}

impl fmt::Display for QuorumLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answering, silent) = (self.answering.len(), self.silent.len());
        let verb = if answering == 1 { "answers" } else { "answer" };
        let negation = if silent == 1 { "does not" } else { "do not" };
        write!(
            f,
            "no majority of the control nodes answers ({answering} of {}): {} {verb}, {} \
             {negation}; {}",
            answering + silent,
            list(&self.answering, "and"),
            list(&self.silent, "and"),
            self.remedy()
        )
    }
}
