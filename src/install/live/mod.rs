//! The system on a bootable medium: what an empty machine runs before anything is installed.
//!
//! ```text
//!  kernel ─► first::run   kernel views, early modules, medium, signature, every entry
//!               │         root of the bundle ─► memory ─► mounted, entered
//!               ▼
//!            second::run  all modules, a look at the machine, what keeps it from serving
//! ```
//!
//! Why two stages of one program: the medium's root is checked against the signed manifest
//! before a byte of it is used, by a program that the boot loader handed over with the kernel.
//! Invariants: no disk is written; what is wrong with the medium is said in one line on every
//! console, and the machine waits for a person then.
//! Not here: making media (`bundle/media`).

pub mod first;
mod fitness;
pub mod second;

use crate::sys::appliance::{Console, restart, turn_off};

/// Waits for a person who says how the machine is to go on; comes back only if it cannot.
fn wait_for_person(console: &Console) -> std::io::Error {
    console.discard_typed();
    loop {
        console.say("Enter restarts this machine, \"off\" and Enter turns it off.");
        match console.answer().as_deref() {
            Ok("") => return restart(),
            Ok("off") => return turn_off(),
            Ok(other) => console.say(&format!("{other:?} is neither.")),
            Err(error) => {
                // Nobody can answer: the panel of the machine is left.
                console.say(&format!("The console cannot be read: {error}"));
                std::thread::park();
            }
        }
    }
}
