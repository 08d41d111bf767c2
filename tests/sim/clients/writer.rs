//! Writes random transactions.

use std::time::Duration;

use holdfast::model::kv::{OpResponse, RangeRequest, TxnResponse};
use rand::RngExt;
use tokio::time::sleep;

use super::requests::{Memory, any_txn};
use crate::cluster::Sim;
use crate::history::{Answer, End, Question};

fn learn(memory: &mut Memory, answer: &TxnResponse) {
    for response in &answer.responses {
        match response {
            OpResponse::Range(range) => memory.hear(&range.kvs),
            OpResponse::Txn(nested) => learn(memory, nested),
            OpResponse::Put { .. } | OpResponse::DeleteRange { .. } => {}
        }
    }
}

impl Sim {
    pub(super) async fn writer(self, number: u64) {
        let mut rng = crate::random::stream(self.seed, "writer", number);
        let mut memory = Memory::default();
        for count in 0_u64.. {
            sleep(Duration::from_millis(rng.random_range(5..120))).await;
            if self.stop.is_cancelled() {
                return;
            }
            let places = self.all_places();
            let place = places[rng.random_range(0..places.len())];
            if rng.random_bool(0.2) {
                let all = Question::Range(RangeRequest::prefix("k/"));
                if let End::Answered(Answer::Range(answer)) = self.put_question(place, all).await {
                    memory.hear(&answer.kvs);
                }
                continue;
            }
            let txn = any_txn(&mut rng, &memory, &format!("w{number}.{count}"));
            let end = self.put_question(place, Question::Txn(txn)).await;
            if let End::Answered(Answer::Txn(answer)) = end {
                learn(&mut memory, &answer);
            }
        }
    }
}
