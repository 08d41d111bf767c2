//! Pure decisions: events in, commands out, no clock and no I/O.

pub mod patch;
pub mod pod_phase;
pub mod pod_phase_conditions;
pub mod probe;
pub mod restart;
pub mod restart_facts;
pub mod restart_plan;
pub mod selector;
