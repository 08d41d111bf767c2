//! Control nodes that act in every order, join, leave and rotate.

use proptest::prelude::*;

use super::*;

fn id(number: u8) -> KeyId {
    KeyId::new([number; KeyId::BYTES])
}

/// A cluster with what each node has on its disk.
#[derive(Debug, Default)]
struct World {
    rotation: Rotation,
    holders: BTreeMap<String, Holder>,
    /// Disk and what the node encrypts with.
    nodes: BTreeMap<String, (BTreeSet<KeyId>, Option<KeyId>)>,
    keys: u8,
    /// The key of each value.
    values: Vec<KeyId>,
}

impl World {
    fn view(&self, name: &str, leads: bool) -> View {
        let (ring, _) = &self.nodes[name];
        View {
            own_name: name.into(),
            leads,
            rotation: self.rotation.clone(),
            holders: self.holders.clone(),
            control_nodes: self.nodes.keys().cloned().collect(),
            newest: ring.iter().max().copied(),
            ring: ring.clone(),
            looked: true,
        }
    }

    /// The node does its next step; whether there was one.
    fn act(&mut self, name: &str, leads: bool) -> bool {
        let Some(step) = self.view(name, leads).next() else { return false };
        match step {
            Step::Generate => {
                self.keys += 1;
                let key = id(self.keys);
                self.node(name).0.insert(key);
            }
            Step::Fetch { from } => {
                let theirs = self.nodes[&from[0]].0.clone();
                self.node(name).0.extend(theirs);
            }
            Step::Announce(holder) => {
                self.node(name).1 = holder.uses;
                self.holders.insert(name.into(), holder);
            }
            Step::Propose(key) => self.rotation.pending = Some(key),
            Step::Withdraw(_) => self.rotation.pending = None,
            Step::Activate(key) => {
                for (name, (disk, _)) in &self.nodes {
                    assert!(disk.contains(&key), "{name} lacks {key}, which becomes active");
                }
                self.rotation = Rotation { active: Some(key), pending: None, ..self.rotation };
            }
            Step::Sweep(key) => {
                for (name, (_, uses)) in &self.nodes {
                    assert_eq!(*uses, Some(key), "{name} still writes with an older key");
                }
                self.values.iter_mut().for_each(|value| *value = key);
                self.rotation.swept = Some(key);
            }
        }
        true
    }

    fn node(&mut self, name: &str) -> &mut (BTreeSet<KeyId>, Option<KeyId>) {
        self.nodes.get_mut(name).unwrap()
    }

    fn rotate(&mut self, name: &str) {
        if self.rotation.pending.is_none() && self.rotation.active.is_some() {
            self.keys += 1;
            let key = id(self.keys);
            self.node(name).0.insert(key);
            self.rotation.pending = Some(key);
            self.holders.entry(name.into()).or_default().keys.push(key);
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Act { node: usize, leads: bool },
    Write { node: usize },
    Rotate { node: usize },
    Join,
    Leave { node: usize },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0usize..8, any::<bool>()).prop_map(|(node, leads)| Event::Act { node, leads }),
        2 => (0usize..8).prop_map(|node| Event::Write { node }),
        1 => (0usize..8).prop_map(|node| Event::Rotate { node }),
        1 => Just(Event::Join),
        1 => (0usize..8).prop_map(|node| Event::Leave { node }),
    ]
}

proptest! {
    #[test]
    fn in_every_order_no_value_is_lost_and_the_last_key_encrypts_all(
        events in proptest::collection::vec(event(), 0..120),
    ) {
        let mut world = World::default();
        world.nodes.insert("n0".into(), Default::default());
        let mut born = 1;
        for event in events {
            let names: Vec<String> = world.nodes.keys().cloned().collect();
            let name = |node: usize| names[node % names.len()].clone();
            match event {
                Event::Act { node, leads } => { world.act(&name(node), leads); }
                Event::Write { node } => {
                    let uses = world.nodes[&name(node)].1;
                    world.values.extend(uses);
                }
                Event::Rotate { node } => world.rotate(&name(node)),
                Event::Join => {
                    // It is given what the node that admits it has, and fetches the rest.
                    let given = world.nodes[&name(born)].0.clone();
                    world.nodes.insert(format!("n{born}"), (given, None));
                    born += 1;
                }
                Event::Leave { node } if names.len() > 1 => {
                    world.nodes.remove(&name(node));
                }
                Event::Leave { .. } => {}
            }
        }
        let mut rounds = 0;
        let leader = world.nodes.keys().next().unwrap().clone();
        loop {
            let names: Vec<String> = world.nodes.keys().cloned().collect();
            let acted: Vec<bool> =
                names.iter().map(|name| world.act(name, *name == leader)).collect();
            if !acted.contains(&true) { break }
            rounds += 1;
            prop_assert!(rounds < 100, "it never settles: {world:?}");
        }
        let active = world.rotation.active.unwrap();
        prop_assert_eq!(world.rotation.swept, Some(active));
        prop_assert!(world.values.iter().all(|value| *value == active));
        for (disk, uses) in world.nodes.values() {
            prop_assert!(disk.contains(&active));
            prop_assert_eq!(*uses, Some(active));
        }
    }
}

#[test]
fn a_rotation_waits_for_a_node_that_is_down_and_names_it() {
    let mut world = World::default();
    for name in ["a", "b"] {
        world.nodes.insert(name.into(), Default::default());
    }
    while world.act("a", true) || world.act("b", false) {}
    let first = world.rotation.active.unwrap();
    world.rotate("a");
    while world.act("a", true) {}
    assert_eq!(world.rotation.active, Some(first));
    assert_eq!(world.view("a", true).waiting_for(), ["b"]);
    while world.act("a", true) || world.act("b", false) {}
    assert_ne!(world.rotation.active, Some(first));
    assert!(world.view("a", true).waiting_for().is_empty());
}

#[test]
fn a_node_that_is_not_recorded_yet_does_nothing() {
    let mut world = World::default();
    world.nodes.insert("a".into(), Default::default());
    let mut view = world.view("a", true);
    view.control_nodes.clear();
    assert_eq!(view.next(), None);
}
