//! Keeps the kernel's rules as the network policies say.
//!
//! ```text
//! policies, namespaces, pods ─┐
//! this node's pods (pod_net) ─┴─► compile ─► nft ─► `guarded`: pods that rules stand for
//! ```
//! Why `guarded`: a pod's link is connected only when the rules for its address stand, so
//! that its containers never see an open moment.
//! Invariants: nothing is written before all lists are complete that it depends on (pods are
//! followed from the first policy on); a change is in the kernel
//! within about [`COALESCE`] and one run of `nft`.
//! Not here: what is allowed (logic/network_policy.rs).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base::chain::chain;
use crate::logic::network_policy::{PodFacts, PodRules, World, compile};
use crate::network::source::View;
use crate::network::{NetworkError, Plan, policy_rules};
use crate::sys::nft::{self, Names};

/// Changes within this time are written together.
const COALESCE: Duration = Duration::from_millis(100);
/// How soon a failed write is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often the table is written even without change; see `services`.
const REWRITE: Duration = Duration::from_secs(60);

/// Addresses of this node's pods, by uid.
pub(super) type OwnPods = BTreeMap<String, Ipv4Addr>;

/// What the rules are made from.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) policies: View<Value>,
    pub(super) namespaces: View<Value>,
    pub(super) pods: View<PodFacts>,
    pub(super) own: watch::Receiver<OwnPods>,
}

impl Inputs {
    /// `None` until all lists are complete that the rules are made from.
    fn current(&mut self) -> Option<(Vec<PodRules>, OwnPods)> {
        let (policies, namespaces) = (self.policies.current()?, self.namespaces.current()?);
        let own = self.own.borrow_and_update().clone();
        // Without any every pod is open, whatever is known of it.
        if policies.is_empty() {
            return Some((Vec::new(), own));
        }
        self.pods.want();
        let pods = self.pods.current()?;
        let world = World { policies: &policies, namespaces: &namespaces, pods: &pods, own: &own };
        Some((compile(world), own))
    }
}

#[derive(Debug)]
struct Writer {
    plan: Arc<Plan>,
    names: Option<Names>,
    written: Option<Vec<PodRules>>,
}

impl Writer {
    async fn write(&mut self, rules: Vec<PodRules>) -> Result<(), NetworkError> {
        if self.written.as_ref() == Some(&rules) {
            return Ok(());
        }
        let nft = &self.plan.nft;
        let before = match self.names.take() {
            Some(names) => names,
            None => nft::names(nft, policy_rules::TABLE).await?,
        };
        let (text, names) = policy_rules::render(&rules, &before);
        nft::apply(nft, &text).await?;
        tracing::debug!(pods = rules.len(), "policies written");
        (self.names, self.written) = (Some(names), Some(rules));
        Ok(())
    }
}

/// Follows the objects until cancelled. The rules stay in the kernel afterwards.
pub(super) async fn run(
    plan: Arc<Plan>,
    mut inputs: Inputs,
    guarded: watch::Sender<OwnPods>,
    cancel: CancellationToken,
) {
    let mut writer = Writer { plan, names: None, written: None };
    loop {
        let mut pause = REWRITE;
        let not_before = Instant::now() + COALESCE;
        if let Some((rules, own)) = inputs.current() {
            match writer.write(rules).await {
                Ok(()) => {
                    guarded.send_replace(own);
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "cannot write network policies");
                    pause = RETRY;
                }
            }
        }
        let own = tokio::select! {
            () = cancel.cancelled() => return,
            () = inputs.policies.changed() => false,
            () = inputs.namespaces.changed() => false,
            () = inputs.pods.changed() => false,
            changed = inputs.own.changed() => {
                if changed.is_err() {
                    return;
                }
                true
            }
            () = tokio::time::sleep(pause) => {
                (writer.names, writer.written) = (None, None);
                continue;
            }
        };
        // Somebody waits for his own pod.
        if !own {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep_until(not_before) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::ResourceRef;
    use crate::client::fake::FakeApi;
    use crate::network::source;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn resource(group: &'static str, kind: &'static str, plural: &'static str) -> ResourceRef {
        ResourceRef { group, version: "v1", kind, plural, namespaced: kind != "Namespace" }
    }

    async fn rules(inputs: &mut Inputs, fit: impl Fn(&[PodRules]) -> bool) -> Vec<PodRules> {
        let until = async {
            loop {
                match inputs.current() {
                    Some((rules, _)) if fit(&rules) => return rules,
                    _ => {}
                }
                tokio::select! {
                    () = inputs.policies.changed() => {}
                    () = inputs.namespaces.changed() => {}
                    () = inputs.pods.changed() => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, until).await.expect("the rules come")
    }

    #[tokio::test]
    async fn pods_are_followed_from_the_first_policy_on_and_are_open_before() {
        let fake = FakeApi::new();
        let api = fake.shared();
        let (shop, pod) = (Some("shop"), json!({"metadata": {"name": "a", "labels": {"k": "v"}}}));
        let pod = api.create(&resource("", "Pod", "pods"), shop, &pod).await.unwrap();
        let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
        let address = Ipv4Addr::new(10, 1, 0, 5);
        let own = OwnPods::from([(uid, address), ("unheard".into(), Ipv4Addr::new(10, 1, 0, 6))]);
        let cancel = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        let (policies, policy_view) = source::policies(api.clone());
        let (namespaces, namespace_view) = source::namespaces(api.clone());
        let (pods, pod_view) = source::pods(api.clone());
        tasks.spawn(policies.run(cancel.clone()));
        tasks.spawn(namespaces.run(cancel.clone()));
        tasks.spawn(pods.run_when_wanted(cancel.clone()));
        let mut inputs = Inputs {
            policies: policy_view,
            namespaces: namespace_view,
            pods: pod_view,
            own: watch::Sender::new(own).subscribe(),
        };
        assert!(rules(&mut inputs, |_| true).await.is_empty());
        assert!(inputs.pods.current().is_none(), "nobody follows them yet");
        let deny = json!({"metadata": {"name": "deny"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
        let kind = resource("networking.k8s.io", "NetworkPolicy", "networkpolicies");
        api.create(&kind, shop, &deny).await.unwrap();
        let found = rules(&mut inputs, |rules| rules.len() == 2).await;
        assert_eq!(found[0].address, address);
        assert!(found[0].ingress.is_some() && found[0].egress.is_none());
        assert!(found[1].egress.is_some(), "what nobody knows is shut");
        cancel.cancel();
        while tasks.join_next().await.is_some() {}
    }
}
