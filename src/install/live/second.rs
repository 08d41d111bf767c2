//! Second stage: the machine with all its drivers, looked at and shown.

use std::time::Duration;

use super::fitness::problems;
use super::wait_for_person;
use crate::sys::appliance::{Console, Machine, Modules, survey};
use crate::sys::waiting;

/// How long parts may go on coming up, and how long none must for all to be there.
const SETTLE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// Runs as the first program of the bundle's root; comes back only if nothing else is left
/// to do.
pub fn run() -> std::io::Error {
    let console = match Console::open() {
        Ok(console) => console,
        Err(error) => return error,
    };
    match Modules::open() {
        Ok(mut modules) => load_all(&console, &mut modules),
        Err(error) => console.say(&format!("The list of kernel modules cannot be read: {error}")),
    }
    for line in screen(&survey()) {
        console.say(&line);
    }
    wait_for_person(&console)
}

/// Loads every driver. A loaded one brings up parts that ask for others, and controllers bring
/// up their disks one after the other: the end is when a look finds no new part.
fn load_all(console: &Console, modules: &mut Modules) {
    let mut before = None;
    waiting::wait_until(SETTLE, PAUSE, || {
        for module in modules.load_for_hardware() {
            console.say(&format!("The kernel does not take the module {module}"));
        }
        before.replace(modules.parts_seen()) == Some(modules.parts_seen())
    });
}

/// The screen: what the machine is, and what is wrong with it.
fn screen(machine: &Machine) -> Vec<String> {
    let firmware = if machine.uefi { "UEFI" } else { "BIOS" };
    let mut lines = vec![
        String::new(),
        format!("Holdfast {} on {}", env!("CARGO_PKG_VERSION"), machine.model),
        format!(
            "  started by {firmware}, {} processors, {} of memory",
            machine.processors,
            size(machine.memory_bytes),
        ),
    ];
    for disk in &machine.disks {
        let content = disk.content.as_deref().unwrap_or("nothing found at its beginning and end");
        let (name, bytes) = (&disk.name, size(disk.bytes));
        lines.push(format!(
            "  disk {name}: {bytes}, {}, {content}",
            named(&disk.model, &disk.serial)
        ));
    }
    for card in &machine.cards {
        lines.push(format!("  network card {}: {}, {}", card.name, card.address, card.driver));
    }
    let problems = problems(machine);
    if problems.is_empty() {
        lines.push("Nothing keeps this machine from serving.".to_owned());
    } else {
        lines.push("What keeps this machine from serving:".to_owned());
        lines.extend(problems.iter().map(|problem| format!("  - {problem}")));
    }
    lines.push("Nothing was written to any disk. This release does not install itself.".to_owned());
    lines
}

fn named(model: &str, serial: &str) -> String {
    let model = if model.is_empty() { "no model" } else { model };
    if serial.is_empty() {
        format!("{model}, no serial")
    } else {
        format!("{model}, serial {serial}")
    }
}

fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    if bytes >= 10 * GIB { format!("{} GiB", bytes / GIB) } else { format!("{} MiB", bytes / MIB) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::appliance::{Disk, NetworkCard};

    #[test]
    fn the_screen_shows_parts_and_problems() {
        let machine = Machine {
            model: "ACME S1".to_owned(),
            uefi: true,
            processors: 8,
            memory_bytes: 64 << 30,
            clock_seconds: i64::MAX,
            disks: vec![
                Disk {
                    name: "nvme0n1".to_owned(),
                    bytes: 1 << 40,
                    model: "Fast".to_owned(),
                    serial: "S42".to_owned(),
                    content: Some("GPT partitions".to_owned()),
                },
                Disk { name: "sda".to_owned(), bytes: 9 << 30, ..Disk::default() },
            ],
            cards: vec![NetworkCard {
                name: "eth0".to_owned(),
                address: "52:54:00:00:00:01".to_owned(),
                driver: "ixgbe".to_owned(),
            }],
        };
        let text = screen(&machine).join("\n");
        for part in [
            "on ACME S1",
            "UEFI, 8 processors, 64 GiB",
            "disk nvme0n1: 1024 GiB, Fast, serial S42, GPT partitions",
            "disk sda: 9216 MiB, no model, no serial, nothing found at its beginning and end",
            "network card eth0: 52:54:00:00:00:01, ixgbe",
            "Nothing keeps this machine from serving.",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let bare = screen(&Machine::default()).join("\n");
        assert!(bare.contains("What keeps") && bare.contains("  - no disk"), "{bare}");
    }
}
