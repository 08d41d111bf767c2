//! Users whose permissions come and go, and who try what they may not.
//!
//! Each round has names of its own: a change whose outcome is unknown may still come, so
//! nothing certain can be said of its names afterwards and the round is given up.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast::model::auth::{AuthChange, Caller, Permission, PermissionKind};
use holdfast::model::kv::{Op, RangeRequest, TxnRequest, prefix_end};
use holdfast::model::refusal::Refusal;
use holdfast::store::admin_api::Auth;
use holdfast::store::{EtcdKv, Store, StoreError};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::sleep;

use super::answered;
use crate::cluster::Sim;
use crate::history::{Answer, End, Question, fate};
use crate::plant::Plant;

const PASSWORD: &str = "open";

/// How a user shows who he is.
#[derive(Clone)]
enum Proof {
    Certificate(String),
    Token(String),
}

impl Sim {
    pub(super) async fn administrator(self) {
        let mut rng = crate::random::stream(self.seed, "administrator", 0);
        let (root, none) = ("root".to_owned(), None);
        let setup = [
            AuthChange::UserAdd { name: root.clone(), password: none },
            AuthChange::RoleAdd { name: root.clone() },
            AuthChange::UserGrantRole { user: root.clone(), role: root },
            AuthChange::Enable,
        ];
        for change in setup {
            // Repeated until it is there; nobody ever takes it back.
            while !self.stop.is_cancelled() && !self.change_users(&change, &mut rng).await {
                sleep(Duration::from_millis(100)).await;
            }
        }
        for number in 0_u64.. {
            sleep(Duration::from_millis(rng.random_range(50..600))).await;
            if self.stop.is_cancelled() {
                return;
            }
            self.round(number, &mut rng).await;
        }
    }

    /// Makes a change; true if it is certainly in force.
    async fn change_users(&self, change: &AuthChange, rng: &mut SmallRng) -> bool {
        let asked = change.clone();
        let make = move |store: Arc<Store>| async move {
            store.auth_change(&Caller::Internal, asked).await
        };
        match self.ask(self.any_place(rng), make).await {
            Some(Ok(())) => true,
            Some(Err(StoreError::Refused(
                Refusal::UserAlreadyExists | Refusal::RoleAlreadyExists,
            ))) => true,
            Some(Err(_)) | None => false,
        }
    }

    async fn round(&self, number: u64, rng: &mut SmallRng) {
        let (user, role, prefix) =
            (format!("u{number}"), format!("r{number}"), format!("a/{number}/"));
        let key = Bytes::from(prefix.clone());
        let range_end = prefix_end(&key);
        let password = rng.random_bool(0.15).then(|| PASSWORD.to_owned());
        let kind = PermissionKind::ReadWrite;
        let permission = Permission { kind, key: key.clone(), range_end: range_end.clone() };
        let grants = [
            AuthChange::RoleAdd { name: role.clone() },
            AuthChange::UserAdd { name: user.clone(), password: password.clone() },
            AuthChange::UserGrantRole { user: user.clone(), role: role.clone() },
            AuthChange::RoleGrantPermission { role: role.clone(), permission },
        ];
        for change in &grants {
            if !self.change_users(change, rng).await {
                return;
            }
        }
        let proof = match password {
            None => Proof::Certificate(user.clone()),
            Some(password) => {
                let name = user.clone();
                let sign_in = move |store: Arc<Store>| async move {
                    store.authenticate(&name, &password).await
                };
                match self.ask(self.any_place(rng), sign_in).await {
                    Some(Ok(token)) => Proof::Token(token),
                    _ => return,
                }
            }
        };
        for _ in 0..rng.random_range(0..4) {
            self.attempt(&proof, &prefix, false, rng).await;
        }
        let revocation = match rng.random_range(0..4) {
            0 => AuthChange::RoleRevokePermission { role, key, range_end },
            1 => AuthChange::UserRevokeRole { user, role },
            2 => AuthChange::RoleDelete { name: role },
            _ => AuthChange::UserDelete { name: user },
        };
        if !self.change_users(&revocation, rng).await {
            return;
        }
        for _ in 0..rng.random_range(1..5) {
            self.attempt(&proof, &prefix, true, rng).await;
        }
    }

    /// Tries to write and read; after an answered revocation nothing may come of it.
    async fn attempt(&self, proof: &Proof, prefix: &str, revoked: bool, rng: &mut SmallRng) {
        let place = self.any_place(rng);
        let key = format!("{prefix}{}", rng.random_range(0..3));
        let question = if rng.random_bool(0.6) {
            let value = format!("{}", self.history().now().number);
            Question::Txn(TxnRequest { success: vec![Op::put(key, value)], ..Default::default() })
        } else {
            Question::Range(RangeRequest::key(key))
        };
        let number = self.history().begin(place, question.clone());
        let (proof, plant) = (proof.clone(), self.plant);
        let ask =
            move |store: Arc<Store>| async move { ask_as(&store, proof, plant, question).await };
        let end = match self.ask(place, ask).await {
            Some(Ok(answer)) => End::Answered(answer),
            Some(Err(error)) => fate(error),
            None => End::Unknown,
        };
        let permitted = answered(&end).is_some();
        if permitted && revoked {
            self.history().violate(format!("after the answered revocation: {end:?}"));
        }
        if permitted {
            self.counts().permitted += 1;
        } else if matches!(end, End::Refused(StoreError::Refused(_))) {
            self.counts().denied += 1;
        }
        self.history().end(number, end);
    }
}

async fn ask_as(
    store: &Store,
    proof: Proof,
    plant: Plant,
    question: Question,
) -> Result<Answer, StoreError> {
    let caller = match proof {
        _ if plant == Plant::LingeringPermission => Caller::Internal,
        Proof::Certificate(user) => store.caller_of_certificate(&user),
        Proof::Token(token) => store.caller_of_token(&token).await?,
    };
    match question {
        Question::Txn(request) => Ok(Answer::Txn(store.txn_as(&caller, request).await?)),
        Question::Range(request) => Ok(Answer::Range(store.range_as(&caller, request).await?)),
    }
}
