//! Services, network policies and ingresses are refused in Kubernetes' words.

use serde_json::{Value, json};

use super::tests::{kind, problems_of};
use super::{Problems, by_path};

const NONE: [&str; 0] = [];

fn service(spec: Value) -> Vec<String> {
    problems_of(kind("", "services"), json!({"metadata": {"name": "web"}, "spec": spec}))
}

fn policy(spec: Value) -> Vec<String> {
    let object = json!({"metadata": {"name": "web"}, "spec": spec});
    problems_of(kind("networking.k8s.io", "networkpolicies"), object)
}

fn ingress(spec: Value) -> Vec<String> {
    let object = json!({"metadata": {"name": "web"}, "spec": spec});
    problems_of(kind("networking.k8s.io", "ingresses"), object)
}

fn changed(group: &str, plural: &str, old: Value, new: Value) -> Vec<String> {
    let mut problems = Problems::default();
    (by_path(group, "v1", plural).unwrap().validate_update)(&old, &new, &mut problems);
    let causes = problems.into_causes().into_iter();
    causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

#[test]
fn a_service_is_of_a_type_that_fits_what_it_says() {
    let ports = json!([{"port": 80}]);
    for kind in ["ClusterIP", "NodePort", "LoadBalancer"] {
        assert_eq!(service(json!({"type": kind, "ports": ports})), NONE);
    }
    assert_eq!(service(json!({"type": "ExternalName", "externalName": "a.b"})), NONE);
    assert_eq!(
        service(json!({"type": "Balanced", "ports": ports})),
        ["spec.type: Unsupported value: \"Balanced\": supported values: \"ClusterIP\", \
             \"ExternalName\", \"LoadBalancer\", \"NodePort\""]
    );
    assert_eq!(
        service(json!({"type": "NodePort", "clusterIP": "None", "ports": ports})),
        [
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"
        ]
    );
    assert_eq!(service(json!({"type": "ExternalName"})), ["spec.externalName: Required value"]);
    assert_eq!(service(json!({"type": "NodePort"})), ["spec.ports: Required value"]);
    let only = "Forbidden: may only be used when `type` is 'LoadBalancer'";
    assert_eq!(
        service(json!({"ports": ports, "allocateLoadBalancerNodePorts": true,
            "loadBalancerClass": "a/b", "loadBalancerSourceRanges": ["10.0.0.0/8"]})),
        [
            format!("spec.allocateLoadBalancerNodePorts: {only}"),
            format!("spec.loadBalancerClass: {only}"),
            format!("spec.loadBalancerSourceRanges: {only}"),
        ]
    );
    assert_eq!(
        service(json!({"type": "LoadBalancer", "ports": ports,
            "loadBalancerSourceRanges": ["10.0.0.0/8", "10.0.0.0/40"]})),
        ["spec.loadBalancerSourceRanges[1]: Invalid value: \"10.0.0.0/40\": must be a valid \
             CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    );
}

#[test]
fn a_service_s_ports_are_told_apart() {
    let found = service(json!({"type": "NodePort", "ports": [
        {"port": 80, "nodePort": 30_080, "name": "a"},
        {"port": 81, "nodePort": 30_080, "name": "a"},
        {"port": 81, "nodePort": 30_080, "name": "c", "protocol": "UDP"},
        {"port": 0, "targetPort": 70_000},
        {"port": 82, "name": "e", "protocol": "ICMP"}]}));
    let range = "must be between 1 and 65535, inclusive";
    assert_eq!(
        found,
        [
            "spec.ports[1].name: Duplicate value: \"a\"".to_owned(),
            "spec.ports[1].nodePort: Duplicate value: 30080".to_owned(),
            "spec.ports[3].name: Required value".to_owned(),
            format!("spec.ports[3].port: Invalid value: 0: {range}"),
            format!("spec.ports[3].targetPort: Invalid value: 70000: {range}"),
            "spec.ports[4].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \
             \"TCP\", \"UDP\""
                .to_owned(),
        ]
    );
    let twice = json!([{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]);
    let twice = service(json!({"ports": twice}));
    assert_eq!(twice.len(), 1, "{twice:?}");
    assert!(twice[0].starts_with("spec.ports[1]: Duplicate value: "), "{twice:?}");
    assert_eq!(
        service(json!({"ports": [{"port": 80, "nodePort": 30_080}]})),
        ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]
    );
}

#[test]
fn affinity_and_traffic_policies_are_what_they_can_be() {
    let with = |more: Value| {
        let mut spec = json!({"type": "NodePort", "ports": [{"port": 80}]});
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        service(spec)
    };
    assert_eq!(with(json!({"sessionAffinity": "ClientIP"})), NONE);
    let seconds = |count: i64| json!({"clientIP": {"timeoutSeconds": count}});
    for count in [1, 86_400] {
        let stays = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": seconds(count)});
        assert_eq!(with(stays), NONE);
    }
    for count in [0, 86_401] {
        let wrong = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": seconds(count)});
        assert_eq!(
            with(wrong),
            [format!(
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: {count}: must \
                 be greater than 0 and less than 86400"
            )]
        );
    }
    assert_eq!(
        with(json!({"sessionAffinityConfig": seconds(9)})),
        ["spec.sessionAffinityConfig: Forbidden: must not be set when session affinity is None"]
    );
    assert_eq!(
        with(json!({"sessionAffinity": "Cookie"})),
        ["spec.sessionAffinity: Unsupported value: \"Cookie\": supported values: \"ClientIP\", \
             \"None\""]
    );
    let both = "supported values: \"Cluster\", \"Local\"";
    for field in ["externalTrafficPolicy", "internalTrafficPolicy"] {
        let expected = format!("spec.{field}: Unsupported value: \"Near\": {both}");
        assert_eq!(with(json!({field: "Near"})), [expected]);
    }
    assert_eq!(
        with(json!({"type": "ClusterIP", "externalTrafficPolicy": "Local"})),
        ["spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for \
             externally-accessible services"]
    );
    assert_eq!(
        with(json!({"externalIPs": ["10.0.0.9", "127.0.0.1", "x"]})),
        [
            "spec.externalIPs[1]: Invalid value: \"127.0.0.1\": may not be in the loopback range \
             (127.0.0.0/8, ::1/128)",
            "spec.externalIPs[2]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 \
             or 2001:db8::ffff)",
        ]
    );
    assert_eq!(
        with(json!({"healthCheckNodePort": 30_090})),
        ["spec.healthCheckNodePort: Invalid value: 30090: may only be set when `type` is \
             'LoadBalancer' and `externalTrafficPolicy` is 'Local'"]
    );
}

#[test]
fn a_balanced_service_keeps_its_class_and_its_address() {
    let of = |class: &str, ip: &str| {
        json!({"spec": {"type": "LoadBalancer", "loadBalancerClass": class, "clusterIP": ip,
            "clusterIPs": [ip]}})
    };
    let found = changed("", "services", of("a/b", "10.96.0.9"), of("a/c", "10.96.0.8"));
    assert_eq!(
        found,
        [
            "spec.clusterIPs[0]: Invalid value: [\"10.96.0.8\"]: may not change once set",
            "spec.loadBalancerClass: Invalid value: \"a/c\": may not change once set",
        ]
    );
}

#[test]
fn a_policy_s_peers_and_ports_are_checked() {
    let whole = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
            {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}],
            "ports": [{"port": "http"}, {"port": 80, "endPort": 90, "protocol": "UDP"}]}],
        "egress": [{}]});
    assert_eq!(policy(whole), NONE);
    let from = |peer: Value| policy(json!({"podSelector": {}, "ingress": [{"from": [peer]}]}));
    let at = "spec.ingress[0].from[0]";
    assert_eq!(from(json!({})), [format!("{at}: Required value: must specify a peer")]);
    assert_eq!(
        from(json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}})),
        [format!("{at}: Forbidden: may not specify both ipBlock and another peer")]
    );
    assert_eq!(
        from(json!({"ipBlock": {"cidr": "10.0.0.0/16", "except": ["10.0.0.0/16", "9.0.0.0/24"]}})),
        ["10.0.0.0/16", "9.0.0.0/24"].iter().enumerate().map(|(index, wrong)| format!(
            "{at}.ipBlock.except[{index}]: Invalid value: {wrong:?}: must be a strict subset of `cidr`"
        )).collect::<Vec<_>>()
    );
    let terms = json!([{"key": "app", "operator": "In"},
        {"key": "app", "operator": "Exists", "values": ["a"]}, {"key": "app", "operator": "Like"}]);
    let at = format!("{at}.podSelector.matchExpressions");
    assert_eq!(
        from(json!({"podSelector": {"matchExpressions": terms}})),
        [
            format!(
                "{at}[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
            ),
            format!(
                "{at}[1].values: Forbidden: may not be specified when `operator` is 'Exists' or \
                 'DoesNotExist'"
            ),
            format!("{at}[2].operator: Invalid value: \"Like\": not a valid selector operator"),
        ]
    );
    let ports = json!([{"endPort": 9}, {"port": "http", "endPort": 9}, {"port": 80, "endPort": 79},
        {"port": 0}, {"port": 80, "endPort": 70_000}, {"port": 80, "protocol": "ICMP"}]);
    let at = "spec.egress[0].ports";
    assert_eq!(
        policy(json!({"podSelector": {}, "egress": [{"ports": ports}], "policyTypes": ["Out"]})),
        [
            format!("{at}[0].port: Required value: must be specified when `endPort` is specified"),
            format!(
                "{at}[1].endPort: Invalid value: 9: may not be specified when `port` is non-numeric"
            ),
            format!("{at}[2].endPort: Invalid value: 79: must be greater than or equal to `port`"),
            format!("{at}[3].port: Invalid value: 0: must be between 1 and 65535, inclusive"),
            format!(
                "{at}[4].endPort: Invalid value: 70000: must be between 1 and 65535, inclusive"
            ),
            format!(
                "{at}[5].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \
                 \"TCP\", \"UDP\""
            ),
            "spec.policyTypes[0]: Unsupported value: \"Out\": supported values: \"Egress\", \
             \"Ingress\""
                .to_owned(),
        ]
    );
}

/// An Ingress of one rule.
fn rule(host: &str, path: Value) -> Vec<String> {
    ingress(json!({"rules": [{"host": host, "http": {"paths": [path]}}]}))
}

#[test]
fn an_ingress_has_rules_with_hosts_and_paths() {
    let web = json!({"service": {"name": "web", "port": {"number": 80}}});
    let exact = |path: &str| json!({"path": path, "pathType": "Exact", "backend": web});
    for host in ["", "a.example.com", "*.example.com"] {
        assert_eq!(rule(host, exact("/a")), NONE);
    }
    assert_eq!(ingress(json!({"defaultBackend": web})), NONE);
    let nothing = ingress(json!({}));
    assert!(
        nothing[0].ends_with("either `defaultBackend` or `rules` must be specified"),
        "{nothing:?}"
    );
    assert_eq!(
        rule("10.0.0.9", exact("/a")),
        ["spec.rules[0].host: Invalid value: \"10.0.0.9\": must be a DNS name, not an IP address"]
    );
    for host in ["a.*.com", "*", "*.*.com", "Example.com", "a_b"] {
        assert_eq!(rule(host, exact("/a")).len(), 1, "{host}");
    }
    let at = "spec.rules[0].http.paths[0]";
    for (path, text) in [
        ("a", "must be an absolute path"),
        ("/a//b", "must not contain '//'"),
        ("/a/../b", "must not contain '/../'"),
        ("/a%2Fb", "must not contain '%2F'"),
        ("/a/..", "cannot end with '/..'"),
    ] {
        let expected = format!("{at}.path: Invalid value: {path:?}: {text}");
        assert_eq!(rule("", exact(path)), [expected]);
    }
    let typeless = json!({"path": "/", "backend": web});
    let expected = format!("{at}.pathType: Required value: pathType must be specified");
    assert_eq!(rule("", typeless), [expected]);
    assert_eq!(
        rule("", json!({"path": "/", "pathType": "Regex", "backend": web})),
        [format!(
            "{at}.pathType: Unsupported value: \"Regex\": supported values: \"Exact\", \
             \"ImplementationSpecific\", \"Prefix\""
        )]
    );
    let empty = json!({"rules": [{"http": {"paths": []}}]});
    assert_eq!(ingress(empty), ["spec.rules[0].http.paths: Required value"]);
    let tls = json!({"defaultBackend": web, "tls": [{"hosts": ["10.0.0.9"], "secretName": "A"}]});
    let tls = ingress(tls);
    assert_eq!(tls.len(), 2, "{tls:?}");
    assert!(tls[0].starts_with("spec.tls[0].hosts[0]: ") && tls[1].contains("secretName"));
}

#[test]
fn an_ingress_backend_is_one_port_of_one_service() {
    let of = |backend: Value| ingress(json!({"defaultBackend": backend}));
    let at = "spec.defaultBackend";
    let port = |port: Value| of(json!({"service": {"name": "web", "port": port}}));
    assert_eq!(port(json!({"name": "http"})), NONE);
    assert_eq!(port(json!({})), [format!("{at}: Required value: port name or number is required")]);
    assert_eq!(
        port(json!({"name": "http", "number": 80})),
        [format!("{at}: Invalid value: \"\": cannot set both port name & port number")]
    );
    assert_eq!(
        port(json!({"number": 70_000})),
        [format!(
            "{at}.service.port.number: Invalid value: 70000: must be between 1 and 65535, inclusive"
        )]
    );
    assert_eq!(
        of(json!({})),
        [format!("{at}: Required value: either service or resource must be specified")]
    );
    let resource = json!({"apiGroup": "a.b", "kind": "C", "name": "d"});
    assert_eq!(of(json!({"resource": resource})), NONE);
    let service = json!({"name": "web", "port": {"number": 80}});
    assert_eq!(
        of(json!({"resource": resource, "service": service})),
        [format!("{at}: Invalid value: \"\": cannot set both resource and service backends")]
    );
    let nameless = of(json!({"service": {"name": "", "port": {"number": 80}}}));
    assert_eq!(nameless, [format!("{at}.service.name: Required value")]);
    assert_eq!(of(json!({"service": {"name": "1a", "port": {"number": 80}}})).len(), 1);
}

#[test]
fn an_ingress_class_names_its_controller_for_good() {
    let of =
        |controller: &str| json!({"metadata": {"name": "a"}, "spec": {"controller": controller}});
    let class = |object: Value| problems_of(kind("networking.k8s.io", "ingressclasses"), object);
    assert_eq!(class(of("holdfast.io/ingress")), NONE);
    assert_eq!(class(of("")), ["spec.controller: Required value"]);
    assert_eq!(
        class(of("ingress")),
        ["spec.controller: Invalid value: \"ingress\": must be a domain-prefixed path (such as \
             \"acme.io/foo\")"]
    );
    assert_eq!(
        changed("networking.k8s.io", "ingressclasses", of("a.b/c"), of("a.b/d")),
        ["spec.controller: Invalid value: \"a.b/d\": field is immutable"]
    );
    let noted = json!({"metadata": {"name": "web",
            "annotations": {"kubernetes.io/ingress.class": "x"}},
        "spec": {"ingressClassName": "y",
            "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}});
    assert_eq!(
        problems_of(kind("networking.k8s.io", "ingresses"), noted),
        ["metadata.annotations.kubernetes.io/ingress.class: Invalid value: \"x\": can not be set \
             when the class field is also set"]
    );
}
