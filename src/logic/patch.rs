//! The ways to change a part of an object: JSON patch, merge patch, strategic merge patch.
//!
//! RFC 6902 and RFC 7396 come from the `json-patch` crate; strategic merge is
//! Kubernetes' own and stands in [`strategic`].

pub mod strategic;

use serde_json::Value;

/// A patch that cannot be applied; the text goes to the client.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    #[error("the patch is not a list of JSON patch operations")]
    NotOperations(#[source] serde_json::Error),
    #[error("the patch cannot be applied")]
    Operation(#[source] json_patch::PatchError),
    #[error("the patch must be an object")]
    NotAnObject,
    #[error("strategic merge patch at {path}: {reason}")]
    Strategic { path: String, reason: String },
}

/// RFC 6902: a list of operations, all or none.
pub fn json_patch(document: &Value, patch: &Value) -> Result<Value, PatchError> {
    let operations: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(PatchError::NotOperations)?;
    let mut result = document.clone();
    json_patch::patch(&mut result, &operations).map_err(PatchError::Operation)?;
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
