//! Watches: one dispatcher for those who keep up, the disk for those who do not.
//!
//! ```text
//!  applied revisions ─► dispatcher ─► index ─► queue of each stream ─► its reader
//!                                                 │ full, or memory has it no more
//!                                                 ▼
//!                              behind: the reader fetches for itself from memory or disk
//!                              and joins the dispatcher again where it stands
//! ```
//!
//! Why: ten thousand watches must not all wake for a change that concerns one of them, and
//! a slow reader must hold up nobody and lose nothing. Nor must a thousand watches of one range
//! that differ by one value of what stands there, such as the pods of each node: the
//! dispatcher finds them by that value.
//! Invariants: revisions in order, each whole and once; a note of progress stands in the
//! queue behind all that it speaks of, of all watches that there are when it is read; no
//! watch is told of progress before its beginning; nothing after `Compacted`.

mod directory;
mod hub;
mod stream;

pub(super) use hub::WatchHub;
pub(super) use stream::Stream;
