//! A set of fields, as a tree.
//!
//! A path and the paths below it are members independently: owning a list element and
//! owning its fields are two things.
//! Invariant: every branch ends in a member.

use std::collections::BTreeMap;

use super::path::PathElement;
use crate::model::schema::Type;

/// The paths below one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    pub(super) nodes: BTreeMap<PathElement, Node>,
}

/// One step and what is below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// The step itself is in the set.
    pub(super) member: bool,
    pub(super) below: FieldSet,
}

impl Node {
    fn kept(self) -> Option<Self> {
        (self.member || !self.below.is_empty()).then_some(self)
    }
}

impl FieldSet {
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds one path; the empty path is no field.
    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((first, rest)) = path.split_first() else { return };
        let node = self.nodes.entry(first.clone()).or_default();
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    /// Whether the step itself is a member.
    pub fn has(&self, element: &PathElement) -> bool {
        self.nodes.get(element).is_some_and(|node| node.member)
    }

    /// The set below a step, if there is one.
    pub fn below(&self, element: &PathElement) -> Option<&FieldSet> {
        self.nodes.get(element).map(|node| &node.below).filter(|below| !below.is_empty())
    }

    pub fn union(mut self, other: &FieldSet) -> FieldSet {
        for (element, theirs) in &other.nodes {
            let node = self.nodes.entry(element.clone()).or_default();
            node.member |= theirs.member;
            node.below = std::mem::take(&mut node.below).union(&theirs.below);
        }
        self
    }

    /// What is in this set and not in the other; a member hides only itself.
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        self.each(|element, node| match other.nodes.get(element) {
            None => Some(node.clone()),
            Some(theirs) => Node {
                member: node.member && !theirs.member,
                below: node.below.difference(&theirs.below),
            }
            .kept(),
        })
    }

    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        self.each(|element, node| {
            let theirs = other.nodes.get(element)?;
            Node {
                member: node.member && theirs.member,
                below: node.below.intersection(&theirs.below),
            }
            .kept()
        })
    }

    /// With the declared fields of structs on the way to members as members too: removing
    /// all of a struct then removes the struct.
    pub fn with_named_fields(&self, shape: &Type) -> FieldSet {
        self.each(|element, node| {
            let (named, below) = match element {
                PathElement::Field(name) => (shape.declared(name).is_some(), shape.field(name)),
                _ => (false, element_type(shape)),
            };
            let below = match below {
                Some(inner) => node.below.with_named_fields(inner),
                None => node.below.clone(),
            };
            Some(Node { member: node.member || (named && !below.is_empty()), below })
        })
    }

    /// Every member, in order.
    pub fn paths(&self) -> Vec<Vec<PathElement>> {
        let mut found = Vec::new();
        self.collect(&mut Vec::new(), &mut found);
        found
    }

    fn collect(&self, prefix: &mut Vec<PathElement>, found: &mut Vec<Vec<PathElement>>) {
        for (element, node) in &self.nodes {
            prefix.push(element.clone());
            if node.member {
                found.push(prefix.clone());
            }
            node.below.collect(prefix, found);
            prefix.pop();
        }
    }

    fn each(&self, keep: impl Fn(&PathElement, &Node) -> Option<Node>) -> FieldSet {
        let nodes = self.nodes.iter();
        let nodes =
            nodes.filter_map(|(element, node)| Some((element.clone(), keep(element, node)?)));
        FieldSet { nodes: nodes.collect() }
    }
}

fn element_type(shape: &Type) -> Option<&Type> {
    match shape.resolve() {
        Type::List { element, .. } | Type::Map { element, .. } => Some(element),
        _ => None,
    }
}
