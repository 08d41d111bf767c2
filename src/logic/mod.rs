//! Pure decisions: events in, commands out, no clock and no I/O.

pub mod balance;
pub mod departure;
pub mod dns_records;
pub mod endpoints;
pub mod gc;
pub mod ipam;
pub mod mvcc;
pub mod node_life;
pub mod patch;
pub mod pod_attention;
pub mod pod_phase;
pub mod preflight;
pub mod probe;
pub mod recovery;
pub mod restart;
pub mod restart_facts;
pub mod restart_plan;
pub mod rollout;
pub mod rollout_hash;
pub mod rollout_ranking;
pub mod rollout_selector;
pub mod schedule;
pub mod schedule_filter;
pub mod schedule_resources;
pub mod selector;
pub mod workqueue;
