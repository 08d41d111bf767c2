//! Writes Kubernetes Events, and counts repetitions instead of writing them again.
//!
//! Why a queue: whoever has something to report must not wait for the API, least of
//! all when the API is what is failing. Events are best effort: a full queue drops.
//! Invariants: memory is bounded by `EVENT_QUEUE` in both directions; a flood of reports is
//! no flood of writes (`event_correlation`).

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::event_correlation::Correlation;
use crate::base::limits;
use crate::client::api::{ApiError, SharedApi};
use crate::client::key::ObjectKey;
use crate::client::typed::{Kind, Typed};
use crate::sys::clock;

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Normal,
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        }
    }
}

#[derive(Clone, Debug)]
struct Report {
    about: ObjectReference,
    severity: Severity,
    reason: String,
    message: String,
}

/// Takes reports from anywhere; cheap to clone.
#[derive(Clone, Debug)]
pub struct EventRecorder {
    queue: mpsc::Sender<Report>,
}

/// Writes what the recorder took; drive [`EventWriter::run`].
#[derive(Debug)]
pub struct EventWriter {
    queue: mpsc::Receiver<Report>,
    events: Typed<Event>,
    component: String,
    host: String,
    known: HashMap<Identity, Known>,
    correlation: Correlation,
}

type Identity = (String, String, String);

#[derive(Debug)]
struct Known {
    key: ObjectKey,
    count: i32,
}

/// A reference to an object, as events and bindings carry it.
pub fn reference<K: Kind>(object: &K) -> ObjectReference {
    let metadata = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}

/// The same for an object that is held as JSON.
pub fn reference_of(object: &Value) -> ObjectReference {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    ObjectReference {
        api_version: text("/apiVersion"),
        kind: text("/kind"),
        name: text("/metadata/name"),
        namespace: text("/metadata/namespace"),
        uid: text("/metadata/uid"),
        resource_version: text("/metadata/resourceVersion"),
        field_path: None,
    }
}

/// Whom reports are about, as one text.
fn subject(about: &ObjectReference) -> String {
    let parts = [&about.kind, &about.namespace, &about.name, &about.uid];
    let parts = parts.map(|part| part.as_deref().unwrap_or_default());
    parts.join("/")
}

impl EventRecorder {
    /// `component` is what people see as the source (`scheduler`, `kubelet`), `host` the
    /// node it runs on, or empty.
    pub fn new(
        api: SharedApi,
        component: impl Into<String>,
        host: impl Into<String>,
    ) -> (Self, EventWriter) {
        let (sender, queue) = mpsc::channel(limits::EVENT_QUEUE);
        let writer = EventWriter {
            queue,
            events: Typed::new(api),
            component: component.into(),
            host: host.into(),
            known: HashMap::new(),
            correlation: Correlation::default(),
        };
        (Self { queue: sender }, writer)
    }

    /// Reports something about an object.
    pub fn record<K: Kind>(&self, object: &K, severity: Severity, reason: &str, message: String) {
        self.record_about(reference(object), severity, reason, message);
    }

    /// As [`EventRecorder::record`], about a part of an object (`fieldPath`) or one that
    /// is known by reference only.
    pub fn record_about(
        &self,
        about: ObjectReference,
        severity: Severity,
        reason: &str,
        message: String,
    ) {
        let report = Report { about, severity, reason: reason.to_owned(), message };
        if self.queue.try_send(report).is_err() {
            tracing::debug!(reason, "an event was dropped");
        }
    }
}

impl EventWriter {
    /// Writes until cancelled, or until all recorders are gone.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            let report = tokio::select! {
                () = cancel.cancelled() => return,
                report = self.queue.recv() => report,
            };
            let Some(report) = report else { return };
            tokio::select! {
                () = cancel.cancelled() => return,
                outcome = self.write(&report) => if let Err(error) = outcome {
                    tracing::debug!(reason = report.reason, %error, "an event was not written");
                }
            }
        }
    }

    async fn write(&mut self, report: &Report) -> Result<(), ApiError> {
        let now = tokio::time::Instant::now();
        let subject = subject(&report.about);
        let severity = report.severity.as_str();
        let likeness = (subject.clone(), format!("{severity} {}", report.reason));
        let combined = self.correlation.combined(likeness, &report.message, now);
        let may_write = self.correlation.may_write(&subject, now);
        // All that are told together are one event, whatever its words are now.
        let words = if combined.is_some() { String::new() } else { report.message.clone() };
        let field = report.about.field_path.clone().unwrap_or_default();
        let identity = (subject + &field, report.reason.clone(), words);
        let message = combined.as_ref().unwrap_or(&report.message);
        if let Some(known) = self.known.get_mut(&identity) {
            known.count += 1;
            if !may_write {
                return Ok(());
            }
            let patch = json!({
                "count": known.count,
                "lastTimestamp": Time(clock::now()),
                "message": message,
            });
            match self.events.patch_merge(&known.key, None, &patch).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        if !may_write {
            return Ok(());
        }
        let event = self.compose(report, message);
        let key = event.key();
        self.events.add(&event).await?;
        if self.known.len() >= limits::EVENT_QUEUE {
            self.known.clear();
        }
        self.known.insert(identity, Known { key, count: 1 });
        Ok(())
    }

    fn compose(&self, report: &Report, message: &str) -> Event {
        let now = Some(Time(clock::now()));
        let about = &report.about;
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{}.{}", about.name.as_deref().unwrap_or("unknown"), &unique[..16]);
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let host = Some(self.host.clone()).filter(|host| !host.is_empty());
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: about.clone(),
            reason: Some(report.reason.clone()),
            message: Some(message.to_owned()),
            type_: Some(report.severity.as_str().to_owned()),
            count: Some(1),
            first_timestamp: now.clone(),
            last_timestamp: now,
            source: Some(EventSource { component: Some(self.component.clone()), host }),
            reporting_component: Some(self.component.clone()),
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use tokio::task::JoinSet;

    use super::*;
    use crate::client::api::ListOptions;
    use crate::client::fake::{FakeApi, eventually_async};

    #[tokio::test]
    async fn repetitions_are_counted_in_one_event() {
        let fake = FakeApi::new();
        let (recorder, writer) = EventRecorder::new(fake.shared(), "scheduler", "");
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run(cancel.clone()));
        let mut pod = Pod::default();
        pod.metadata.name = Some("web".into());
        pod.metadata.namespace = Some("shop".into());
        pod.metadata.uid = Some("u1".into());
        for _ in 0..3 {
            recorder.record(&pod, Severity::Warning, "FailedScheduling", "no room".into());
        }
        recorder.record(&pod, Severity::Normal, "Scheduled", "to a1".into());
        let events: Typed<Event> = Typed::new(fake.shared());
        eventually_async("both events stand", || async {
            let found = events.list(Some("shop"), &ListOptions::default()).await.unwrap();
            let mut counts: Vec<_> = found.iter().map(|event| event.count).collect();
            counts.sort();
            counts == [Some(1), Some(3)]
        })
        .await;
        cancel.cancel();
        while tasks.join_next().await.is_some() {}
    }

    #[tokio::test]
    async fn a_flood_of_reports_is_ten_events_with_a_count() {
        let fake = FakeApi::new();
        let (recorder, writer) = EventRecorder::new(fake.shared(), "replicaset-controller", "");
        let mut set = Pod::default();
        set.metadata.name = Some("web".into());
        set.metadata.namespace = Some("shop".into());
        set.metadata.uid = Some("u1".into());
        for number in 0..40 {
            let text = format!("Created pod: web-{number}");
            recorder.record(&set, Severity::Normal, "SuccessfulCreate", text);
        }
        drop(recorder);
        writer.run(CancellationToken::new()).await;
        let events: Typed<Event> = Typed::new(fake.shared());
        let found = events.list(Some("shop"), &ListOptions::default()).await.unwrap();
        assert_eq!(found.len(), 10);
        let combined = found.iter().find(|event| event.count > Some(1)).unwrap();
        assert_eq!(combined.count, Some(16), "what was written of 25");
        let words = combined.message.as_deref().unwrap();
        assert_eq!(words, "(combined from similar events): Created pod: web-24");
    }
}
