//! bbolt's file format, as far as etcd's snapshots need it: written once, read whole.
//!
//! ```text
//! page (4096):  id u64 │ flags u16 │ count u16 │ overflow u32 │ content      little-endian
//!   flags       1 branch   2 leaf   4 meta   16 free list
//! meta:         magic u32 │ version u32 │ page size u32 │ flags u32 │ root u64, sequence u64
//!               │ free list u64 │ pages u64 │ transaction u64 │ FNV-1a u64 of what is before
//! leaf:         elements: flags u32 (1 is a bucket) │ position u32 │ key u32 │ value u32
//!               position counts from the element; keys and values follow the elements
//! branch:       elements: position u32 │ key u32 │ page u64
//! bucket value: root page u64 │ sequence u64 │ with root 0 an inline leaf page
//! ```
//! Why our own: no permissively licensed crate that writes this format is kept up, and a
//! snapshot needs neither transactions nor a free list. Source: bbolt's `page.go`,
//! `bucket.go`, `db.go` as documented there.
//! Invariants: the writer never seeks; the reader trusts no number of the file.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use read::{BoltError, BoltFile};
pub(crate) use write::{Bucket, Item, write_bolt};

const PAGE: usize = 4096;
const PAGE_HEADER: usize = 16;
const ELEMENT: usize = 16;
const META_BYTES: usize = 64;
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const META: u16 = 4;
const FREE_LIST: u16 = 16;
/// Flag of a leaf element whose value is a bucket.
const IS_BUCKET: u32 = 1;

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
