//! Claims and volumes that come and go in every order, with writers that die halfway.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn volume(value: Value) -> PersistentVolume {
    let mut whole = json!({"metadata": {"name": "v"}, "spec": {
        "capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain"}});
    json_patch::merge(&mut whole, &value);
    serde_json::from_value(whole).unwrap()
}

fn claim(value: Value) -> PersistentVolumeClaim {
    let mut whole = json!({"metadata": {"name": "c", "namespace": "d", "uid": "u"}, "spec": {
        "storageClassName": "", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "2Gi"}}}});
    json_patch::merge(&mut whole, &value);
    serde_json::from_value(whole).unwrap()
}

fn class(value: Value) -> StorageClass {
    let mut whole = json!({"metadata": {"name": "k"}, "provisioner": LOCAL_PATH,
        "volumeBindingMode": "WaitForFirstConsumer"});
    json_patch::merge(&mut whole, &value);
    serde_json::from_value(whole).unwrap()
}

fn node(name: &str) -> Node {
    serde_json::from_value(
        json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}),
    )
    .unwrap()
}

fn on_node(name: &str) -> Value {
    json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": [name]}]}]}}}})
}

fn chosen(volumes: &[PersistentVolume], claim: &PersistentVolumeClaim) -> Option<String> {
    choose(claim, volumes.iter(), None).and_then(|volume| volume.metadata.name.clone())
}

#[test]
fn the_smallest_volume_that_fits_is_taken() {
    let named = |name: &str, size: &str| {
        volume(json!({"metadata": {"name": name}, "spec": {"capacity": {"storage": size}}}))
    };
    let shelf = [named("big", "10Gi"), named("fit", "2Gi"), named("small", "1Gi")];
    assert_eq!(chosen(&shelf, &claim(json!({}))).as_deref(), Some("fit"));
    let large = claim(json!({"spec": {"resources": {"requests": {"storage": "11Gi"}}}}));
    assert_eq!(chosen(&shelf, &large), None);
}

#[test]
fn class_modes_and_selector_must_fit_and_a_volume_that_names_the_claim_goes_first() {
    let fits = |offer: Value, wish: Value| chosen(&[volume(offer)], &claim(wish)).is_some();
    assert!(fits(json!({}), json!({})));
    assert!(!fits(json!({"spec": {"storageClassName": "x"}}), json!({})));
    assert!(!fits(json!({}), json!({"spec": {"accessModes": ["ReadWriteMany"]}})));
    assert!(!fits(json!({}), json!({"spec": {"volumeMode": "Block"}})));
    let selector = json!({"spec": {"selector": {"matchLabels": {"tier": "gold"}}}});
    assert!(!fits(json!({}), selector.clone()));
    assert!(fits(json!({"metadata": {"labels": {"tier": "gold"}}}), selector));
    assert!(!fits(json!({"status": {"phase": "Released"}}), json!({})));
    let reserved = volume(json!({"metadata": {"name": "mine"},
        "spec": {"claimRef": {"name": "c", "namespace": "d"}, "capacity": {"storage": "9Gi"}}}));
    let shelf = [volume(json!({})), reserved];
    assert_eq!(chosen(&shelf, &claim(json!({}))).as_deref(), Some("mine"));
    let other = claim(json!({"metadata": {"name": "other"}}));
    assert_eq!(chosen(&shelf, &other).as_deref(), Some("v"));
}

#[test]
fn a_claim_that_waits_is_made_a_directory_where_its_pod_goes() {
    let (k, n1) = (class(json!({})), node("n1"));
    let (classes, nodes) = ([&k], [&n1]);
    let shelf = Shelf { volumes: &[], classes: &classes, nodes: &nodes };
    let waiting = claim(json!({"spec": {"storageClassName": "k"}}));
    let step = shelf.decide(&waiting);
    assert!(matches!(step, ClaimStep::Wait { reason: "WaitForFirstConsumer", .. }), "{step:?}");
    assert_eq!(shelf.for_node(&waiting, &n1), NodeFit::Bindable);
    let selected = claim(json!({"spec": {"storageClassName": "k"},
        "metadata": {"annotations": {SELECTED_NODE: "n1"}}}));
    assert_eq!(shelf.decide(&selected), ClaimStep::Provision { class: &k, node: "n1".into() });
    assert_eq!(shelf.for_node(&selected, &node("n2")), NodeFit::Conflict);
    // What stands there already is taken before anything is made, but only on that node.
    let mut there = volume(json!({"spec": {"storageClassName": "k"}}));
    let mut patch = serde_json::to_value(&there).unwrap();
    json_patch::merge(&mut patch, &on_node("n2"));
    let elsewhere: PersistentVolume = serde_json::from_value(patch.clone()).unwrap();
    json_patch::merge(&mut patch, &on_node("n1"));
    there = serde_json::from_value(patch).unwrap();
    let volumes = [&elsewhere, &there];
    let shelf = Shelf { volumes: &volumes[..1], classes: &classes, nodes: &nodes };
    assert!(matches!(shelf.decide(&selected), ClaimStep::Provision { .. }));
    let shelf = Shelf { volumes: &volumes, classes: &classes, nodes: &nodes };
    assert_eq!(shelf.decide(&selected), ClaimStep::Bind(&there));
}

#[test]
fn a_claim_without_a_class_gets_the_default_one() {
    let marked = class(json!({"metadata": {"annotations": {DEFAULT_CLASS: "true"}}}));
    let classes = [&marked];
    let shelf = Shelf { volumes: &[], classes: &classes, nodes: &[] };
    let mut open = claim(json!({}));
    if let Some(spec) = &mut open.spec {
        spec.storage_class_name = None;
    }
    assert_eq!(shelf.decide(&open), ClaimStep::SetClass("k"));
    let none = claim(json!({}));
    assert!(matches!(shelf.decide(&none), ClaimStep::Wait { reason: "FailedBinding", .. }));
    let unknown = claim(json!({"spec": {"storageClassName": "nope"}}));
    let step = shelf.decide(&unknown);
    assert!(matches!(step, ClaimStep::Wait { reason: "ProvisioningFailed", .. }), "{step:?}");
}

#[test]
fn a_volume_follows_its_claim_and_its_policy() {
    let bound = |policy: &str, by: &str| {
        volume(json!({"metadata": {"annotations": {PROVISIONED_BY: by}},
            "spec": {"persistentVolumeReclaimPolicy": policy,
                "claimRef": {"name": "c", "namespace": "d", "uid": "u"}}}))
    };
    let (own, again) = (claim(json!({})), claim(json!({"metadata": {"uid": "later"}})));
    let n1 = node("n1");
    let nodes = [&n1];
    let of = |volume: &PersistentVolume, claim| decide_volume(volume, claim, &nodes);
    assert_eq!(of(&volume(json!({})), None), VolumeStep::Available);
    assert_eq!(of(&bound("Retain", ""), Some(&own)), VolumeStep::Bound);
    assert_eq!(of(&bound("Retain", ""), None), VolumeStep::Released);
    assert_eq!(of(&bound("Retain", ""), Some(&again)), VolumeStep::Released);
    assert_eq!(of(&bound("Delete", ""), None), VolumeStep::Failed);
    assert_eq!(of(&bound("Delete", LOCAL_PATH), None), VolumeStep::Reclaim);
    let mut gone = serde_json::to_value(bound("Delete", LOCAL_PATH)).unwrap();
    json_patch::merge(&mut gone, &on_node("n9"));
    let gone: PersistentVolume = serde_json::from_value(gone).unwrap();
    assert_eq!(of(&gone, None), VolumeStep::Forget);
}

/// The store, with the guard that every write has: the object must be the one that was read.
#[derive(Debug, Default)]
struct World {
    claims: BTreeMap<String, PersistentVolumeClaim>,
    volumes: BTreeMap<String, PersistentVolume>,
    born: usize,
    /// Volume by the uid of the claim that it was given to, for ever.
    given: BTreeMap<String, String>,
}

impl World {
    /// One look at a claim; `dies` ends it after its first write.
    fn look(&mut self, name: &str, dies: bool) {
        let Some(claim) = self.claims.get(name).cloned() else { return };
        let volumes: Vec<PersistentVolume> = self.volumes.values().cloned().collect();
        let volumes: Vec<&PersistentVolume> = volumes.iter().collect();
        let shelf = Shelf { volumes: &volumes, classes: &[], nodes: &[] };
        let uid = claim.metadata.uid.clone().unwrap();
        match shelf.decide(&claim) {
            ClaimStep::Bind(volume) => {
                let name_of_volume = volume.metadata.name.clone().unwrap();
                let stored = self.volumes.get_mut(&name_of_volume).unwrap();
                if stored != volume {
                    return;
                }
                let reference = json!({"name": name, "namespace": "d", "uid": uid});
                stored.spec.as_mut().unwrap().claim_ref =
                    Some(serde_json::from_value(reference).unwrap());
                let before = self.given.insert(name_of_volume.clone(), uid.clone());
                assert!(before.is_none_or(|held| held == uid), "{name_of_volume} was given away");
                if !dies {
                    self.finish(name, &name_of_volume);
                }
            }
            ClaimStep::Keep(volume) => {
                let volume = volume.metadata.name.clone().unwrap();
                self.finish(name, &volume);
            }
            ClaimStep::Wait { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    fn finish(&mut self, claim: &str, volume: &str) {
        let claim = self.claims.get_mut(claim).unwrap();
        claim.spec.as_mut().unwrap().volume_name = Some(volume.to_owned());
        claim.status.get_or_insert_default().phase = Some("Bound".into());
    }
}

#[derive(Clone, Debug)]
enum Event {
    Claim { gi: u32, name: usize },
    Volume { gi: u32 },
    Look { name: usize, dies: bool },
    Drop { name: usize },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (1u32..6, 0usize..6).prop_map(|(gi, name)| Event::Claim { gi, name }),
        2 => (1u32..6).prop_map(|gi| Event::Volume { gi }),
        6 => (0usize..6, any::<bool>()).prop_map(|(name, dies)| Event::Look { name, dies }),
        1 => (0usize..6).prop_map(|name| Event::Drop { name }),
    ]
}

proptest! {
    #[test]
    fn a_volume_is_never_given_to_two_claims_nor_a_claim_two_volumes(
        events in proptest::collection::vec(event(), 0..80),
    ) {
        let mut world = World::default();
        for event in events {
            match event {
                Event::Claim { gi, name } => {
                    let (key, uid) = (format!("c{name}"), format!("u{}", world.born));
                    world.born += 1;
                    let made = claim(json!({"metadata": {"name": key, "uid": uid},
                        "spec": {"resources": {"requests": {"storage": format!("{gi}Gi")}}}}));
                    world.claims.entry(key).or_insert(made);
                }
                Event::Volume { gi } => {
                    let key = format!("v{}", world.born);
                    world.born += 1;
                    let made = volume(json!({"metadata": {"name": key},
                        "spec": {"capacity": {"storage": format!("{gi}Gi")}}}));
                    world.volumes.insert(key, made);
                }
                Event::Look { name, dies } => world.look(&format!("c{name}"), dies),
                Event::Drop { name } => { world.claims.remove(&format!("c{name}")); }
            }
            let mut holders = BTreeMap::new();
            for claim in world.claims.values() {
                let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
                if let Some(name) = name {
                    let volume = &world.volumes[&name];
                    prop_assert!(is_bound(volume) && is_for(volume, claim));
                    prop_assert!(mismatch(volume, claim).is_none());
                    prop_assert!(holders.insert(name, claim.metadata.uid.clone()).is_none());
                }
            }
            for claim in world.claims.values() {
                let own = world.volumes.values().filter(|v| is_bound(v) && is_for(v, claim));
                prop_assert!(own.count() <= 1, "a claim holds two volumes: {world:?}");
            }
        }
    }
}
