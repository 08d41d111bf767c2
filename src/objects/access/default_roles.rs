//! Kubernetes' default cluster roles and bindings.
//!
//! Source: `plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go`. Left out are the
//! roles of Kubernetes' own components, which do not exist here: controllers, scheduler
//! and nodes need no role (`access`).

use serde_json::{Map, Value, json};

use super::OPEN_URLS;
use crate::model::rbac::{GROUP, RoleRef, Rule, Subject};

/// Says that a role is ours to keep up.
pub(super) const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const READ_WRITE: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// A cluster role as every cluster has it.
#[derive(Debug)]
pub(super) struct DefaultRole {
    pub(super) name: &'static str,
    pub(super) rules: Vec<Rule>,
    /// The role that gathers its rules (`admin`, `edit`, `view`).
    aggregate_to: &'static [&'static str],
    /// What it gathers.
    pub(super) gathers: &'static [&'static str],
}

impl DefaultRole {
    fn new(name: &'static str, rules: Vec<Rule>) -> Self {
        Self { name, rules, aggregate_to: &[], gathers: &[] }
    }

    fn labels(&self) -> Map<String, Value> {
        let mut labels = Map::new();
        labels.insert("kubernetes.io/bootstrapping".into(), "rbac-defaults".into());
        for role in self.aggregate_to {
            labels.insert(format!("{AGGREGATE}{role}"), "true".into());
        }
        labels
    }

    /// The selectors of its aggregation rule.
    pub(super) fn selectors(&self) -> Vec<Value> {
        let selector = |role: &&str| json!({"matchLabels": {format!("{AGGREGATE}{role}"): "true"}});
        self.gathers.iter().map(selector).collect()
    }

    /// The object.
    pub(super) fn object(&self) -> Value {
        let mut role = json!({
            "metadata": {
                "name": self.name, "labels": self.labels(), "annotations": {AUTOUPDATE: "true"},
            },
            "rules": self.rules,
        });
        if !self.gathers.is_empty() {
            role["aggregationRule"] = json!({"clusterRoleSelectors": self.selectors()});
        }
        role
    }
}

/// A cluster role binding as every cluster has it.
#[derive(Debug)]
pub(super) struct DefaultBinding {
    pub(super) name: &'static str,
    groups: &'static [&'static str],
}

impl DefaultBinding {
    pub(super) fn role(&self) -> RoleRef {
        RoleRef { api_group: GROUP.into(), kind: "ClusterRole".into(), name: self.name.into() }
    }

    pub(super) fn subjects(&self) -> Vec<Subject> {
        let subject = |group: &&str| Subject {
            kind: "Group".into(),
            api_group: GROUP.into(),
            name: (*group).into(),
            namespace: String::new(),
        };
        self.groups.iter().map(subject).collect()
    }

    pub(super) fn object(&self) -> Value {
        let subjects: Vec<Value> = self
            .groups
            .iter()
            .map(|group| json!({"kind": "Group", "apiGroup": GROUP, "name": group}))
            .collect();
        json!({
            "metadata": {
                "name": self.name,
                "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
                "annotations": {AUTOUPDATE: "true"},
            },
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": self.name},
            "subjects": subjects,
        })
    }
}

/// Each binds the role of its own name.
pub(super) fn bindings() -> Vec<DefaultBinding> {
    let binding = |name, groups| DefaultBinding { name, groups };
    vec![
        binding("cluster-admin", &["system:masters"]),
        binding("system:basic-user", &["system:authenticated"]),
        binding("system:discovery", &["system:authenticated"]),
        binding("system:monitoring", &["system:monitoring"]),
        binding("system:public-info-viewer", &["system:authenticated", "system:unauthenticated"]),
        binding("system:service-account-issuer-discovery", &["system:serviceaccounts"]),
    ]
}

/// All roles, the gathered before those that gather.
pub(super) fn roles() -> Vec<DefaultRole> {
    let gathered =
        |name, aggregate_to, rules| DefaultRole { aggregate_to, ..DefaultRole::new(name, rules) };
    let gathering = |name, aggregate_to, gathers| DefaultRole {
        aggregate_to,
        gathers,
        ..DefaultRole::new(name, Vec::new())
    };
    let reviews = &["selfsubjectaccessreviews", "selfsubjectrulesreviews"];
    vec![
        DefaultRole::new("cluster-admin", Rule::all().to_vec()),
        DefaultRole::new(
            "system:basic-user",
            vec![
                Rule::resources(&["create"], &["authorization.k8s.io"], reviews),
                Rule::resources(&["create"], &["authentication.k8s.io"], &["selfsubjectreviews"]),
            ],
        ),
        DefaultRole::new(
            "system:discovery",
            vec![Rule::urls(&["get"], &[OPEN_URLS, &["/version/"]].concat())],
        ),
        DefaultRole::new(
            "system:public-info-viewer",
            vec![Rule::urls(&["get"], &["/healthz", "/livez", "/readyz", "/version", "/version/"])],
        ),
        DefaultRole::new(
            "system:monitoring",
            vec![Rule::urls(
                &["get"],
                &[
                    "/healthz",
                    "/healthz/*",
                    "/livez",
                    "/livez/*",
                    "/metrics",
                    "/metrics/slis",
                    "/readyz",
                    "/readyz/*",
                ],
            )],
        ),
        DefaultRole::new(
            "system:service-account-issuer-discovery",
            vec![Rule::urls(
                &["get"],
                &["/.well-known/openid-configuration", "/openid/v1/jwks", "/openid/v1/jwks/"],
            )],
        ),
        DefaultRole::new(
            "system:auth-delegator",
            vec![
                Rule::resources(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
                Rule::resources(&["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]),
            ],
        ),
        gathered(
            "system:aggregated-metrics-reader",
            &["admin", "edit", "view"],
            vec![Rule::resources(READ, &["metrics.k8s.io"], &["nodes", "pods"])],
        ),
        gathered("system:aggregate-to-view", &["view"], view_rules()),
        gathered("system:aggregate-to-edit", &["edit"], edit_rules()),
        gathered("system:aggregate-to-admin", &["admin"], admin_rules()),
        gathering("view", &["edit"], &["view"]),
        gathering("edit", &["admin"], &["edit"]),
        gathering("admin", &[], &["admin"]),
    ]
}

const WORKLOADS: &[&str] = &[
    "daemonsets",
    "deployments",
    "deployments/rollback",
    "deployments/scale",
    "replicasets",
    "replicasets/scale",
    "statefulsets",
    "statefulsets/scale",
];

fn view_rules() -> Vec<Rule> {
    let read = |groups: &[&str], resources: &[&str]| Rule::resources(READ, groups, resources);
    vec![
        read(
            &[""],
            &[
                "configmaps",
                "endpoints",
                "persistentvolumeclaims",
                "persistentvolumeclaims/status",
                "pods",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "serviceaccounts",
                "services",
                "services/status",
            ],
        ),
        read(
            &[""],
            &[
                "bindings",
                "events",
                "limitranges",
                "namespaces/status",
                "pods/log",
                "pods/status",
                "replicationcontrollers/status",
                "resourcequotas",
                "resourcequotas/status",
            ],
        ),
        read(&[""], &["namespaces"]),
        read(&["discovery.k8s.io"], &["endpointslices"]),
        read(
            &["apps"],
            &[
                "controllerrevisions",
                "daemonsets",
                "daemonsets/status",
                "deployments",
                "deployments/scale",
                "deployments/status",
                "replicasets",
                "replicasets/scale",
                "replicasets/status",
                "statefulsets",
                "statefulsets/scale",
                "statefulsets/status",
            ],
        ),
        read(&["autoscaling"], &["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
        read(&["batch"], &["cronjobs", "cronjobs/status", "jobs", "jobs/status"]),
        read(&["policy"], &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
        read(&["networking.k8s.io"], &["ingresses", "ingresses/status", "networkpolicies"]),
    ]
}

fn edit_rules() -> Vec<Rule> {
    let write = |groups: &[&str], resources: &[&str]| Rule::resources(WRITE, groups, resources);
    vec![
        Rule::resources(
            READ,
            &[""],
            &[
                "pods/attach",
                "pods/exec",
                "pods/portforward",
                "pods/proxy",
                "secrets",
                "services/proxy",
            ],
        ),
        Rule::resources(&["impersonate"], &[""], &["serviceaccounts"]),
        write(&[""], &["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"]),
        Rule::resources(&["create"], &[""], &["pods/eviction"]),
        write(
            &[""],
            &[
                "configmaps",
                "events",
                "persistentvolumeclaims",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "secrets",
                "serviceaccounts",
                "services",
                "services/proxy",
            ],
        ),
        Rule::resources(&["create"], &[""], &["serviceaccounts/token"]),
        write(&["apps"], WORKLOADS),
        write(&["batch"], &["cronjobs", "jobs"]),
        write(&["autoscaling"], &["horizontalpodautoscalers"]),
        write(&["policy"], &["poddisruptionbudgets"]),
        write(&["networking.k8s.io"], &["ingresses", "networkpolicies"]),
        Rule::resources(READ_WRITE, &["coordination.k8s.io"], &["leases"]),
    ]
}

fn admin_rules() -> Vec<Rule> {
    vec![
        Rule::resources(&["create"], &["authorization.k8s.io"], &["localsubjectaccessreviews"]),
        Rule::resources(READ_WRITE, &[GROUP], &["rolebindings", "roles"]),
    ]
}
