//! One line of the table: ours, etcd's, and how many times better ours is.

use std::time::Duration;

use super::load::Sample;

/// Whether more or less of it is better.
#[derive(Debug, Clone, Copy)]
enum Better {
    More,
    Less,
}

#[derive(Debug, Clone)]
pub(crate) struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    better: Better,
    /// Shown beside the value: the latencies behind a rate.
    beside: String,
}

pub(crate) struct Pair {
    pub(crate) ours: Figure,
    pub(crate) theirs: Figure,
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Requests per second, with their latencies.
pub(crate) fn rate(what: impl Into<String>, sample: &Sample) -> [Figure; 2] {
    let what = what.into();
    let at = |thousandths| milliseconds(sample.at(thousandths));
    [
        Figure {
            what: what.clone(),
            value: sample.per_second(),
            unit: "/s",
            better: Better::More,
            beside: format!("; {:.2} / {:.2} / {:.2} ms", at(500), at(990), at(999)),
        },
        latency(format!("{what}: p99"), sample.at(990)),
    ]
}

pub(crate) fn latency(what: impl Into<String>, duration: Duration) -> Figure {
    let (what, value) = (what.into(), milliseconds(duration));
    Figure { what, value, unit: " ms", better: Better::Less, beside: String::new() }
}

pub(crate) fn megabytes(what: impl Into<String>, bytes: u64) -> Figure {
    let (what, value) = (what.into(), bytes as f64 / 1e6);
    Figure { what, value, unit: " MB", better: Better::Less, beside: String::new() }
}

pub(crate) fn print_head() {
    println!("| what (rates with p50 / p99 / p99.9) | Holdfast | etcd | times better |");
    println!("|---|---|---|---|");
}

fn cell(figure: &Figure) -> String {
    let digits = if figure.value < 10.0 { 2 } else { 0 };
    format!("{:.digits$}{}{}", figure.value, figure.unit, figure.beside)
}

pub(crate) fn print(pair: &Pair) {
    let Pair { ours, theirs } = pair;
    let times = match ours.better {
        Better::More => ours.value / theirs.value,
        Better::Less => theirs.value / ours.value,
    };
    println!("| {} | {} | {} | {times:.2} |", ours.what, cell(ours), cell(theirs));
}
