//! What a run is made of: how many members, which troubles, which clients. By seed, so
//! that some runs are all of one trouble and others a bit of each.

use rand::RngExt;

/// One kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    CrashOne,
    CrashAll,
    PowerAtOperation,
    FailedSync,
    CutOff,
    OneWayCut,
    Halves,
    Loss,
    Lameness,
    Freeze,
    SlowDisk,
    LowSpace,
    NoSpace,
}

const TROUBLES: [Trouble; 13] = [
    Trouble::CrashOne,
    Trouble::CrashAll,
    Trouble::PowerAtOperation,
    Trouble::FailedSync,
    Trouble::CutOff,
    Trouble::OneWayCut,
    Trouble::Halves,
    Trouble::Loss,
    Trouble::Lameness,
    Trouble::Freeze,
    Trouble::SlowDisk,
    Trouble::LowSpace,
    Trouble::NoSpace,
];

#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) members: u64,
    /// Places of members that may join.
    pub(crate) joiners: u64,
    pub(crate) troubles: Vec<Trouble>,
    /// Virtual time of trouble, milliseconds.
    pub(crate) trouble_ms: u64,
    /// Longest pause between two troubles.
    pub(crate) pause_ms: u64,
    pub(crate) writers: u64,
    pub(crate) readers: u64,
    pub(crate) watchers: u64,
    pub(crate) holders: u64,
    pub(crate) users: bool,
    pub(crate) compacts: bool,
    pub(crate) upkeep: bool,
}

impl Profile {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = crate::random::stream(seed, "profile", 0);
        let members = match rng.random_range(0..10) {
            0..6 => 3,
            6..9 => 5,
            _ => 7,
        };
        let mut troubles: Vec<Trouble> =
            TROUBLES.into_iter().filter(|_| rng.random_bool(0.4)).collect();
        if troubles.is_empty() {
            troubles.extend([Trouble::CrashOne, Trouble::Freeze]);
        }
        Self {
            members,
            joiners: if rng.random_bool(0.4) { 2 } else { 0 },
            troubles,
            trouble_ms: 12_000,
            pause_ms: [400, 1_000, 2_000][rng.random_range(0..3)],
            writers: rng.random_range(2..=4),
            readers: rng.random_range(1..=3),
            watchers: rng.random_range(1..=3),
            holders: rng.random_range(0..=3),
            users: rng.random_bool(0.25),
            compacts: rng.random_bool(0.8),
            upkeep: rng.random_bool(0.5),
        }
    }
}
