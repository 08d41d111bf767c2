//! A recovery that is cut off at every step, on real directories.

use super::*;
use crate::base::ids::ClusterId;
use crate::logic::recovery::plan;
use crate::model::node_config::{ClusterNetwork, Ports, Role};
use crate::model::recovery::KnownMember;
use crate::store::SnapshotFormat;

struct Host {
    dir: tempfile::TempDir,
    cluster: ClusterId,
}

fn record(key: &str, value: &str, revision: Revision) -> Result<KeyValue, StateError> {
    Ok(KeyValue {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: 0,
    })
}

impl Host {
    fn new() -> Self {
        let host =
            Self { dir: tempfile::tempdir().unwrap(), cluster: ClusterId(uuid::Uuid::new_v4()) };
        let paths = host.paths();
        for path in [&paths.config, &paths.data] {
            files::create_dir(path, 0o755).unwrap();
        }
        let config = NodeConfig {
            cluster_name: "lab".into(),
            cluster_id: host.cluster,
            generation: Generation(1),
            node_name: "c1".into(),
            address: "10.77.0.31".parse().unwrap(),
            site: "s".into(),
            center: "c".into(),
            roles: vec![Role::Control],
            member_id: Some(MemberId(3)),
            pod_range: "10.244.0.0/24".parse().unwrap(),
            network: ClusterNetwork {
                pod_range: "10.244.0.0/16".parse().unwrap(),
                service_range: "10.96.0.0/16".parse().unwrap(),
                cluster_domain: "cluster.local".into(),
            },
            servers: Vec::new(),
            paths: paths.clone(),
            ports: Ports::default(),
            pause_image: "p".into(),
            eviction: Default::default(),
        };
        write_config(&config).unwrap();
        let now = jiff::Timestamp::UNIX_EPOCH;
        Authority::create("lab", now).unwrap().save(&paths.pki()).unwrap();
        host.found(&paths.store(), Generation(1), MemberId(3));
        host
    }

    fn found(&self, path: &Path, generation: Generation, member: MemberId) {
        let founding = Founding {
            cluster: self.cluster,
            generation,
            member,
            name: "c1".into(),
            address: "10.77.0.31:2380".into(),
            revision: 40,
            log_position: (7, 90),
        };
        let mut records = [
            record("/holdfast/cluster", r#"{"clusterId":"x","generation":1,"rest":[1]}"#, 2),
            record("/holdfast/members/next", "4", 3),
            record("/holdfast/nodes/a1", r#"{"name":"a1","memberId":1}"#, 4),
            record("/holdfast/nodes/c1", r#"{"name":"c1","memberId":3}"#, 5),
            record("/registry/pods/default/x", "pod", 6),
        ]
        .into_iter();
        found_member(path, &founding, &StateRest::default(), &mut records).unwrap();
    }

    fn paths(&self) -> Paths {
        let at = |name| self.dir.path().join(name);
        Paths { config: at("etc"), data: at("var"), run: at("run") }
    }

    async fn order(&self) -> Order {
        let paths = self.paths();
        let member = StoppedMember::open(&paths.store()).unwrap();
        let mut own = member.summary().await.unwrap();
        assert_eq!((own.last.term, own.last.index, own.revision), (7, 90, 40));
        // The group was three.
        let former = |id: u64| KnownMember {
            member: MemberId(id),
            name: format!("n{id}"),
            address: "h:1".into(),
        };
        own.members.extend([former(1), former(2)]);
        own.voters = vec![vec![MemberId(1), MemberId(2), MemberId(3)]];
        let plan = plan(std::slice::from_ref(&own)).unwrap();
        recovery_order(&paths, &plan, &own, "test", jiff::Timestamp::UNIX_EPOCH).unwrap()
    }

    async fn values(&self) -> Vec<(String, String)> {
        let member = StoppedMember::open(&self.paths().store()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let records = member.live_records(Replay::Everything).await.unwrap();
        records.map(|kv| kv.unwrap()).map(|kv| (text(&kv.key), text(&kv.value))).collect()
    }
}

#[tokio::test]
async fn a_recovery_that_is_cut_off_after_any_step_ends_the_same() {
    for cut in 0..8 {
        let host = Host::new();
        let paths = host.paths();
        let order = host.order().await;
        for _ in 0..cut {
            step(&paths, &order, &mut |_: &str| ()).await.unwrap();
        }
        // A build that was killed half-way.
        files::create_dir(&paths.data.join("store.next.building"), 0o755).unwrap();
        let again = open_order(&paths).unwrap();
        assert_eq!(again.is_some(), (1..6).contains(&cut), "{cut}");
        let again = again.unwrap_or(order);
        let done = carry_out(&paths, &again, |_| ()).await.unwrap();
        assert_eq!((done.generation, done.member), (Generation(2), MemberId(2_001)));
        let config = read_config(&paths.node_config()).unwrap();
        assert_eq!((config.generation, config.member_id), (Generation(2), Some(MemberId(2_001))));
        let old = StoppedMember::owner(&done.kept).unwrap();
        assert_eq!(old, (Generation(1), MemberId(3)));
        let new = StoppedMember::open(&paths.store()).unwrap().summary().await.unwrap();
        assert_eq!(
            (new.generation, new.member, new.cluster),
            (Generation(2), MemberId(2_001), host.cluster)
        );
        assert!(new.revision > 40 && new.compacted == new.revision);
        assert!(new.last > crate::model::recovery::LogEnd { term: 7, index: 90 });
        let values = host.values().await;
        let value = |key: &str| values.iter().find(|(known, _)| known == key).unwrap().1.clone();
        assert_eq!(value("/holdfast/cluster"), r#"{"clusterId":"x","generation":2,"rest":[1]}"#);
        assert_eq!(value("/holdfast/members/next"), "2002");
        assert_eq!(value("/holdfast/nodes/c1"), r#"{"name":"c1","memberId":2001}"#);
        assert_eq!(value("/registry/pods/default/x"), "pod");
        let signed = own_record(&paths).unwrap().unwrap();
        let authority = Authority::load(&paths.pki()).unwrap();
        assert!(is_signed_generation(authority.certificate_pem(), &signed));
        assert_eq!(signed.parse().unwrap().parents, vec![Generation(1)]);
    }
}

#[tokio::test]
async fn directories_of_somebody_else_are_not_touched() {
    let host = Host::new();
    let paths = host.paths();
    let order = host.order().await;
    host.found(&paths.data.join("store.next"), Generation(5), MemberId(9));
    let refused = carry_out(&paths, &order, |_| ()).await.unwrap_err();
    assert!(matches!(refused, RecoverError::Lost { .. }), "{refused}");
    assert_eq!(StoppedMember::owner(&paths.store()).unwrap(), (Generation(1), MemberId(3)));
}

#[tokio::test]
async fn a_snapshot_of_another_cluster_is_restored_on_a_lone_node_and_keeps_who_it_is() {
    let (from, host) = (Host::new(), Host::new());
    let snapshot = from.dir.path().join("snapshot");
    let source = StoppedMember::open(&from.paths().store()).unwrap();
    source
        .write_snapshot(SnapshotFormat::Holdfast, File::create(&snapshot).unwrap())
        .await
        .unwrap();
    let paths = host.paths();
    files::remove_tree(&paths.store()).unwrap();
    let founding = Founding {
        cluster: host.cluster,
        generation: Generation(1),
        member: MemberId(3),
        name: "c1".into(),
        address: "10.77.0.31:2380".into(),
        revision: 10,
        log_position: (1, 5),
    };
    let mut own = [record("/holdfast/nodes/c1", r#"{"name":"new","memberId":3}"#, 4)].into_iter();
    found_member(&paths.store(), &founding, &StateRest::default(), &mut own).unwrap();
    let own = StoppedMember::open(&paths.store()).unwrap().summary().await.unwrap();
    let at = jiff::Timestamp::UNIX_EPOCH;
    let order = restore_order(&paths, &snapshot, 1_000, &own, at).unwrap();
    carry_out(&paths, &order, |_| ()).await.unwrap();
    let values = host.values().await;
    assert_eq!(values.len(), 2, "{values:?}");
    assert_eq!(values[0].1, r#"{"name":"new","memberId":2001}"#);
    assert_eq!(values[1].1, "pod");
    let new = StoppedMember::open(&paths.store()).unwrap().summary().await.unwrap();
    assert_eq!((new.revision, new.cluster), (1_040, host.cluster));
    // Into the cluster that it came from it is refused.
    let own = source.summary().await.unwrap();
    let refused = restore_order(&from.paths(), &snapshot, 1, &own, at).unwrap_err();
    assert!(matches!(refused, RecoverError::SameCluster { .. }), "{refused}");
}

#[tokio::test]
async fn a_summary_is_taken_only_as_its_survivor_signed_it() {
    let (host, stranger) = (Host::new(), Host::new());
    let member = StoppedMember::open(&host.paths().store()).unwrap();
    let summary = member.summary().await.unwrap();
    let signed = SignedSummary::sign(&host.paths(), summary.clone()).unwrap();
    // It travels as a file.
    let text = serde_json::to_vec_pretty(&signed).unwrap();
    let signed: SignedSummary = serde_json::from_slice(&text).unwrap();
    assert_eq!(signed.clone().verified(&host.paths()).unwrap(), summary);
    assert!(signed.clone().verified(&stranger.paths()).is_err());
    let mut forged = signed;
    forged.summary.last.index += 1;
    assert!(matches!(forged.verified(&host.paths()), Err(RecoverError::NotSigned { .. })));
}
