//! What one member knows of the majority, and who waits for it.
//!
//! Not here: how it is found out (`quorum_watch`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use tokio::sync::watch;
use tokio::time::Instant;

use super::quorum_loss::QuorumLoss;

/// A voter of one or, while the membership changes, of two groups.
pub(super) struct Voters {
    pub(super) names: BTreeMap<u64, String>,
    /// Each needs a majority of its own.
    pub(super) groups: Vec<BTreeSet<u64>>,
}

impl Voters {
    pub(super) fn loss(&self, answering: &BTreeSet<u64>) -> Option<QuorumLoss> {
        let lacks = |group: &BTreeSet<u64>| {
            let there = group.intersection(answering).count();
            (group.len() / 2 + 1).saturating_sub(there)
        };
        let missing = self.groups.iter().map(lacks).max().unwrap_or(0);
        if missing == 0 {
            return None;
        }
        let all: BTreeSet<u64> = self.groups.iter().flatten().copied().collect();
        let named = |wanted: bool| {
            let of = all.iter().filter(|member| answering.contains(member) == wanted);
            let of = of.map(|member| self.names.get(member).cloned().unwrap_or_default());
            // People look names up; ids follow the order of joining.
            of.collect::<BTreeSet<String>>().into_iter().collect()
        };
        Some(QuorumLoss { answering: named(true), silent: named(false), missing })
    }
}

/// What one member knows of the majority.
#[derive(Debug)]
pub(super) struct Quorum {
    /// When a leader was last heard, or the member began to listen.
    pub(super) heard: Mutex<Instant>,
    lost: watch::Sender<Option<QuorumLoss>>,
}

impl Default for Quorum {
    fn default() -> Self {
        Self { heard: Mutex::new(Instant::now()), lost: watch::Sender::new(None) }
    }
}

impl Quorum {
    /// A leader spoke to this member.
    pub(super) fn leader_heard(&self) {
        *self.heard.lock().expect("no holder of the time panics") = Instant::now();
        self.tell(None);
    }

    /// The loss, while there is one.
    pub(super) fn loss(&self) -> Option<QuorumLoss> {
        self.lost.borrow().clone()
    }

    /// Returns when the majority is lost.
    pub(super) async fn lost(&self) -> QuorumLoss {
        let mut lost = self.lost.subscribe();
        loop {
            if let Some(loss) = lost.borrow_and_update().clone() {
                return loss;
            }
            if lost.changed().await.is_err() {
                // The sender is `self`, so this is not reached; nobody is lost to wait for.
                return std::future::pending().await;
            }
        }
    }

    pub(super) fn tell(&self, now: Option<QuorumLoss>) {
        let changed = self.lost.send_if_modified(|known| {
            let changed = *known != now;
            known.clone_from(&now);
            changed
        });
        match &now {
            Some(loss) if changed => tracing::warn!(%loss, "the majority is lost"),
            None if changed => tracing::info!("the majority may be back"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(groups: &[&[u64]]) -> Voters {
        let groups: Vec<BTreeSet<u64>> =
            groups.iter().map(|group| group.iter().copied().collect()).collect();
        let names = groups.iter().flatten().map(|member| (*member, format!("n{member}"))).collect();
        Voters { names, groups }
    }

    fn loss(groups: &[&[u64]], answering: &[u64]) -> Option<String> {
        let answering = answering.iter().copied().collect();
        voters(groups).loss(&answering).map(|loss| loss.to_string())
    }

    #[test]
    fn the_loss_names_who_answers_and_how_many_to_start() {
        let text = loss(&[&[1, 2, 3]], &[1]).unwrap();
        assert_eq!(
            text,
            "no majority of the control nodes answers (1 of 3): n1 answers, n2 and n3 do not; \
             start n2 or n3"
        );
        let text = loss(&[&[1, 2, 3, 4, 5]], &[1]).unwrap();
        assert!(text.ends_with("start 2 of n2, n3, n4 and n5"), "{text}");
        let text = loss(&[&[1, 2]], &[1]).unwrap();
        assert!(text.ends_with("n1 answers, n2 does not; start n2"), "{text}");
    }

    #[test]
    fn a_majority_of_each_group_is_needed_and_enough() {
        assert_eq!(loss(&[&[1, 2, 3]], &[1, 3]), None);
        assert_eq!(loss(&[&[1]], &[1]), None);
        assert_eq!(loss(&[], &[1]), None, "who is in no group has none to lose");
        assert!(loss(&[&[1, 2, 3], &[3, 4, 5]], &[1, 2, 3]).is_some());
        assert_eq!(loss(&[&[1, 2, 3], &[3, 4, 5]], &[1, 3, 4]), None);
    }
}
