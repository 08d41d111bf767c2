//! The rows of `networking.k8s.io/v1`: policies and ingress.

use super::access::shaped;
use super::{Kind, NAME, PLAIN, Subresource};
use crate::model::kinds::{defaults, print, validate};

const GROUP: &str = "networking.k8s.io";
const VERSION: &str = "networking.k8s.io/v1";

pub(super) const INGRESS_CLASS: Kind = Kind {
    group: GROUP,
    kind: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    namespaced: false,
    generation: true,
    columns: print::network::INGRESS_CLASS,
    fields: &[NAME],
    decode: |value| shaped(VERSION, "IngressClass", value),
    validate: validate::ingress::class,
    validate_update: validate::ingress::class_update,
    ..PLAIN
};

pub(super) const INGRESS: Kind = Kind {
    group: GROUP,
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short_names: &["ing"],
    subresources: &[Subresource::Status],
    generation: true,
    columns: print::network::INGRESS,
    decode: |value| shaped(VERSION, "Ingress", value),
    validate: validate::ingress::ingress,
    on_create: defaults::service_on_create,
    ..PLAIN
};

pub(super) const POLICY: Kind = Kind {
    group: GROUP,
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short_names: &["netpol"],
    generation: true,
    columns: print::network::POLICY,
    decode: |value| shaped(VERSION, "NetworkPolicy", value),
    default: defaults::network_policy,
    validate: validate::network_policy::policy,
    ..PLAIN
};
