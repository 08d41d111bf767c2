//! The columns of jobs and cron jobs.

use jiff::Timestamp;
use serde_json::Value;

use super::super::{Column, human};
use super::workload::{CONTAINERS, IMAGES, SELECTOR, joined};
use super::{AGE, NAME, int_at, list_at, number, or_none, str_at, text};

pub(in super::super) const JOB: &[Column] = &[
    NAME,
    text("Status", false, |job, _| status(job).into()),
    text("Completions", false, completions),
    text("Duration", false, duration),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn holds(job: &Value, kind: &str) -> bool {
    list_at(job, "/status/conditions").iter().any(|condition| {
        str_at(condition, "/type") == kind && str_at(condition, "/status") == "True"
    })
}

fn status(job: &Value) -> &'static str {
    let conditions = ["Complete", "Failed"];
    if let Some(over) = conditions.into_iter().find(|kind| holds(job, kind)) {
        return over;
    }
    if job.pointer("/metadata/deletionTimestamp").is_some() {
        return "Terminating";
    }
    let conditions = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
    conditions.into_iter().find(|kind| holds(job, kind)).unwrap_or("Running")
}

fn completions(job: &Value, _: Timestamp) -> Value {
    let done = int_at(job, "/status/succeeded");
    match job.pointer("/spec/completions").and_then(Value::as_i64) {
        Some(wanted) => format!("{done}/{wanted}").into(),
        None => match int_at(job, "/spec/parallelism") {
            parallel if parallel > 1 => format!("{done}/1 of {parallel}").into(),
            _ => format!("{done}/1").into(),
        },
    }
}

fn duration(job: &Value, now: Timestamp) -> Value {
    let time = |pointer: &str| str_at(job, pointer).parse::<Timestamp>().ok();
    let Some(start) = time("/status/startTime") else { return "".into() };
    let end = time("/status/completionTime").unwrap_or(now);
    human::human_duration(end.as_second() - start.as_second()).into()
}

pub(in super::super) const CRON_JOB: &[Column] = &[
    NAME,
    text("Schedule", false, |cron, _| str_at(cron, "/spec/schedule").into()),
    text("Timezone", false, |cron, _| or_none(str_at(cron, "/spec/timeZone"))),
    text("Suspend", false, |cron, _| match cron.pointer("/spec/suspend") {
        Some(Value::Bool(true)) => "True".into(),
        Some(Value::Bool(false)) => "False".into(),
        _ => "<unset>".into(),
    }),
    number("Active", false, |cron, _| list_at(cron, "/status/active").len().into()),
    text("Last Schedule", false, |cron, now| match cron.pointer("/status/lastScheduleTime") {
        Some(time) => human::since(Some(time), now).into(),
        None => "<none>".into(),
    }),
    AGE,
    text("Containers", true, |cron, _| joined(cron, POD_CONTAINERS, "/name")),
    text("Images", true, |cron, _| joined(cron, POD_CONTAINERS, "/image")),
    text("Selector", true, |_, _| "<none>".into()),
];

const POD_CONTAINERS: &str = "/spec/jobTemplate/spec/template/spec/containers";
