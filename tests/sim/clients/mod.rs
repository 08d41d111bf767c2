//! Who asks: writers of transactions, readers, watchers, holders of leases, users.
//!
//! Each is seeded by itself and notes what it asked and what it was told; none of them
//! judges, that is for `check`.

mod holder;
mod reader;
mod requests;
mod user;
mod watcher;
mod writer;

use std::sync::Arc;

use holdfast::store::Store;

use crate::cluster::Sim;
use crate::history::{Answer, End, Question, fate};
use crate::trace;

impl Sim {
    /// Asks a member and notes question and answer.
    pub(crate) async fn put_question(&self, place: u64, question: Question) -> End {
        if self.net.life(place).is_none() {
            // Nobody is there to hear it.
            return End::Unknown;
        }
        let number = self.history().begin(place, question.clone());
        trace::say("question", place, &question);
        let plant = self.plant;
        let asked =
            move |store: Arc<Store>| async move { requests::answer(&store, plant, question).await };
        let end = match self.ask(place, asked).await {
            Some(Ok(answer)) => End::Answered(answer),
            Some(Err(error)) => fate(error),
            None => End::Unknown,
        };
        trace::say("told", place, &end);
        self.history().end(number, end.clone());
        end
    }

    /// Starts everybody who asks.
    pub(crate) fn start_clients(&self) {
        let profile = &self.profile;
        for number in 0..profile.writers {
            self.clients.spawn_on(self.clone().writer(number), &self.world);
        }
        for number in 0..profile.readers {
            self.clients.spawn_on(self.clone().reader(number), &self.world);
        }
        for number in 0..profile.watchers {
            self.clients.spawn_on(self.clone().watcher(number), &self.world);
        }
        for number in 0..profile.holders {
            self.clients.spawn_on(self.clone().holder(number), &self.world);
        }
        if profile.users {
            self.clients.spawn_on(self.clone().administrator(), &self.world);
        }
        if profile.compacts {
            self.clients.spawn_on(self.clone().compactor(), &self.world);
        }
        if profile.upkeep {
            self.clients.spawn_on(self.clone().upkeep(), &self.world);
        }
        if profile.joiners > 0 {
            self.clients.spawn_on(self.clone().operator(), &self.world);
        }
        self.clients.spawn_on(self.clone().archivist(), &self.world);
        self.clients.spawn_on(self.clone().librarian(), &self.world);
    }
}

/// The revision and the answer, if there is one.
pub(crate) fn answered(end: &End) -> Option<&Answer> {
    match end {
        End::Answered(answer) => Some(answer),
        End::Refused(_) | End::Unknown => None,
    }
}
