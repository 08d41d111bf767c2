//! What the wide-area links between a lab's centers do to packets, as a file of the lab.
//!
//! Why a file: the links read it again whenever it changes, so that a fault outlives the
//! command that made it and also the death of the links' process.

use serde::{Deserialize, Serialize};

/// One direction of one link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Direction {
    /// One way.
    pub delay_ms: f64,
    /// Up to so much more or less than the delay.
    pub jitter_ms: f64,
    pub loss_percent: f64,
    /// Megabits a second; no bound where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_mbit: Option<f64>,
    /// Nothing passes.
    pub cut: bool,
}

/// A link's direction with its ends, which are names of centers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Way {
    pub from: String,
    pub to: String,
    #[serde(flatten)]
    pub direction: Direction,
}

/// Every link's both directions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ways {
    /// Grows with every change.
    pub revision: u64,
    pub ways: Vec<Way>,
}

/// What a command changes of a link; what is absent stays.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinkChange {
    /// Of the round trip.
    pub delay_ms: Option<f64>,
    pub jitter_ms: Option<f64>,
    pub loss_percent: Option<f64>,
    /// Zero takes the bound away.
    pub rate_mbit: Option<f64>,
    pub cut: Option<bool>,
}

impl LinkChange {
    fn apply(&self, direction: &mut Direction) {
        if let Some(delay) = self.delay_ms {
            direction.delay_ms = delay / 2.0;
        }
        if let Some(jitter) = self.jitter_ms {
            direction.jitter_ms = jitter / 2.0;
        }
        if let Some(loss) = self.loss_percent {
            direction.loss_percent = loss;
        }
        if let Some(rate) = self.rate_mbit {
            direction.rate_mbit = (rate > 0.0).then_some(rate);
        }
        if let Some(cut) = self.cut {
            direction.cut = cut;
        }
    }
}

impl Ways {
    /// Between each two of these, by the round trip in milliseconds that `delay` says.
    pub fn between(centers: &[&str], delay: impl Fn(&str, &str) -> f64) -> Self {
        let mut ways = Vec::new();
        for from in centers {
            for to in centers.iter().filter(|to| *to != from) {
                let direction =
                    Direction { delay_ms: delay(from, to) / 2.0, ..Direction::default() };
                ways.push(Way { from: (*from).to_owned(), to: (*to).to_owned(), direction });
            }
        }
        Self { revision: 1, ways }
    }

    pub fn of(&self, from: &str, to: &str) -> Option<&Direction> {
        let way = self.ways.iter().find(|way| way.from == from && way.to == to);
        way.map(|way| &way.direction)
    }

    /// Changes the way from one center to another, and the way back unless `one_way`; false
    /// when there is no such link.
    pub fn change(&mut self, from: &str, to: &str, one_way: bool, change: &LinkChange) -> bool {
        let mut found = false;
        for way in &mut self.ways {
            let there = way.from == from && way.to == to;
            let back = way.from == to && way.to == from;
            if there || (back && !one_way) {
                change.apply(&mut way.direction);
                found = true;
            }
        }
        self.revision += u64::from(found);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways() -> Ways {
        Ways::between(
            &["a", "b", "c"],
            |from, to| if [from, to].contains(&"c") { 30.0 } else { 1.0 },
        )
    }

    #[test]
    fn each_direction_has_half_of_the_round_trip() {
        let ways = ways();
        assert_eq!(ways.ways.len(), 6);
        assert_eq!(ways.of("a", "b").unwrap().delay_ms, 0.5);
        assert_eq!(ways.of("c", "b").unwrap().delay_ms, 15.0);
        assert_eq!(ways.of("a", "a"), None);
    }

    #[test]
    fn a_change_is_of_both_directions_or_of_one_and_keeps_the_rest() {
        let mut all = ways();
        let change = LinkChange {
            delay_ms: Some(40.0),
            jitter_ms: Some(10.0),
            rate_mbit: Some(20.0),
            ..LinkChange::default()
        };
        assert!(all.change("a", "c", false, &change));
        let shaped = Direction {
            delay_ms: 20.0,
            jitter_ms: 5.0,
            rate_mbit: Some(20.0),
            ..Direction::default()
        };
        assert_eq!(all.of("a", "c"), Some(&shaped));
        assert_eq!(all.of("c", "a"), Some(&shaped));
        let cut = LinkChange { cut: Some(true), rate_mbit: Some(0.0), ..LinkChange::default() };
        assert!(all.change("c", "a", true, &cut));
        assert_eq!(all.of("a", "c"), Some(&shaped));
        let one_way = Direction { cut: true, rate_mbit: None, ..shaped };
        assert_eq!(all.of("c", "a"), Some(&one_way));
        assert!(!all.change("a", "d", false, &cut));
    }

    #[test]
    fn the_file_is_read_as_it_was_written() {
        let text = serde_json::to_string(&ways()).unwrap();
        assert_eq!(serde_json::from_str::<Ways>(&text).unwrap(), ways());
    }
}
