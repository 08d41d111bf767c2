//! The rows of the table of kinds.
//!
//! A new kind is a row here, plus functions in `print/`, `defaults/` and `validate/`
//! where it needs more than the generic ones.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Event, Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

mod access;
mod definition;
mod limits;
mod network;
mod reviews;
mod scaling;
mod storage;
mod workload;

use super::{Kind, NameRule, Problems, SelectableField, Subresource, defaults, print, validate};

/// Through the type and back: unknown fields vanish, wrong types are errors.
fn through<T: DeserializeOwned + Serialize>(value: Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_value::<T>(value)?)
}

fn keep(_: &mut Value) {}
fn accept(_: &Value, _: &mut Problems) {}
fn accept_update(_: &Value, _: &Value, _: &mut Problems) {}

const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Nobody empties a cluster of its namespaces by one request.
const NAMESPACE_VERBS: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];

const fn field(name: &'static str, pointer: &'static str) -> SelectableField {
    SelectableField { name, pointer }
}

const NAME: SelectableField = field("metadata.name", "/metadata/name");
const NAMESPACE: SelectableField = field("metadata.namespace", "/metadata/namespace");

const POD_FIELDS: &[SelectableField] = &[
    NAME,
    NAMESPACE,
    field("spec.nodeName", "/spec/nodeName"),
    field("spec.restartPolicy", "/spec/restartPolicy"),
    field("spec.schedulerName", "/spec/schedulerName"),
    field("spec.serviceAccountName", "/spec/serviceAccountName"),
    field("spec.hostNetwork", "/spec/hostNetwork"),
    field("status.phase", "/status/phase"),
    field("status.podIP", "/status/podIP"),
    field("status.nominatedNodeName", "/status/nominatedNodeName"),
];

const EVENT_FIELDS: &[SelectableField] = &[
    NAME,
    NAMESPACE,
    field("involvedObject.kind", "/involvedObject/kind"),
    field("involvedObject.namespace", "/involvedObject/namespace"),
    field("involvedObject.name", "/involvedObject/name"),
    field("involvedObject.uid", "/involvedObject/uid"),
    field("involvedObject.apiVersion", "/involvedObject/apiVersion"),
    field("involvedObject.resourceVersion", "/involvedObject/resourceVersion"),
    field("involvedObject.fieldPath", "/involvedObject/fieldPath"),
    field("reason", "/reason"),
    field("reportingComponent", "/reportingComponent"),
    field("source", "/source/component"),
    field("type", "/type"),
];

/// A namespaced kind of the core group with nothing special; rows override what differs.
const PLAIN: Kind = Kind {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    name_rule: NameRule::Subdomain,
    verbs: VERBS,
    kept: true,
    sealed: false,
    subresources: &[],
    generation: false,
    columns: print::NAME_AGE,
    fields: &[NAME, NAMESPACE],
    immutable: &[],
    decode: Ok,
    from_stored: keep,
    to_stored: keep,
    default: keep,
    validate: accept,
    validate_update: accept_update,
    status_on_create: false,
    on_create: keep,
    custom: None,
};

/// A kind that a definition makes, without its names.
pub(super) fn custom_kind(
    fields: Vec<(&'static str, &'static str)>,
    subresources: &'static [Subresource],
) -> Kind {
    let fields = fields.into_iter().map(|(name, pointer)| field(name, pointer));
    Kind { generation: true, subresources, fields: Vec::leak(fields.collect()), ..PLAIN }
}

/// Every kind that is served.
pub static KINDS: &[Kind] = &[
    Kind {
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        columns: print::objects::CONFIG_MAP,
        decode: through::<ConfigMap>,
        validate: validate::objects::config_map,
        validate_update: validate::objects::config_map_update,
        ..PLAIN
    },
    Kind {
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        columns: print::network::ENDPOINTS,
        decode: through::<Endpoints>,
        ..PLAIN
    },
    Kind {
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        columns: print::objects::EVENT,
        fields: EVENT_FIELDS,
        decode: through::<Event>,
        validate: validate::objects::event,
        ..PLAIN
    },
    Kind {
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        namespaced: false,
        name_rule: NameRule::Label,
        verbs: NAMESPACE_VERBS,
        subresources: &[Subresource::Finalize, Subresource::Status],
        columns: print::objects::NAMESPACE,
        fields: &[NAME, field("status.phase", "/status/phase")],
        decode: through::<Namespace>,
        default: defaults::namespace,
        on_create: defaults::namespace_on_create,
        ..PLAIN
    },
    Kind {
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        namespaced: false,
        subresources: &[Subresource::Status],
        columns: print::node::NODE,
        fields: &[NAME, field("spec.unschedulable", "/spec/unschedulable")],
        decode: through::<Node>,
        validate: validate::objects::node,
        validate_update: validate::objects::node_update,
        status_on_create: true,
        ..PLAIN
    },
    Kind {
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        subresources: &[
            Subresource::Attach,
            Subresource::Binding,
            Subresource::EphemeralContainers,
            Subresource::Eviction,
            Subresource::Exec,
            Subresource::Log,
            Subresource::PortForward,
            Subresource::Status,
        ],
        columns: print::pod::POD,
        fields: POD_FIELDS,
        decode: through::<Pod>,
        default: defaults::pod::pod,
        validate: validate::pod::pod,
        validate_update: validate::pod::pod_update,
        on_create: defaults::pod::pod_on_create,
        ..PLAIN
    },
    storage::VOLUME,
    storage::CLAIM,
    storage::SECRET,
    limits::QUOTA,
    limits::RANGE,
    Kind {
        kind: "Service",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        name_rule: NameRule::Label1035,
        subresources: &[Subresource::Status],
        columns: print::network::SERVICE,
        fields: &[
            NAME,
            NAMESPACE,
            field("spec.clusterIP", "/spec/clusterIP"),
            field("spec.type", "/spec/type"),
        ],
        decode: through::<Service>,
        default: defaults::service,
        validate: validate::service::service,
        validate_update: validate::service::service_update,
        on_create: defaults::service_on_create,
        ..PLAIN
    },
    Kind {
        group: "apps",
        kind: "Deployment",
        plural: "deployments",
        singular: "deployment",
        short_names: &["deploy"],
        categories: &["all"],
        subresources: &[Subresource::Scale, Subresource::Status],
        generation: true,
        columns: print::workload::DEPLOYMENT,
        immutable: &["/spec/selector"],
        decode: through::<Deployment>,
        default: defaults::deployment,
        validate: validate::workload::deployment,
        ..PLAIN
    },
    Kind {
        group: "apps",
        kind: "ReplicaSet",
        plural: "replicasets",
        singular: "replicaset",
        short_names: &["rs"],
        categories: &["all"],
        subresources: &[Subresource::Scale, Subresource::Status],
        generation: true,
        columns: print::workload::REPLICA_SET,
        fields: &[NAME, NAMESPACE, field("status.replicas", "/status/replicas")],
        immutable: &["/spec/selector"],
        decode: through::<ReplicaSet>,
        default: defaults::replica_set,
        validate: validate::workload::replica_set,
        on_create: defaults::replica_set_on_create,
        ..PLAIN
    },
    definition::DEFINITION,
    reviews::SELF_SUBJECT,
    reviews::TOKEN,
    reviews::LOCAL_SUBJECT_ACCESS,
    reviews::SELF_SUBJECT_ACCESS,
    reviews::SELF_SUBJECT_RULES,
    reviews::SUBJECT_ACCESS,
    Kind {
        group: "coordination.k8s.io",
        kind: "Lease",
        plural: "leases",
        singular: "lease",
        columns: print::objects::LEASE,
        decode: through::<Lease>,
        ..PLAIN
    },
    Kind {
        group: "discovery.k8s.io",
        kind: "EndpointSlice",
        plural: "endpointslices",
        singular: "endpointslice",
        generation: true,
        columns: print::network::ENDPOINT_SLICE,
        immutable: &["/addressType"],
        decode: through::<EndpointSlice>,
        default: defaults::endpoint_slice,
        validate: validate::service::endpoint_slice,
        ..PLAIN
    },
    network::INGRESS_CLASS,
    network::INGRESS,
    network::POLICY,
    scaling::AUTOSCALER,
    scaling::AUTOSCALER_V1,
    scaling::DISRUPTION_BUDGET,
    scaling::PRIORITY_CLASS,
    access::SERVICE_ACCOUNT,
    access::CLUSTER_ROLE_BINDING,
    access::CLUSTER_ROLE,
    access::ROLE_BINDING,
    access::ROLE,
    workload::STATEFUL_SET,
    workload::DAEMON_SET,
    workload::CONTROLLER_REVISION,
    workload::JOB,
    workload::CRON_JOB,
    storage::CLASS,
    scaling::NODE_METRICS,
    scaling::POD_METRICS,
];
