//! What bindings leave unsaid.

use serde_json::Value;

use super::{each, object, set};
use crate::model::rbac::GROUP;

pub(in super::super) fn binding(binding: &mut Value) {
    if let Some(role) = object(binding, "roleRef") {
        set(role, "apiGroup", GROUP);
    }
    let Some(map) = binding.as_object_mut() else { return };
    for subject in each(map, "subjects") {
        if ["User", "Group"].iter().any(|kind| subject.get("kind").is_some_and(|own| own == kind)) {
            set(subject, "apiGroup", GROUP);
        }
    }
}
