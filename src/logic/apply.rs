//! Server-side apply: who owns which field, and what an applier may change.
//!
//! Source: sigs.k8s.io/structured-merge-diff and apimachinery's `managedfields`. No crate
//! does this, so the rules stand here, pure, driven by the one table of types
//! ([`crate::model::schema`]).
//!
//! ```text
//! update   compare live with new: what changed becomes the writer's, and nobody else's
//! apply    merge the configuration into live, drop what the applier no longer says and
//!          nobody else owns; what others own and would change is a conflict
//! ```
//! Invariants: a field that an apply does not name is never owned by it (so defaults are
//! nobody's); the same apply twice changes nothing; a set holds no empty branch.
//! Not here: who the writer is, times, transactions (`objects/`).

pub mod check;
pub mod compare;
pub mod element;
pub mod fields_v1;
pub mod fieldset;
pub mod managed;
pub mod merge;
pub mod path;
pub mod remove;
pub mod rules;
pub mod to_set;

#[cfg(test)]
pub(in crate::logic) mod tests;
