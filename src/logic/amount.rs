//! Kubernetes quantities (`100m`, `64Mi`, `1e3`) as numbers.
//! Not here: how one is read (`model/quantity`).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub use crate::model::quantity::milli;
pub(super) use crate::model::quantity::suffix_scale;

/// A named entry of a resource list, in thousandths.
pub fn milli_of(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i64> {
    i64::try_from(milli(&list?.get(name)?.0)?).ok()
}

/// A named entry of a resource list, in whole units, rounded up.
pub fn units_of(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i64> {
    let milli = milli(&list?.get(name)?.0)?;
    i64::try_from((milli + 999) / 1_000).ok()
}
