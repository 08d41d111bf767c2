//! Holds leases: grants, attaches keys, keeps alive, falls silent or revokes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast::model::auth::Caller;
use holdfast::model::kv::{Op, PutRequest, TxnRequest};
use holdfast::model::lease::LeaseId;
use holdfast::model::refusal::Refusal;
use holdfast::store::admin_api::Leases;
use holdfast::store::{Store, StoreError};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::sleep;

use crate::cluster::Sim;
use crate::history::{Held, Moment, Question};
use crate::plant::Plant;
use crate::random::chance;

impl Sim {
    pub(super) async fn holder(self, number: u64) {
        let mut rng = crate::random::stream(self.seed, "holder", number);
        for count in 0_u64.. {
            sleep(Duration::from_millis(rng.random_range(50..1_000))).await;
            if self.stop.is_cancelled() {
                return;
            }
            let Some(id) = self.grant(&mut rng, number, count).await else { continue };
            for key in 0..rng.random_range(1..3) {
                self.attach(id, format!("l/{number}/{count}/{key}"), &mut rng).await;
            }
            for _ in 0..rng.random_range(0..8) {
                sleep(Duration::from_millis(rng.random_range(100..1_500))).await;
                if self.stop.is_cancelled() || !self.keep_alive(id, &mut rng).await {
                    break;
                }
            }
            if rng.random_bool(0.3) {
                self.revoke(id, &mut rng).await;
            }
            if self.plant == Plant::EarlyLease && chance(2) {
                let revoke = move |store: Arc<Store>| async move {
                    store.lease_revoke(&Caller::Internal, id).await
                };
                drop(self.ask(self.any_place(&mut rng), revoke).await);
            }
        }
    }

    async fn grant(&self, rng: &mut SmallRng, number: u64, count: u64) -> Option<LeaseId> {
        let ttl_s = rng.random_range(1..6);
        let given = rng.random_bool(0.7);
        let wanted = if given { (number * 100_000 + count + 1) as LeaseId } else { 0 };
        let granted = self.history().now();
        let grant = move |store: Arc<Store>| async move {
            store.lease_grant(&Caller::Internal, wanted, ttl_s).await
        };
        let answer = self.ask(self.any_place(rng), grant).await;
        let held = |ttl_s, is_certain| Held {
            ttl_s,
            granted,
            is_certain,
            renewed: Vec::new(),
            revoked: None,
            told_gone: Vec::new(),
        };
        let mut history = self.history();
        match answer {
            Some(Ok(granted)) => {
                if history.leases.insert(granted.id, held(granted.ttl_s, true)).is_some() {
                    history.violate(format!("lease {} was granted twice", granted.id));
                }
                Some(granted.id)
            }
            // It may have been granted; nobody holds it then.
            Some(Err(_)) | None => {
                if given {
                    history.leases.insert(wanted, held(ttl_s.max(2), false));
                }
                None
            }
        }
    }

    async fn attach(&self, lease: LeaseId, key: String, rng: &mut SmallRng) {
        let value = Bytes::from(format!("of {lease}"));
        let put = PutRequest { key: Bytes::from(key), value, lease, ..PutRequest::default() };
        let txn = TxnRequest { success: vec![Op::Put(put)], ..TxnRequest::default() };
        self.put_question(self.any_place(rng), Question::Txn(txn)).await;
    }

    /// Whether it is worth going on.
    async fn keep_alive(&self, id: LeaseId, rng: &mut SmallRng) -> bool {
        let sent = self.history().now();
        let keep = move |store: Arc<Store>| async move {
            store.lease_keep_alive(&Caller::Internal, id).await
        };
        let answer = self.ask(self.any_place(rng), keep).await;
        match answer {
            Some(Ok(ttl_s)) => {
                self.counts().keepalives += 1;
                let mut history = self.history();
                let held = history.leases.get_mut(&id).unwrap();
                held.renewed.push(sent);
                if ttl_s != held.ttl_s {
                    let text = format!("lease {id} of {} s was renewed for {ttl_s} s", held.ttl_s);
                    history.violate(text);
                }
                true
            }
            Some(Err(StoreError::Refused(Refusal::LeaseNotFound))) => {
                self.told_gone(id, sent);
                false
            }
            Some(Err(_)) | None => true,
        }
    }

    fn told_gone(&self, id: LeaseId, sent: Moment) {
        let mut history = self.history();
        let now = history.now();
        if let Some(held) = history.leases.get_mut(&id) {
            held.told_gone.push((sent, now));
        }
    }

    async fn revoke(&self, id: LeaseId, rng: &mut SmallRng) {
        {
            let mut history = self.history();
            let now = history.now();
            history.leases.get_mut(&id).unwrap().revoked = Some(now);
        }
        let revoke =
            move |store: Arc<Store>| async move { store.lease_revoke(&Caller::Internal, id).await };
        if let Some(Ok(revision)) = self.ask(self.any_place(rng), revoke).await {
            let mut history = self.history();
            let now = history.now();
            history.see(revision, now);
        }
    }
}
