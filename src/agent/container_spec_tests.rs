//! A container's spec becomes the engine's, field by field.

use serde_json::json;

use super::*;

fn spec(value: serde_json::Value) -> PodSpec {
    serde_json::from_value(value).unwrap()
}

fn identity() -> PodIdentity {
    PodIdentity { namespace: "d".into(), name: "p".into(), uid: "u".into() }
}

fn member(spec: &PodSpec) -> ContainerSpec {
    let identity = identity();
    let context = SpecContext {
        node: "n",
        identity: &identity,
        spec,
        cgroup_parent: Some("/hf"),
        oom_score_min: -1_000,
    };
    let mut env = Environment::default();
    env.set("WHO", "me".into());
    let attempt = Attempt {
        container: &spec.containers[0],
        attempt: 4,
        restart_step: 2,
        sandbox_id: "pause",
        target_id: None,
        image: "r/i@sha256:1",
        env: &env,
        places: &Default::default(),
        memory_capacity_bytes: 1 << 30,
    };
    let dir = PodDir::new(std::path::Path::new("/pods"), "u");
    member_spec(&context, &dir, &attempt).unwrap()
}

#[test]
fn a_member_lives_in_its_pause_containers_namespaces() {
    let spec = spec(json!({"containers": [{"name": "c", "image": "i:1",
        "command": ["run", "$(WHO)"], "args": ["-x"]}]}));
    let member = member(&spec);
    assert_eq!(member.name, "k8s_c_p_d_u_4");
    assert_eq!(member.network, Namespace::Container("pause".into()));
    assert_eq!(member.ipc, Namespace::Container("pause".into()));
    assert_eq!(member.pid, Namespace::Own);
    assert_eq!(member.entrypoint, Some(vec!["run".into(), "me".into()]));
    assert_eq!(member.labels[labels::SPEC_IMAGE], "i:1");
    assert_eq!(member.labels[labels::RESTART_STEP], "2");
    let targets: Vec<&str> = member.binds.iter().map(|bind| bind.target.as_str()).collect();
    assert_eq!(targets, ["/etc/hosts", "/etc/resolv.conf", "/dev/termination-log"]);
}

#[test]
fn resources_become_limits_and_weights() {
    let spec = spec(json!({"containers": [{"name": "c", "image": "i",
        "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}}]}));
    let resources = member(&spec).resources;
    assert_eq!(resources.cpu_limit_milli, Some(500));
    assert_eq!(resources.cpu_shares, Some(512));
    assert_eq!(resources.memory_limit_bytes, Some(64 << 20));
    assert_eq!(resources.oom_score_adj, Some(-997));
}

#[test]
fn users_come_from_container_before_pod() {
    let spec = spec(json!({"securityContext": {"runAsUser": 5, "runAsGroup": 6, "fsGroup": 7},
        "containers": [{"name": "c", "image": "i", "securityContext": {"runAsUser": 8}}]}));
    let member = member(&spec);
    assert_eq!(member.user.as_deref(), Some("8:6"));
    assert_eq!(member.extra_groups, ["7"]);
}

#[test]
fn run_as_non_root_is_checked_against_the_image() {
    let spec = spec(json!({"securityContext": {"runAsNonRoot": true},
        "containers": [{"name": "c", "image": "i"}]}));
    let container = &spec.containers[0];
    assert!(check_non_root(&spec, container, "").is_err());
    assert!(check_non_root(&spec, container, "0:0").is_err());
    assert!(check_non_root(&spec, container, "nobody").is_err());
    assert!(check_non_root(&spec, container, "1000").is_ok());
}

#[test]
fn a_host_network_pod_has_the_hosts_name_and_network() {
    let spec = spec(json!({"hostNetwork": true, "containers": [{"name": "c", "image": "i"}]}));
    let identity = identity();
    let context = SpecContext {
        node: "n",
        identity: &identity,
        spec: &spec,
        cgroup_parent: None,
        oom_score_min: 0,
    };
    let pause = sandbox_spec(&context, "pause".into(), 0);
    assert_eq!(pause.network, Namespace::Host);
    assert_eq!(pause.hostname, None);
    assert_eq!(pause.resources.oom_score_adj, Some(0), "this host allows no lower score");
    assert_eq!(member(&spec).network, Namespace::Host);
}
