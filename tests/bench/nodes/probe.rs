//! What a user of the API notices while others load it: writes, and news of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use holdfast::client::{HttpApi, ListOptions, ObjectApi, PatchKind, ResourceRef, WatchEvent};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Clients, Line, milliseconds};

const NAMESPACE: Option<&str> = Some("probe");
const CONFIG: ResourceRef = ResourceRef::of::<ConfigMap>(true);
const NAME: &str = "probe";
/// Who hear of every write.
const WATCHERS: usize = 1_000;
/// From one write to the next.
const PERIOD: Duration = Duration::from_millis(500);
/// How long the last news may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Probe {
    cancel: CancellationToken,
    /// When each write began, and how long it took.
    writer: tokio::task::JoinHandle<Result<Vec<(Instant, Duration)>, anyhow::Error>>,
    heard: mpsc::UnboundedReceiver<(usize, Instant)>,
    _watchers: JoinSet<()>,
}

impl Probe {
    pub(crate) async fn start(clients: &Clients) -> Result<Self, anyhow::Error> {
        let api = clients.of_turn(0).clone();
        let space =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        api.create(&ResourceRef::of::<Namespace>(false), None, &space).await?;
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}});
        let made = api.create(&CONFIG, NAMESPACE, &object).await?;
        let version = made["metadata"]["resourceVersion"].as_str().map(ToOwned::to_owned);
        let options = ListOptions {
            field_selector: Some(format!("metadata.name={NAME}")),
            resource_version: version,
            ..ListOptions::default()
        };
        let (hear, heard) = mpsc::unbounded_channel();
        let mut watchers = JoinSet::new();
        for turn in 0..WATCHERS {
            let mut events = clients.of_turn(turn).watch(&CONFIG, NAMESPACE, &options).await?;
            let hear = hear.clone();
            watchers.spawn(async move {
                while let Some(Ok(event)) = events.next().await {
                    let WatchEvent::Modified(object) = event else { continue };
                    let turn = object["data"]["turn"].as_str().and_then(|text| text.parse().ok());
                    let Some(turn) = turn else { continue };
                    if hear.send((turn, Instant::now())).is_err() {
                        return;
                    }
                }
            });
        }
        let cancel = CancellationToken::new();
        let writer = tokio::spawn(write(Arc::new(api), cancel.clone()));
        Ok(Self { cancel, writer, heard, _watchers: watchers })
    }

    /// Ends it; every watcher must hear of every write.
    pub(crate) async fn end(mut self) -> Result<Vec<Line>, anyhow::Error> {
        self.cancel.cancel();
        let writes = self.writer.await??;
        let mut delays = Vec::new();
        while delays.len() < writes.len() * WATCHERS {
            let next = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
            let Ok(Some((turn, at))) = next else {
                let wanted = writes.len() * WATCHERS;
                anyhow::bail!("only {} of {wanted} news arrived", delays.len());
            };
            delays.push(at.duration_since(writes[turn].0));
        }
        let mut took: Vec<Duration> = writes.into_iter().map(|(_, took)| took).collect();
        let what = |what: &str| format!("meanwhile: {what}");
        Ok(vec![
            (what("a write"), p50_and_p99(&mut took), "p99 ≤ 200 ms"),
            (
                what(&format!("news of it to {WATCHERS} watchers")),
                p50_and_p99(&mut delays),
                "p99 ≤ 250 ms",
            ),
        ])
    }
}

async fn write(
    api: Arc<HttpApi>,
    cancel: CancellationToken,
) -> Result<Vec<(Instant, Duration)>, anyhow::Error> {
    let mut writes = Vec::new();
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Ok(writes),
            _ = tick.tick() => {}
        }
        let patch = json!({"data": {"turn": writes.len().to_string()}});
        let started = Instant::now();
        api.patch(&CONFIG, NAMESPACE, NAME, None, PatchKind::Merge, &patch).await?;
        writes.push((started, started.elapsed()));
    }
}

fn p50_and_p99(all: &mut [Duration]) -> String {
    all.sort();
    let at = |percent: usize| all.get(all.len() * percent / 100).copied().unwrap_or_default();
    format!("p50 {}, p99 {}", milliseconds(at(50)), milliseconds(at(99)))
}
