//! The rows of secrets and volumes.

use k8s_openapi::api::core::v1::Secret;

use super::{Kind, NAME, NAMESPACE, PLAIN, field, through};
use crate::model::kinds::{defaults, print, validate};

pub(super) const SECRET: Kind = Kind {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    columns: print::storage::SECRET,
    fields: &[NAME, NAMESPACE, field("type", "/type")],
    decode: through::<Secret>,
    default: defaults::storage::secret,
    validate: validate::secret::secret,
    validate_update: validate::secret::secret_update,
    sealed: true,
    ..PLAIN
};
