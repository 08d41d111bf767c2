//! The rows of the sets and jobs: `apps/v1` beyond Deployments, and `batch/v1`.

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};

use super::{Kind, NAME, NAMESPACE, PLAIN, Subresource, field, through};
use crate::model::kinds::{defaults, print, validate};

pub(super) const STATEFUL_SET: Kind = Kind {
    group: "apps",
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short_names: &["sts"],
    categories: &["all"],
    subresources: &[Subresource::Scale, Subresource::Status],
    generation: true,
    columns: print::sets::STATEFUL_SET,
    decode: through::<StatefulSet>,
    default: defaults::sets::stateful_set,
    validate: validate::sets::stateful_set,
    validate_update: validate::sets::stateful_set_update,
    on_create: defaults::replica_set_on_create,
    ..PLAIN
};

pub(super) const DAEMON_SET: Kind = Kind {
    group: "apps",
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    categories: &["all"],
    subresources: &[Subresource::Status],
    generation: true,
    columns: print::sets::DAEMON_SET,
    immutable: &["/spec/selector"],
    decode: through::<DaemonSet>,
    default: defaults::sets::daemon_set,
    validate: validate::sets::daemon_set,
    on_create: defaults::sets::daemon_set_on_create,
    ..PLAIN
};

pub(super) const CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    columns: print::sets::CONTROLLER_REVISION,
    immutable: &["/data"],
    decode: through::<ControllerRevision>,
    validate: validate::sets::controller_revision,
    ..PLAIN
};

pub(super) const JOB: Kind = Kind {
    group: "batch",
    kind: "Job",
    plural: "jobs",
    singular: "job",
    categories: &["all"],
    subresources: &[Subresource::Status],
    generation: true,
    columns: print::batch::JOB,
    fields: &[NAME, NAMESPACE, field("status.successful", "/status/succeeded")],
    decode: through::<Job>,
    default: defaults::batch::job,
    validate: validate::batch::job,
    validate_update: validate::batch::job_update,
    ..PLAIN
};

pub(super) const CRON_JOB: Kind = Kind {
    group: "batch",
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short_names: &["cj"],
    categories: &["all"],
    subresources: &[Subresource::Status],
    generation: true,
    columns: print::batch::CRON_JOB,
    decode: through::<CronJob>,
    default: defaults::batch::cron_job,
    validate: validate::batch::cron_job,
    ..PLAIN
};
