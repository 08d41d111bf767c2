//! The row of CustomResourceDefinition.

use super::access::shaped;
use super::{Kind, NAME, PLAIN, Subresource};
use crate::model::kinds::{defaults, print, validate};

pub(super) const DEFINITION: Kind = Kind {
    group: "apiextensions.k8s.io",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    namespaced: false,
    subresources: &[Subresource::Status],
    generation: true,
    columns: print::objects::DEFINITION,
    fields: &[NAME],
    decode: |value| shaped("apiextensions.k8s.io/v1", "CustomResourceDefinition", value),
    default: defaults::definition::definition,
    validate: validate::definition::definition,
    validate_update: validate::definition::definition_update,
    on_create: defaults::definition::definition_on_create,
    ..PLAIN
};
