//! Defaults of priority classes and autoscalers.

use serde_json::Value;

use super::set;

pub(in super::super) fn priority_class(class: &mut Value) {
    let Some(class) = class.as_object_mut() else { return };
    // A class that does not say its value has Go's: the field is not a pointer.
    if class.get("value").is_none_or(Value::is_null) {
        class.insert("value".into(), 0.into());
    }
    set(class, "preemptionPolicy", "PreemptLowerPriority");
}
