//! Tells members of older generations that theirs has ended, and asks at the start whether
//! the own one has.
//!
//! Not here: what ends a generation (`generation`).

use std::sync::Arc;
use std::time::Duration;

use super::api::PeerTarget;
use super::generation::GenerationTrust;
use super::member::Store;
use super::message::{Answer, Envelope, Rejection, Request};
use super::outbound::CallError;
use super::shared::Shared;
use super::types::Peer;
use crate::base::ids::MemberId;
use crate::model::recovery::{KnownMember, SignedGeneration};
use crate::store::codec::{decode, encode};

/// How long a greeting at the start may take: less than any election does.
const GREETING: Duration = Duration::from_millis(900);
/// How often members of older generations are told.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How long one of them may take to answer.
const TELL_DEADLINE: Duration = Duration::from_secs(2);

impl Store {
    /// Lets signed records end this member's generation, and with `own`, the record of its
    /// own generation, ends those before it. Without a call nothing ends it.
    pub fn know_generations(&self, trust: Arc<dyn GenerationTrust>, own: Option<SignedGeneration>) {
        let shared = self.shared.clone();
        shared.generations.know(trust, own.clone());
        let greeting = shared.clone();
        shared.tracker.spawn(async move { greeting.greet().await });
        let noting = shared.clone();
        shared.tracker.spawn(async move { noting.note_the_end().await });
        if let Some(record) = own {
            let telling = shared.clone();
            shared.tracker.spawn(async move { telling.tell_former(record).await });
        }
    }
}

impl Shared {
    /// Greets all that this member knows, before it could stand for election and until each
    /// has answered: one of them may live in a later generation. Its own address is greeted
    /// too: if this disk was moved, whoever took its place there knows.
    async fn greet(self: Arc<Self>) {
        let (_, membership) = self.state.applied();
        let known = membership.membership().nodes();
        let mut left: Vec<(u64, Peer)> = known.map(|(id, peer)| (*id, peer.clone())).collect();
        while !left.is_empty() && self.health.borrow().check().is_ok() {
            let greetings = left.into_iter().map(|(id, peer)| {
                let outbound = self.outbound.clone();
                async move {
                    // Each call looks at its own answer.
                    let answer = outbound.call(id, &peer, Request::Hello, GREETING).await;
                    let heard = match answer {
                        // It lives in another generation and cannot prove it.
                        Err(CallError::Rejected { rejection, .. }) => {
                            !matches!(rejection, Rejection::Generation { .. })
                        }
                        answer => answer.is_ok(),
                    };
                    (!heard).then_some((id, peer))
                }
            });
            left = futures::future::join_all(greetings).await.into_iter().flatten().collect();
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(TELL_EVERY) => {}
            }
        }
    }

    /// A disk that was full when the end of the generation was heard may have space again.
    async fn note_the_end(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(TELL_EVERY) => self.generations.note_owed(),
            }
        }
    }

    /// Tells the members of the generation before, until each has understood.
    async fn tell_former(self: Arc<Self>, signed: SignedGeneration) {
        let Ok(record) = signed.parse() else { return };
        let mut left: Vec<KnownMember> = record.former.clone();
        left.retain(|former| former.member != self.identity.member);
        while !left.is_empty() {
            let mut untold = Vec::new();
            for former in left {
                if !self.tell(&former, &signed).await {
                    untold.push(former);
                }
            }
            left = untold;
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(TELL_EVERY) => {}
            }
        }
    }

    async fn tell(&self, former: &KnownMember, signed: &SignedGeneration) -> bool {
        let envelope = Envelope {
            cluster: self.identity.cluster,
            generation: self.identity.generation,
            from: self.identity.member,
            from_start: self.identity.note(),
            from_lineage: self.outbound.lineage(),
            to: former.member,
            to_incarnation: 0,
            to_start: None,
            request: Request::Fence(signed.clone()),
        };
        let target = PeerTarget { member: former.member, address: former.address.clone() };
        let message = bytes::Bytes::from(encode(&envelope));
        let Ok(answer) = self.outbound.carry(&target, message, TELL_DEADLINE).await else {
            return false;
        };
        match decode::<Answer>(&answer) {
            // Another member is there now, of this generation: the former one is gone.
            Ok(Answer::Rejected(Rejection::Member { .. })) => true,
            Ok(Answer::FenceHeard { ended }) => {
                let member: MemberId = former.member;
                tracing::info!(%member, ended, "a member of an older generation was told");
                ended
            }
            _ => false,
        }
    }
}
