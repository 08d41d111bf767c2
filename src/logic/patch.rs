//! The ways to change a part of an object: JSON patch, merge patch, strategic merge patch.
//!
//! RFC 6902 and RFC 7396 come from the `json-patch` crate; strategic merge is
//! Kubernetes' own and stands in [`strategic`].

mod bounds;
pub mod strategic;

use serde_json::Value;

/// A patch that cannot be applied; the text goes to the client.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    #[error("the patch is not a list of JSON patch operations")]
    NotOperations(#[source] serde_json::Error),
    #[error("the patch cannot be applied")]
    Operation(#[source] json_patch::PatchError),
    #[error("the patch asks for too much: {0}")]
    TooMuch(&'static str),
    #[error("the patch must be an object")]
    NotAnObject,
    #[error("strategic merge patch at {path}: {reason}")]
    Strategic { path: String, reason: String },
}

/// RFC 6902: a list of operations, all or none. A few copies of copies would fill any memory
/// or nest deeper than any stack, so what they may make is bounded.
pub fn json_patch(document: &Value, patch: &Value) -> Result<Value, PatchError> {
    let operations: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(PatchError::NotOperations)?;
    let mut result = document.clone();
    let mut bounds = bounds::Bounds::default();
    for operation in operations.0 {
        bounds.admit(&result, &operation).map_err(PatchError::TooMuch)?;
        // Without a way back: on an error the whole result is dropped.
        json_patch::patch_unsafe(&mut result, &[operation]).map_err(PatchError::Operation)?;
    }
    Ok(result)
}

/// RFC 7396: nulls delete, lists replace.
pub fn merge_patch(document: &Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::NotAnObject);
    }
    let mut result = document.clone();
    json_patch::merge(&mut result, patch);
    Ok(result)
}

#[cfg(test)]
mod tests;
