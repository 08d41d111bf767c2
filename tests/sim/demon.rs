//! Who breaks things, and how they are mended again.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::sleep;

use crate::cluster::Sim;
use crate::disk::Space;
use crate::profile::Trouble;
use crate::trace;
use crate::world::now_ms;

/// How often a computer whose power went in the middle is noticed.
const NOTICE_EVERY: Duration = Duration::from_millis(3);

impl Sim {
    /// Breaks one thing after another, mending now and then, until the time is over.
    pub(crate) async fn trouble(&self) -> Result<(), String> {
        let mut rng = crate::random::stream(self.seed, "demon", 0);
        let end = now_ms() + self.profile.trouble_ms;
        while now_ms() < end {
            let pause = rng.random_range(50..self.profile.pause_ms);
            sleep(Duration::from_millis(pause)).await;
            if rng.random_bool(0.3) {
                self.mend();
                self.start_all().await?;
                continue;
            }
            let trouble = self.profile.troubles[rng.random_range(0..self.profile.troubles.len())];
            self.make(trouble, &mut rng);
        }
        Ok(())
    }

    /// Power that went at a disk operation takes the computer with it.
    pub(crate) async fn power(self) {
        loop {
            sleep(NOTICE_EVERY).await;
            self.notice_deaths();
        }
    }

    fn make(&self, trouble: Trouble, rng: &mut SmallRng) {
        let places = self.places();
        let any = places[rng.random_range(0..places.len())];
        // The leader is the most interesting one to hurt.
        let place = if rng.random_bool(0.4) { self.leader().unwrap_or(any) } else { any };
        trace::say("trouble", place, &trouble);
        match trouble {
            Trouble::CrashOne => self.crash(place),
            Trouble::CrashAll => places.iter().for_each(|place| self.crash(*place)),
            Trouble::PowerAtOperation => self.disk(place).light_fuse(rng.random_range(0..40)),
            Trouble::FailedSync => self.disk(place).fail_a_sync(),
            Trouble::CutOff => {
                for other in places.into_iter().filter(|other| *other != place) {
                    self.net.cut(place, other);
                    self.net.cut(other, place);
                }
            }
            Trouble::OneWayCut => {
                for other in places.into_iter().filter(|other| *other != place) {
                    if rng.random_bool(0.7) {
                        self.net.cut(place, other);
                    }
                }
            }
            Trouble::Halves => {
                let sides: Vec<bool> = places.iter().map(|_| rng.random_bool(0.5)).collect();
                for (a, side_a) in places.iter().zip(&sides) {
                    for (b, side_b) in places.iter().zip(&sides) {
                        if side_a != side_b {
                            self.net.cut(*a, *b);
                        }
                    }
                }
            }
            Trouble::Loss => self.net.set_loss(rng.random_range(0.05..0.4)),
            Trouble::Lameness => self.net.set_lame(rng.random_range(0.1..0.6)),
            Trouble::Freeze => {
                self.freeze(place, true);
                let (sim, rest) = (self.clone(), rng.random_range(100..6_000));
                self.clients.spawn_on(
                    async move {
                        sleep(Duration::from_millis(rest)).await;
                        sim.freeze(place, false);
                    },
                    &self.world,
                );
            }
            Trouble::SlowDisk => {
                let most = Duration::from_millis(rng.random_range(20..1_500));
                self.disk(place).set_slowness(Some(most));
            }
            Trouble::LowSpace => {
                self.disk(place).set_space(Space::Low);
                self.counts().full_disks += 1;
            }
            Trouble::NoSpace => {
                self.disk(place).set_space(Space::None);
                self.counts().full_disks += 1;
            }
        }
    }
}
