//! Too few masters: every way in says so soon and names the missing; all comes back.

use std::time::{Duration, Instant};

use holdfast::client::{ApiError, HttpApi};
use libtest_mimic::Failed;
use serde_json::Value;

use crate::harness::{
    Lab, Outcome, PATIENCE, contains, ensure, eventually, failed, get_page, has_kubectl, output,
    run, text,
};

/// Once the loss is known a request must not take longer; a loaded machine included.
const SOON: Duration = Duration::from_secs(8);
const JSON: &str = "application/json";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// The status document that the admin page shows of its node.
fn document(lab: &Lab) -> Result<String, Failed> {
    let (url, password) = (lab.env("HOLDFAST_ADMIN_URL")?, lab.env("HOLDFAST_ADMIN_PASSWORD")?);
    let url = url.replace("/ui/", "/holdfast/v1/status");
    run(async {
        let answer = get_page(&url, Some(&password)).await?;
        ensure(answer.status() == 200, || format!("GET {url}: {}", answer.status()))?;
        answer.text().await.map_err(|error| failed("body", error))
    })
}

/// One read of the API: without `resourceVersion`, or with it.
fn read(lab: &Lab, version: Option<&str>) -> Result<Result<Value, ApiError>, Failed> {
    let api = HttpApi::from_kubeconfig(&lab.kubeconfig()?).map_err(|e| failed("client", e))?;
    let query = version.map(|version| ("resourceVersion", version.to_owned()));
    run(async { Ok(api.get_raw(CONFIG_MAPS, query.as_slice(), JSON).await) })
}

fn api_refuses(lab: &Lab) -> Outcome {
    eventually("the API says that no majority answers", Duration::from_secs(20), || {
        match read(lab, None)? {
            Err(ApiError::Refused(status)) => {
                let details = status.details.clone().unwrap_or_default();
                ensure(status.code == 503 && details.retry_after_seconds.is_some(), || {
                    format!("{status:?}")
                })?;
                ensure(status.reason == "ServiceUnavailable", || format!("{status:?}"))?;
                let named = ["(1 of 3)", "a1 answers", "b1 and c1 do not", "start b1 or c1"];
                contains("the refusal", &status.message, &named)
            }
            other => Err(format!("{other:?}").into()),
        }
    })?;
    let stale = read(lab, Some("0"))?;
    ensure(stale.is_ok(), || format!("a stale-allowed read: {stale:?}"))
}

fn clients_say_so(lab: &Lab) -> Outcome {
    let asked = Instant::now();
    let own = output(&mut lab.holdfast(&["get", "pods"])?)?;
    ensure(asked.elapsed() < SOON, || format!("get took {:?}", asked.elapsed()))?;
    ensure(own.status.code() == Some(75), || text(&own))?;
    contains("holdfast get", &text(&own), &["no majority", "start b1 or c1"])?;
    if has_kubectl() {
        let asked = Instant::now();
        let kubectl = output(&mut lab.kubectl(&["get", "pods"])?)?;
        ensure(asked.elapsed() < SOON, || format!("kubectl took {:?}", asked.elapsed()))?;
        contains("kubectl", &text(&kubectl), &["(ServiceUnavailable)", "start b1 or c1"])?;
    }
    Ok(())
}

fn screens_say_so(lab: &Lab) -> Outcome {
    let headline =
        "UTC, from the local replica of a1, no leader: 1 of 3 members answers, start b1 or c1";
    let screen = output(&mut lab.on("a1", &["holdfast", "status"]))?;
    ensure(screen.status.code() == Some(2), || text(&screen))?;
    let shown = text(&screen);
    contains("status", &shown, &["As of ", headline, "Needs attention"])?;
    ensure(!shown.contains("leader  "), || format!("a leader is shown:\n{shown}"))?;
    contains("the document", &document(lab)?, &["\"quorum\":false", "\"start b1 or c1\""])
}

pub(crate) fn two_of_three_killed(lab: &Lab) -> Outcome {
    lab.settled(3)?;
    lab.fault("kill", "b1")?;
    lab.fault("kill", "c1")?;
    api_refuses(lab)?;
    clients_say_so(lab)?;
    screens_say_so(lab)?;
    lab.fault("start", "b1")?;
    eventually("two of three are a majority", PATIENCE, || {
        read(lab, None)?.map(drop).map_err(|error| failed("read", error))
    })?;
    lab.fault("start", "c1")?;
    lab.settled(3)?;
    let shown = output(&mut lab.on("a1", &["holdfast", "status"]))?;
    contains("status", &text(&shown), &["Leader ", "3 of 3 members answer"])
}

pub(crate) fn silent_member_is_named(lab: &Lab) -> Outcome {
    lab.settled(3)?;
    let leader = lab.leader("a1")?;
    let silent = ["b1", "c1"].into_iter().find(|node| *node != leader).unwrap_or("c1");
    lab.fault("stop", silent)?;
    let named = eventually("the silent member is a problem", PATIENCE, || {
        let screen = output(&mut lab.on(&leader, &["holdfast", "status"]))?;
        ensure(screen.status.code() == Some(2), || text(&screen))?;
        contains("status", &text(&screen), &[&format!("Member {silent} of the store")])
    });
    lab.fault("start", silent)?;
    named?;
    lab.settled(3)
}
