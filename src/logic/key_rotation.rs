//! What a control node does next about the keys that secrets are encrypted with.
//!
//! ```text
//!  key made ► every control node fetches it ► active ► every one uses it ► all rewritten
//!  (pending)   (holders/<node> say so)                  (holders/<node>)     (swept)
//! ```
//! Why pure: a key that is used before every control node has it is lost with the one that
//! has it, and its secrets with it; so every order of steps is tested.
//! Invariants: a key becomes active only when every control node of the cluster holds it;
//! nothing is rewritten before every one has stopped using the older key.
//! Not here: files, the store, the way to other nodes (`install/secret_keys`).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::secret_keys::{Holder, KeyId, Rotation};

/// What one control node sees.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub own_name: String,
    /// Whether it leads the store's group.
    pub leads: bool,
    pub rotation: Rotation,
    pub holders: BTreeMap<String, Holder>,
    /// Those that have joined and stay.
    pub control_nodes: BTreeSet<String>,
    /// What its own disk holds.
    pub ring: BTreeSet<KeyId>,
    /// The newest of these.
    pub newest: Option<KeyId>,
    /// Whether it has looked at all values since it leads.
    pub looked: bool,
}

/// One thing to do; then look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the cluster's first key.
    Generate,
    /// Ask these nodes for keys that are missing here.
    Fetch { from: Vec<String> },
    /// Tell what is here, and what is used here.
    Announce(Holder),
    /// Name the key that is to become active.
    Propose(KeyId),
    /// Give up a key that no control node holds any more; nothing is encrypted with it.
    Withdraw(KeyId),
    /// Let new values be encrypted with it.
    Activate(KeyId),
    /// Rewrite every value that is not encrypted with it.
    Sweep(KeyId),
}

impl View {
    fn own(&self) -> Holder {
        let uses = self.rotation.active.filter(|id| self.ring.contains(id));
        Holder { keys: self.ring.iter().copied().collect(), uses }
    }

    fn without(&self, fits: impl Fn(&Holder) -> bool) -> Vec<String> {
        let fits = |name: &&String| !self.holders.get(*name).is_some_and(&fits);
        self.control_nodes.iter().filter(fits).cloned().collect()
    }

    /// The control nodes that the next step waits for.
    pub fn waiting_for(&self) -> Vec<String> {
        match (self.rotation.pending, self.rotation.active) {
            (Some(id), _) => self.without(|holder| holder.keys.contains(&id)),
            (None, Some(id)) if self.rotation.swept != Some(id) => {
                self.without(|holder| holder.uses == Some(id))
            }
            _ => Vec::new(),
        }
    }

    /// What to do now; `None` while others must act first or nothing is left.
    pub fn next(&self) -> Option<Step> {
        if !self.control_nodes.contains(&self.own_name) {
            return None;
        }
        let from = self.who_has_more();
        if !from.is_empty() {
            return Some(Step::Fetch { from });
        }
        let own = self.own();
        if !self.ring.is_empty() && self.holders.get(&self.own_name) != Some(&own) {
            return Some(Step::Announce(own));
        }
        if self.leads { self.lead() } else { None }
    }

    fn who_has_more(&self) -> Vec<String> {
        let more = |name: &&String| {
            let holder = self.holders.get(*name);
            holder.is_some_and(|holder| holder.keys.iter().any(|id| !self.ring.contains(id)))
        };
        self.control_nodes
            .iter()
            .filter(|name| **name != self.own_name)
            .filter(more)
            .cloned()
            .collect()
    }

    fn lead(&self) -> Option<Step> {
        let rotation = &self.rotation;
        let waits = !self.waiting_for().is_empty();
        match (rotation.pending, rotation.active) {
            (Some(id), _) if self.waiting_for().len() == self.control_nodes.len() => {
                Some(Step::Withdraw(id))
            }
            (Some(id), _) => (!waits).then_some(Step::Activate(id)),
            (None, None) => Some(self.newest.map_or(Step::Generate, Step::Propose)),
            (None, Some(id)) => {
                let open = rotation.swept != Some(id) || !self.looked;
                (open && !waits).then_some(Step::Sweep(id))
            }
        }
    }
}

#[cfg(test)]
#[path = "key_rotation_tests.rs"]
mod tests;
