//! The rows of what bounds a namespace: quotas and ranges.

use super::access::shaped;
use super::{Kind, PLAIN, Subresource};
use crate::model::kinds::{defaults, print, validate};

pub(super) const QUOTA: Kind = Kind {
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short_names: &["quota"],
    subresources: &[Subresource::Status],
    columns: print::limits::QUOTA,
    decode: |value| shaped("v1", "ResourceQuota", value),
    validate: validate::quota::quota,
    validate_update: validate::quota::quota_update,
    ..PLAIN
};

pub(super) const RANGE: Kind = Kind {
    kind: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short_names: &["limits"],
    columns: print::limits::RANGE,
    decode: |value| shaped("v1", "LimitRange", value),
    default: defaults::limits::range,
    validate: validate::limit_range::range,
    ..PLAIN
};
