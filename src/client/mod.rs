//! Typed access to our own Kubernetes-shaped API, over HTTPS or in process.

pub mod api;
pub mod applied;
pub mod discovery;
pub mod endpoint;
mod event_correlation;
pub mod events;
pub mod http;
pub mod informer;
pub mod key;
pub mod kubeconfig;
pub mod oci;
pub mod oci_import;
pub mod typed;
pub mod usage;
mod wire;

#[cfg(test)]
pub(crate) mod fake;

pub use api::{
    ApiError, DeleteOptions, ListOptions, ObjectApi, ObjectList, PatchKind, ResourceRef, SharedApi,
    WatchEvent,
};
pub use endpoint::HttpConfig;
pub use events::{EventRecorder, EventWriter};
pub use http::HttpApi;
pub use informer::{Change, Informer, TypedInformer};
pub use key::ObjectKey;
pub use typed::{Kind, Typed};
