//! The rows of secrets and volumes.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Secret};
use k8s_openapi::api::storage::v1::StorageClass;

use super::{Kind, NAME, NAMESPACE, PLAIN, Subresource, field, through};
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

pub(super) const VOLUME: Kind = Kind {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short_names: &["pv"],
    namespaced: false,
    subresources: &[Subresource::Status],
    columns: print::storage::VOLUME,
    fields: &[NAME],
    decode: through::<PersistentVolume>,
    default: defaults::storage::volume,
    validate: validate::storage::volume,
    validate_update: validate::storage::volume_update,
    on_create: defaults::storage::volume_on_create,
    ..PLAIN
};

pub(super) const CLAIM: Kind = Kind {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short_names: &["pvc"],
    subresources: &[Subresource::Status],
    columns: print::storage::CLAIM,
    decode: through::<PersistentVolumeClaim>,
    default: defaults::storage::claim,
    validate: validate::storage::claim,
    validate_update: validate::storage::claim_update,
    on_create: defaults::storage::claim_on_create,
    ..PLAIN
};

pub(super) const CLASS: Kind = Kind {
    group: "storage.k8s.io",
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short_names: &["sc"],
    namespaced: false,
    columns: print::storage::CLASS,
    fields: &[NAME],
    decode: through::<StorageClass>,
    default: defaults::storage::class,
    validate: validate::storage::class,
    validate_update: validate::storage::class_update,
    ..PLAIN
};
