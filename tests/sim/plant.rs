//! Planted faults: each breaks one promise so that the check of that promise can be seen
//! to fail. All of them are in the harness, between the product and its clients or disks.

/// What is broken on purpose in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Plant {
    #[default]
    Nothing,
    /// Disks call a sync done that was not.
    LyingDisk,
    /// Disks skip a sync now and then.
    DroppedSync,
    /// Now and then a linearizable read is answered from what the member has.
    StaleRead,
    /// Now and then a write is done twice.
    DoubledWrite,
    /// Now and then a write is answered and not done.
    LostWrite,
    /// Now and then an answer misses a key.
    WrongAnswer,
    /// Now and then a watcher misses an event.
    LostEvent,
    /// Now and then a watcher gets the events of a revision in two pieces.
    TornEvents,
    /// Now and then a watcher hears of progress that was not made.
    EarlyProgress,
    /// Leases end before their time.
    EarlyLease,
    /// A lease's keys stay when it ends.
    OrphanedKey,
    /// A revoked permission goes on to count.
    LingeringPermission,
    /// An entry of a log is not the leader's.
    ForkedLog,
    /// A removed member's id is given again.
    ReusedId,
    /// The remote center says that nothing can be lost although it was not promised.
    FalseProof,
}

impl Plant {
    pub(crate) const ALL: &'static [(Plant, &'static str)] = &[
        (Plant::LyingDisk, "lying-disk"),
        (Plant::DroppedSync, "dropped-sync"),
        (Plant::StaleRead, "stale-read"),
        (Plant::DoubledWrite, "doubled-write"),
        (Plant::LostWrite, "lost-write"),
        (Plant::WrongAnswer, "wrong-answer"),
        (Plant::LostEvent, "lost-event"),
        (Plant::TornEvents, "torn-events"),
        (Plant::EarlyProgress, "early-progress"),
        (Plant::EarlyLease, "early-lease"),
        (Plant::OrphanedKey, "orphaned-key"),
        (Plant::LingeringPermission, "lingering-permission"),
        (Plant::ForkedLog, "forked-log"),
        (Plant::ReusedId, "reused-id"),
        (Plant::FalseProof, "false-proof"),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(plant, _)| *plant)
    }
}
