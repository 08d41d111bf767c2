//! All randomness of a run follows from its seed, also that of hash tables and libraries.
//!
//! Why `getrandom` is replaced: hash tables, tokio's choice among ready branches and every
//! library's random numbers begin with it. The standard library looks it up as a weak
//! symbol so that a program can put its own in its place; this one answers a simulation's
//! thread from the seed and everybody else from the kernel.
//! Invariant: a run has a thread of its own, on which [`seed_this_thread`] comes first,
//! because a hash table's keys are drawn once per thread.

use std::cell::RefCell;
use std::io::Read;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

thread_local! {
    static SEEDED: RefCell<Option<SmallRng>> = const { RefCell::new(None) };
}

/// Makes all that is random on this thread follow from `seed`.
pub(crate) fn seed_this_thread(seed: u64) {
    SEEDED.with(|slot| *slot.borrow_mut() = Some(SmallRng::seed_from_u64(seed)));
    holdfast::store::seed_this_thread(seed);
}

/// A generator for one purpose; what another one draws does not shift it.
pub(crate) fn stream(seed: u64, purpose: &str, number: u64) -> SmallRng {
    let named = purpose.bytes().fold(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), |mix, byte| {
        (mix ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    SmallRng::seed_from_u64(named ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93))
}

/// Fills `out` from the thread's seed; false if it has none.
fn fill_seeded(out: &mut [u8]) -> bool {
    let filled = SEEDED.try_with(|slot| {
        let mut slot = slot.borrow_mut();
        slot.as_mut().map(|rng| rng.fill_bytes(out)).is_some()
    });
    // While a thread ends its variables are gone; then nothing of a run is left either.
    filled.unwrap_or(false)
}

/// The C library's function of this name.
#[expect(unsafe_code, reason = "the standard library's hook for a program's own randomness")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    if length == 0 {
        return 0;
    }
    // SAFETY: callers of getrandom pass a buffer of `length` bytes that they own.
    let out = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    if !fill_seeded(out) {
        let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(out));
        if read.is_err() {
            return -1;
        }
    }
    isize::try_from(length).unwrap_or(-1)
}

/// Whether something that happens once in `out_of` times happens now; for planted faults.
pub(crate) fn chance(out_of: u32) -> bool {
    let mut bytes = [0; 4];
    fill_seeded(&mut bytes) && u32::from_le_bytes(bytes) % out_of == 0
}
