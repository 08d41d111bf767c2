//! What keeps a machine from serving, all of it at once.
//!
//! Why pure: each answer is tested without such a machine.

use crate::sys::appliance::Machine;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// What preflight asks of a host, less what a kernel keeps for itself.
const MEMORY_MIN_BYTES: u64 = 768 * MIB;
/// Two systems, their state and some images.
const DISK_MIN_BYTES: u64 = 8 * GIB;
/// The first of 2024: no machine that is sold lives before it.
const CLOCK_MIN_SECONDS: i64 = 1_704_067_200;

/// Everything that is wrong, each with what to do.
pub(super) fn problems(machine: &Machine) -> Vec<String> {
    let mut found = Vec::new();
    if machine.memory_bytes < MEMORY_MIN_BYTES {
        let (have, need) = (machine.memory_bytes / MIB, MEMORY_MIN_BYTES / MIB);
        found.push(format!("{have} MiB of memory, at least {need} are needed"));
    }
    if machine.disks.is_empty() {
        found.push("no disk was found: check the controller's mode and cables".to_owned());
    } else if machine.disks.iter().all(|disk| disk.bytes < DISK_MIN_BYTES) {
        let need = DISK_MIN_BYTES / GIB;
        found.push(format!("no disk has {need} GiB: a larger one is needed"));
    }
    if machine.cards.is_empty() {
        found.push("no network card was found that this system has a driver for".to_owned());
    }
    if machine.clock_seconds < CLOCK_MIN_SECONDS {
        found.push("the clock stands before 2024: set it in the firmware".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::appliance::{Disk, NetworkCard};

    fn fit() -> Machine {
        Machine {
            memory_bytes: 4 * GIB,
            clock_seconds: CLOCK_MIN_SECONDS,
            disks: vec![Disk { bytes: 8 * GIB, ..Disk::default() }],
            cards: vec![NetworkCard::default()],
            ..Machine::default()
        }
    }

    #[test]
    fn a_fit_machine_has_no_problems() {
        assert_eq!(problems(&fit()), Vec::<String>::new());
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let found = problems(&Machine::default()).join("\n");
        for word in ["memory", "no disk was found", "network card", "clock"] {
            assert!(found.contains(word), "{word} in {found}");
        }
        let mut small = fit();
        small.disks[0].bytes -= 1;
        assert_eq!(problems(&small), ["no disk has 8 GiB: a larger one is needed"]);
    }
}
