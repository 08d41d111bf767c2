//! The kinds of runs, by name.

use tokio::runtime::Handle;

use crate::calm;
use crate::cluster::Sim;
use crate::full;
use crate::generations;
use crate::mixed::{self, Report};
use crate::modes;
use crate::paused;
use crate::plant::Plant;
use crate::profile::{Profile, Trouble};
use crate::runner::Job;
use crate::world::Hosts;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Everything at once, by the seed's profile.
    Mixed,
    /// One thing is slow or stands still.
    Calm,
    /// The majority is lost, a new generation is made, the old members come back.
    Generations,
    /// The leader stands still again and again.
    Paused,
    /// Disks are nearly full for a while.
    Full,
    /// Two sites under the commit modes; the remote one is cut off.
    Modes,
}

impl Kind {
    pub(crate) const ALL: &'static [Kind] =
        &[Kind::Mixed, Kind::Calm, Kind::Generations, Kind::Paused, Kind::Full, Kind::Modes];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Mixed => "mixed",
            Kind::Calm => "calm",
            Kind::Generations => "generations",
            Kind::Paused => "paused",
            Kind::Full => "full",
            Kind::Modes => "modes",
        }
    }

    /// Seeds that run where nobody names a number.
    pub(crate) fn usual_seeds(self) -> u64 {
        match self {
            // Seven members for minutes of virtual time take as long as four of the others.
            Kind::Modes => 25,
            _ => 100,
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    pub(crate) async fn run(self, job: Job, hosts: Hosts, world: Handle) -> Result<Report, String> {
        let profile = profile(job);
        let sim = Sim::new(job.seed, job.plant, profile, hosts, world);
        match self {
            Kind::Mixed => mixed::run(sim).await,
            Kind::Calm => calm::run(sim).await,
            Kind::Generations => generations::run(sim).await,
            Kind::Paused => paused::run(sim).await,
            Kind::Full => full::run(sim).await,
            Kind::Modes => modes::run(sim).await,
        }
    }
}

/// With a planted fault a run has what the fault needs to show.
fn profile(job: Job) -> Profile {
    let mut profile = Profile::of(job.seed);
    if job.kind != Kind::Mixed {
        // The lead and the members are theirs to choose.
        (profile.joiners, profile.upkeep) = (0, false);
        profile.members = profile.members.min(5);
    }
    if job.kind == Kind::Modes {
        profile.members = modes::MEMBERS;
        // Two members more and much to look at; fewer clients tell as much.
        profile.writers = profile.writers.min(2);
        (profile.readers, profile.watchers, profile.holders) = (1, 1, profile.holders.min(1));
    }
    if job.plant != Plant::Nothing && job.kind == Kind::Mixed {
        profile.holders = profile.holders.max(2);
        profile.watchers = profile.watchers.max(2);
        profile.users |= job.plant == Plant::LingeringPermission;
        if job.plant == Plant::ReusedId {
            profile.joiners = 2;
        }
        profile.members = 3;
        profile.troubles = match job.plant {
            Plant::LyingDisk | Plant::DroppedSync => vec![Trouble::CrashAll],
            Plant::StaleRead => vec![Trouble::Freeze, Trouble::CutOff],
            _ => vec![Trouble::CrashOne],
        };
    }
    profile
}
