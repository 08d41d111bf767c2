//! The rows of questions: kinds that are created to be answered, and are not kept.

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};

use super::{Kind, PLAIN, through};

const REVIEW: Kind = Kind { namespaced: false, verbs: &["create"], kept: false, ..PLAIN };
const AUTHENTICATION: Kind = Kind { group: "authentication.k8s.io", ..REVIEW };
const AUTHORIZATION: Kind = Kind { group: "authorization.k8s.io", ..REVIEW };

pub(super) const SELF_SUBJECT: Kind = Kind {
    kind: "SelfSubjectReview",
    plural: "selfsubjectreviews",
    singular: "selfsubjectreview",
    decode: through::<SelfSubjectReview>,
    ..AUTHENTICATION
};

pub(super) const TOKEN: Kind = Kind {
    kind: "TokenReview",
    plural: "tokenreviews",
    singular: "tokenreview",
    decode: through::<TokenReview>,
    ..AUTHENTICATION
};

pub(super) const LOCAL_SUBJECT_ACCESS: Kind = Kind {
    kind: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    namespaced: true,
    decode: through::<LocalSubjectAccessReview>,
    ..AUTHORIZATION
};

pub(super) const SELF_SUBJECT_ACCESS: Kind = Kind {
    kind: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    decode: through::<SelfSubjectAccessReview>,
    ..AUTHORIZATION
};

pub(super) const SELF_SUBJECT_RULES: Kind = Kind {
    kind: "SelfSubjectRulesReview",
    plural: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    decode: through::<SelfSubjectRulesReview>,
    ..AUTHORIZATION
};

pub(super) const SUBJECT_ACCESS: Kind = Kind {
    kind: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    decode: through::<SubjectAccessReview>,
    ..AUTHORIZATION
};
