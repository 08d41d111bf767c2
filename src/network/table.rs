//! The text of one nftables table that is replaced in one transaction and keeps its sets.
//!
//! Why flushed and not deleted: sets that the kernel fills by itself (which client stays
//! with which endpoint) must outlive a change of the rules. Rules all go and come anew;
//! chains and sets that are named no more are deleted in the same transaction.
//! Invariant: everything that is written into the text is a number, an address or a name
//! that this program made; nothing of a user's words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::sys::nft::Names;

/// The text so far.
#[derive(Debug)]
pub(super) struct TableText {
    name: &'static str,
    chains: String,
    sets: BTreeMap<String, String>,
    rules: String,
    names: Names,
}

impl TableText {
    pub(super) fn new(name: &'static str) -> Self {
        let sets = BTreeMap::new();
        Self { name, chains: String::new(), sets, rules: String::new(), names: Names::default() }
    }

    /// A chain that others jump to.
    pub(super) fn chain(&mut self, name: &str) {
        if self.names.chains.insert(name.to_owned()) {
            push(&mut self.chains, format_args!("add chain ip {} {name}", self.name));
        }
    }

    /// Whether no chain of that name was made yet.
    pub(super) fn is_new(&self, name: &str) -> bool {
        !self.names.chains.contains(name)
    }

    /// A chain at a hook; `kind` such as `nat hook output priority -100`.
    pub(super) fn hook(&mut self, name: &str, kind: &str) {
        self.names.chains.insert(name.to_owned());
        let table = self.name;
        push(
            &mut self.chains,
            format_args!("add chain ip {table} {name} {{ type {kind}; policy accept; }}"),
        );
    }

    /// A set; what defines it belongs into its name, as one that is there stays as it is.
    pub(super) fn set(&mut self, name: &str, definition: &str) {
        if self.names.sets.insert(name.to_owned()) {
            self.sets.insert(name.to_owned(), definition.to_owned());
        }
    }

    pub(super) fn rule(&mut self, chain: &str, rule: &str) {
        push(&mut self.rules, format_args!("add rule ip {} {chain} {rule}", self.name));
    }

    /// The whole transaction, over a table that has the names `before`, and its own names.
    pub(super) fn finish(self, before: &Names) -> (String, Names) {
        let table = self.name;
        let mut text = format!("add table ip {table}\nflush table ip {table}\n");
        let stale = |old: &BTreeSet<String>, new: &BTreeSet<String>| -> Vec<String> {
            old.difference(new).cloned().collect()
        };
        for chain in stale(&before.chains, &self.names.chains) {
            push(&mut text, format_args!("delete chain ip {table} {chain}"));
        }
        for set in stale(&before.sets, &self.names.sets) {
            push(&mut text, format_args!("delete set ip {table} {set}"));
        }
        for (name, definition) in self.sets.iter().filter(|(name, _)| !before.sets.contains(*name))
        {
            push(&mut text, format_args!("add set ip {table} {name} {{ {definition} }}"));
        }
        text.push_str(&self.chains);
        text.push_str(&self.rules);
        (text, self.names)
    }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}

/// Takes a table away, whether there is one or not.
pub(super) fn removal(name: &str) -> String {
    format!("add table ip {name}\ndelete table ip {name}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_no_more_goes_before_what_is_new_comes() {
        let mut first = TableText::new("t");
        first.set("s", "type ipv4_addr; flags dynamic,timeout; timeout 9s;");
        first.chain("old");
        first.rule("old", "accept");
        let (_, names) = first.finish(&Names::default());
        let mut second = TableText::new("t");
        second.hook("new", "filter hook forward priority 0");
        second.rule("new", "drop");
        let (text, _) = second.finish(&names);
        let expected = "add table ip t\nflush table ip t\ndelete chain ip t old\n\
            delete set ip t s\n\
            add chain ip t new { type filter hook forward priority 0; policy accept; }\n\
            add rule ip t new drop\n";
        assert_eq!(text, expected);
    }
}
