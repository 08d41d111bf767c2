//! Typed access to our own Kubernetes-shaped API, over HTTPS or in process.

pub mod api;

pub use api::{
    ApiError, DeleteOptions, ListOptions, ObjectApi, ObjectList, PatchKind, ResourceRef, WatchEvent,
};
