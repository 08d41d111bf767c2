//! The leader stands still until another one leads, and is asked the moment it goes on.
//!
//! Promises: what it answers then is not older than what anybody was told meanwhile (the
//! check of all answers judges that), and it finds its place again.

use std::time::Duration;

use holdfast::model::kv::{Op, RangeRequest, TxnRequest};
use rand::RngExt;
use tokio::time::sleep;

use crate::cluster::Sim;
use crate::history::{End, Question};
use crate::mixed::{Report, settle};
use crate::world::now_ms;

/// Virtual time before anything stands still, for the first election to be over.
const BEFORE: Duration = Duration::from_secs(2);
const PAUSES: usize = 5;
/// Virtual time in which the others elect and write.
const ELECTION_MS: u64 = 15_000;
/// Virtual time in which one that goes on must answer a read.
const RETURN_MS: u64 = 10_000;
const KEY: &str = "k/paused";

fn put(number: usize) -> Question {
    let success = vec![Op::put(KEY, format!("pause {number}"))];
    Question::Txn(TxnRequest { success, ..TxnRequest::default() })
}

fn get() -> Question {
    Question::Range(RangeRequest::key(KEY))
}

pub(crate) async fn run(sim: Sim) -> Result<Report, String> {
    let mut rng = crate::random::stream(sim.seed, "paused", 0);
    sim.form().await?;
    sim.net.perfect();
    sim.start_clients();
    sleep(BEFORE).await;
    for number in 0..PAUSES {
        let paused = leader(&sim).await?;
        sim.freeze(paused, true);
        let others: Vec<u64> = sim.places().into_iter().filter(|place| *place != paused).collect();
        let writer = others[rng.random_range(0..others.len())];
        let until = now_ms() + ELECTION_MS;
        while !matches!(sim.put_question(writer, put(number)).await, End::Answered(_)) {
            if now_ms() > until {
                return Err(format!("without its leader {paused} nobody writes"));
            }
        }
        if rng.random_bool(0.3) {
            sleep(Duration::from_millis(rng.random_range(1..3_000))).await;
        }
        sim.freeze(paused, false);
        // At once, as long as it may believe that it leads; until one is answered.
        let until = now_ms() + RETURN_MS;
        while !matches!(sim.put_question(paused, get()).await, End::Answered(_)) {
            if now_ms() > until {
                return Err(format!("the leader {paused} that stood still answers no read"));
            }
        }
    }
    settle(&sim).await
}

async fn leader(sim: &Sim) -> Result<u64, String> {
    let until = now_ms() + ELECTION_MS;
    loop {
        if let Some(leader) = sim.leader() {
            return Ok(leader);
        }
        if now_ms() > until {
            return Err("nobody leads a cluster that is well".into());
        }
        sleep(Duration::from_millis(10)).await;
    }
}
