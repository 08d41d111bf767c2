//! Reads ranges: newest and past, linearizable and not.

use std::time::Duration;

use rand::RngExt;
use tokio::time::sleep;

use super::requests::range;
use crate::cluster::Sim;
use crate::history::Question;

impl Sim {
    pub(super) async fn reader(self, number: u64) {
        let mut rng = crate::random::stream(self.seed, "reader", number);
        loop {
            sleep(Duration::from_millis(rng.random_range(5..150))).await;
            if self.stop.is_cancelled() {
                return;
            }
            let places = self.all_places();
            let place = places[rng.random_range(0..places.len())];
            let newest = self.history().newest_seen();
            let mut request = range(&mut rng, newest);
            request.serializable = rng.random_bool(0.2);
            self.put_question(place, Question::Range(request)).await;
        }
    }
}
