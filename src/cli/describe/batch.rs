//! The pages of Jobs and CronJobs.

use jiff::Timestamp;
use serde_json::Value;

use super::sheet::Sheet;
use super::workload::{conditions, number, selector, template};
use super::{annotations, controller, items, pairs, scalar, text, time};
use crate::model::kinds::human_duration;

fn head(sheet: &mut Sheet, object: &Value) {
    sheet.field(0, "Name", text(object, "/metadata/name"));
    sheet.field(0, "Namespace", text(object, "/metadata/namespace"));
}

fn moment(object: &Value, pointer: &str) -> Option<Timestamp> {
    text(object, pointer).parse().ok()
}

fn settings(sheet: &mut Sheet, spec: &Value) {
    for (name, field) in [
        ("Parallelism", "parallelism"),
        ("Completions", "completions"),
        ("Completion Mode", "completionMode"),
        ("Suspend", "suspend"),
        ("Backoff Limit", "backoffLimit"),
        ("Backoff Limit Per Index", "backoffLimitPerIndex"),
        ("Max Failed Indexes", "maxFailedIndexes"),
        ("Active Deadline Seconds", "activeDeadlineSeconds"),
        ("TTL Seconds After Finished", "ttlSecondsAfterFinished"),
    ] {
        if !spec[field].is_null() {
            sheet.field(0, name, scalar(&spec[field]));
        }
    }
}

/// Writes a Job's page.
pub(super) fn job(sheet: &mut Sheet, object: &Value, now: Timestamp) {
    head(sheet, object);
    sheet.field(0, "Selector", selector(&object["spec"]["selector"]));
    sheet.many(0, "Labels", &pairs(&object["metadata"]["labels"], "="));
    sheet.many(0, "Annotations", &annotations(object));
    sheet.some(0, "Controlled By", &controller(object).unwrap_or_default());
    settings(sheet, &object["spec"]);
    if let Some(start) = moment(object, "/status/startTime") {
        sheet.field(0, "Start Time", time(&object["status"]["startTime"]));
        let end = moment(object, "/status/completionTime");
        if end.is_some() {
            sheet.field(0, "Completed At", time(&object["status"]["completionTime"]));
        }
        let seconds = end.unwrap_or(now).as_second() - start.as_second();
        sheet.field(0, "Duration", human_duration(seconds));
    }
    let status = |field: &str| number(object, &format!("/status/{field}"));
    let pods = format!(
        "{} Active ({} Ready) / {} Succeeded / {} Failed",
        status("active"),
        status("ready"),
        status("succeeded"),
        status("failed")
    );
    sheet.field(0, "Pods Statuses", pods);
    if object["spec"]["completionMode"] == "Indexed" {
        let done = text(object, "/status/completedIndexes");
        sheet.field(0, "Completed Indexes", if done.is_empty() { "<none>" } else { done });
        sheet.some(0, "Failed Indexes", text(object, "/status/failedIndexes"));
    }
    template(sheet, &object["spec"]);
    conditions(sheet, object);
}

/// Writes a CronJob's page.
pub(super) fn cron_job(sheet: &mut Sheet, object: &Value) {
    let spec = &object["spec"];
    head(sheet, object);
    sheet.many(0, "Labels", &pairs(&object["metadata"]["labels"], "="));
    sheet.many(0, "Annotations", &annotations(object));
    for (name, field, unset) in [
        ("Schedule", "schedule", ""),
        ("Time Zone", "timeZone", "<unset>"),
        ("Concurrency Policy", "concurrencyPolicy", ""),
        ("Suspend", "suspend", "false"),
        ("Successful Job History Limit", "successfulJobsHistoryLimit", "<unset>"),
        ("Failed Job History Limit", "failedJobsHistoryLimit", "<unset>"),
        ("Starting Deadline Seconds", "startingDeadlineSeconds", "<unset>"),
    ] {
        let value = &spec[field];
        sheet.field(0, name, if value.is_null() { unset.to_owned() } else { scalar(value) });
    }
    let job = &spec["jobTemplate"]["spec"];
    settings(sheet, job);
    template(sheet, job);
    sheet.field(0, "Last Schedule Time", time(&object["status"]["lastScheduleTime"]));
    let active: Vec<&str> =
        items(&object["status"]["active"]).map(|one| text(one, "/name")).collect();
    let active = if active.is_empty() { "<none>".to_owned() } else { active.join(", ") };
    sheet.field(0, "Active Jobs", active);
}
