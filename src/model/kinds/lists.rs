//! How the lists of each kind are merged.
//!
//! Source: the `patchStrategy`, `patchMergeKey`, `listType` and `listMapKey` markers of
//! Kubernetes' types. Paths leave out list indexes; a schema is a set of rules with the
//! place where it hangs, so the pod's rules serve pods and every pod template.

/// One list of objects or scalars that is not replaced as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListRule {
    /// Field names from the schema's place, joined by dots.
    pub path: &'static str,
    /// Strategic merge patch: the key that identifies an element; empty for a list of
    /// scalars that is merged as a set.
    pub merge_key: &'static str,
    /// Server-side apply: the keys that identify an element together.
    pub map_keys: &'static [&'static str],
}

/// Rules and the place they apply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListSchema {
    /// Field names from the object's root, joined by dots; empty for the root.
    pub at: &'static str,
    pub rules: &'static [ListRule],
}

const fn rule(
    path: &'static str,
    merge_key: &'static str,
    map_keys: &'static [&'static str],
) -> ListRule {
    ListRule { path, merge_key, map_keys }
}

/// Finds the rule for a list by its full path.
pub fn rule_for(schemas: &[ListSchema], path: &str) -> Option<ListRule> {
    schemas.iter().find_map(|schema| {
        let rest = if schema.at.is_empty() {
            path
        } else {
            path.strip_prefix(schema.at)?.strip_prefix('.')?
        };
        schema.rules.iter().copied().find(|rule| rule.path == rest)
    })
}

const META: ListSchema = ListSchema {
    at: "metadata",
    rules: &[rule("finalizers", "", &[]), rule("ownerReferences", "uid", &["uid"])],
};

const TEMPLATE_META: ListSchema = ListSchema { at: "spec.template.metadata", rules: META.rules };

const POD_SPEC_RULES: &[ListRule] = &[
    rule("containers", "name", &["name"]),
    rule("containers.ports", "containerPort", &["containerPort", "protocol"]),
    rule("containers.env", "name", &["name"]),
    rule("containers.volumeMounts", "mountPath", &["mountPath"]),
    rule("containers.volumeDevices", "devicePath", &["devicePath"]),
    rule("containers.resources.claims", "", &["name"]),
    rule("initContainers", "name", &["name"]),
    rule("initContainers.ports", "containerPort", &["containerPort", "protocol"]),
    rule("initContainers.env", "name", &["name"]),
    rule("initContainers.volumeMounts", "mountPath", &["mountPath"]),
    rule("initContainers.volumeDevices", "devicePath", &["devicePath"]),
    rule("ephemeralContainers", "name", &["name"]),
    rule("volumes", "name", &["name"]),
    rule("imagePullSecrets", "name", &["name"]),
    rule("hostAliases", "ip", &["ip"]),
    rule("topologySpreadConstraints", "topologyKey", &["topologyKey", "whenUnsatisfiable"]),
    rule("schedulingGates", "name", &["name"]),
    rule("resourceClaims", "name", &["name"]),
];

const CONDITIONS: ListSchema =
    ListSchema { at: "status", rules: &[rule("conditions", "type", &["type"])] };

pub(super) const POD: &[ListSchema] = &[
    META,
    ListSchema { at: "spec", rules: POD_SPEC_RULES },
    ListSchema {
        at: "status",
        rules: &[
            rule("conditions", "type", &["type"]),
            rule("podIPs", "ip", &["ip"]),
            rule("hostIPs", "ip", &[]),
        ],
    },
];

pub(super) const WORKLOAD: &[ListSchema] = &[
    META,
    TEMPLATE_META,
    ListSchema { at: "spec.template.spec", rules: POD_SPEC_RULES },
    CONDITIONS,
];

/// A template of a template: the job's and in it the pod's.
pub(super) const CRON_JOB: &[ListSchema] = &[
    META,
    ListSchema { at: "spec.jobTemplate.metadata", rules: META.rules },
    ListSchema { at: "spec.jobTemplate.spec.template.metadata", rules: META.rules },
    ListSchema { at: "spec.jobTemplate.spec.template.spec", rules: POD_SPEC_RULES },
];

pub(super) const NODE: &[ListSchema] = &[
    META,
    ListSchema { at: "spec", rules: &[rule("podCIDRs", "", &[])] },
    ListSchema {
        at: "status",
        rules: &[rule("conditions", "type", &["type"]), rule("addresses", "type", &["type"])],
    },
];

pub(super) const SERVICE: &[ListSchema] = &[
    META,
    ListSchema { at: "spec", rules: &[rule("ports", "port", &["port", "protocol"])] },
    CONDITIONS,
];

pub(super) const PLAIN: &[ListSchema] = &[META, CONDITIONS];
