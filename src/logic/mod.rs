//! Pure decisions: events in, commands out, no clock and no I/O.

pub mod endpoints;
pub mod gc;
pub mod node_life;
pub mod rollout;
pub mod rollout_hash;
pub mod rollout_ranking;
pub mod rollout_selector;
pub mod schedule;
pub mod schedule_filter;
pub mod schedule_resources;
pub mod workqueue;
