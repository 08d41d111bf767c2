//! Names that live as long as the process: of kinds and fields that are defined while it
//! runs.
//!
//! Why leaked: everything that knows kinds holds their names as `&'static str`. A name is
//! kept once however often it is defined, so the cost is bounded by the distinct names that
//! administrators of the cluster ever defined.

use std::collections::HashSet;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The text, kept for ever.
pub fn intern(text: &str) -> &'static str {
    static NAMES: OnceLock<Mutex<HashSet<&'static str>>> = OnceLock::new();
    let names = NAMES.get_or_init(Mutex::default);
    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(text) {
        return known;
    }
    let kept: &'static str = Box::leak(text.to_owned().into_boxed_str());
    names.insert(kept);
    kept
}
