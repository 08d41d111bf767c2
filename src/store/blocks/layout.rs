//! Where redb's blocks stand in the file.
//!
//! ```text
//!  file      0       1       2       3 … 1024       1025    1026 …
//!          header  header  sums of  redb's blocks  sums of  redb's blocks
//!          even    odd     1…1022   1 … 1022       1023 …   1023 …
//! ```
//! redb's block 0, which is written in place, is kept in the two header blocks (`head`).

/// Bytes of a block: redb's page, and what disks and page caches write at once.
pub(super) const BLOCK: usize = 4096;
const BLOCK_BYTES: u64 = BLOCK as u64;
/// Blocks whose checksums stand in one block, behind eight bytes of its own.
pub(super) const GROUP: usize = (BLOCK - 8) / 4;
const GROUP_BLOCKS: u64 = GROUP as u64;
/// Header blocks at the start of the file.
const HEADERS: u64 = 2;

/// The group of one of redb's blocks from 1 on, and its place in it.
pub(super) fn place_of(block: u64) -> (usize, usize) {
    let behind = block - 1;
    ((behind / GROUP_BLOCKS) as usize, (behind % GROUP_BLOCKS) as usize)
}

/// The group's first block, as redb counts.
pub(super) fn first_of(group: usize) -> u64 {
    group as u64 * GROUP_BLOCKS + 1
}

/// Offset in the file of a group's checksums.
pub(super) fn sums_offset(group: usize) -> u64 {
    (HEADERS + group as u64 * (GROUP_BLOCKS + 1)) * BLOCK_BYTES
}

/// Offset in the file of one of redb's blocks from 1 on.
pub(super) fn block_offset(block: u64) -> u64 {
    let (group, within) = place_of(block);
    sums_offset(group) + (within as u64 + 1) * BLOCK_BYTES
}

/// Groups in a file of which redb sees `blocks` blocks.
pub(super) fn groups_of(blocks: u64) -> usize {
    blocks.saturating_sub(1).div_ceil(GROUP_BLOCKS) as usize
}

/// Length of the file of which redb sees `blocks` blocks; it sees one at least.
pub(super) fn file_len(blocks: u64) -> u64 {
    (HEADERS + groups_of(blocks) as u64 + blocks.saturating_sub(1)) * BLOCK_BYTES
}

/// Blocks that redb sees of a file of `len` bytes; whole ones only.
pub(super) fn blocks_in(len: u64) -> u64 {
    let behind = (len / BLOCK_BYTES).saturating_sub(HEADERS);
    let (full, rest) = (behind / (GROUP_BLOCKS + 1), behind % (GROUP_BLOCKS + 1));
    1 + full * GROUP_BLOCKS + rest.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_block_is_found_again_and_no_two_share_a_place() {
        let mut taken = std::collections::BTreeSet::from([0, BLOCK_BYTES]);
        for blocks in 1..4_000 {
            assert_eq!(blocks_in(file_len(blocks)), blocks);
            assert_eq!(blocks_in(file_len(blocks) + BLOCK_BYTES - 1), blocks);
            let (group, within) = place_of(blocks);
            assert_eq!(first_of(group) + within as u64, blocks);
            assert!(within < GROUP);
            assert!(taken.insert(block_offset(blocks)));
            if within == 0 {
                assert!(taken.insert(sums_offset(group)));
            }
            assert_eq!(block_offset(blocks) + BLOCK_BYTES, file_len(blocks + 1));
        }
        assert_eq!(taken.len() as u64 * BLOCK_BYTES, file_len(4_000));
    }
}
