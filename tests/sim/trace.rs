//! A digest of all that happened in a run, byte for byte.
//!
//! Each message, disk operation, question and answer goes into it with its time and its
//! content, so two runs with one digest were one run. `SIM_TRACE=file` writes every note
//! down, to find where two runs part.

use std::cell::RefCell;
use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::Hasher;
use std::io::{BufWriter, Write};

use crate::world::now_ms;

struct Trace {
    hasher: DefaultHasher,
    notes: u64,
    file: Option<BufWriter<File>>,
}

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Begins the trace of this thread's run.
pub(crate) fn begin() {
    let path = std::env::var_os("SIM_TRACE");
    let file = path.map(|path| BufWriter::new(File::create(path).unwrap()));
    let trace = Trace { hasher: DefaultHasher::new(), notes: 0, file };
    TRACE.with(|slot| *slot.borrow_mut() = Some(trace));
}

/// Notes what was done by or to a member.
pub(crate) fn note(what: &'static str, member: u64, content: &[u8]) {
    TRACE.with(|slot| {
        let mut slot = slot.borrow_mut();
        let Some(trace) = slot.as_mut() else { return };
        trace.notes += 1;
        trace.hasher.write(what.as_bytes());
        trace.hasher.write_u64(now_ms());
        trace.hasher.write_u64(member);
        trace.hasher.write(content);
        if let Some(file) = &mut trace.file {
            let sum = crc32fast::hash(content);
            writeln!(file, "{} {what} {member} {} {sum:08x}", now_ms(), content.len()).unwrap();
        }
    });
}

/// Notes something that is easier said in words.
pub(crate) fn say(what: &'static str, member: u64, words: &dyn std::fmt::Debug) {
    let text = format!("{words:?}");
    note(what, member, text.as_bytes());
    TRACE.with(|slot| {
        if let Some(file) = slot.borrow_mut().as_mut().and_then(|trace| trace.file.as_mut()) {
            writeln!(file, "    {text}").unwrap();
        }
    });
}

/// The digest and the number of notes so far.
pub(crate) fn digest() -> (u64, u64) {
    TRACE.with(|slot| {
        let mut slot = slot.borrow_mut();
        if let Some(file) = slot.as_mut().and_then(|trace| trace.file.as_mut()) {
            file.flush().unwrap();
        }
        slot.as_ref().map_or((0, 0), |trace| (trace.hasher.finish(), trace.notes))
    })
}
