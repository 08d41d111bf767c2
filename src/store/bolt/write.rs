//! Writes a bbolt file from front to back.
//!
//! The layout follows from the keys and the lengths of the values alone, so that it is
//! known before the first byte is written and the meta pages can come first:
//! `meta │ meta │ free list │ leaves and branches of each bucket │ root leaf`.

use std::io::{self, Write};

use super::{
    BRANCH, ELEMENT, FREE_LIST, IS_BUCKET, LEAF, MAGIC, META, META_BYTES, PAGE, PAGE_HEADER,
    VERSION, fnv1a,
};

/// A key and how long its value is.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) key: Box<[u8]>,
    pub(crate) value_bytes: usize,
}

/// A bucket; its items are sorted by key and no key is twice.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(crate) name: &'static str,
    pub(crate) items: Vec<Item>,
}

/// Children of one page: `from..to` of the level below, at page `id`, `pages` long.
#[derive(Clone, Copy)]
struct Node {
    from: usize,
    to: usize,
    id: u64,
    pages: u64,
}

/// Where a bucket lies: its leaves, then each level of branches; the last one is the root.
struct Plan {
    levels: Vec<Vec<Node>>,
}

impl Plan {
    fn root(&self) -> u64 {
        self.levels.last().and_then(|level| level.first()).map_or(0, |node| node.id)
    }
}

fn pages(bytes: usize) -> u64 {
    bytes.div_ceil(PAGE) as u64
}

/// Cuts a level into pages; at least `least` elements go into each.
fn cut(sizes: impl Iterator<Item = usize>, least: usize, next: &mut u64) -> Vec<Node> {
    let mut nodes = Vec::new();
    let (mut from, mut bytes, mut at) = (0, PAGE_HEADER, 0);
    let mut close = |from: usize, to: usize, bytes: usize| {
        let node = Node { from, to, id: *next, pages: pages(bytes) };
        *next += node.pages;
        nodes.push(node);
    };
    for size in sizes {
        let full = bytes + ELEMENT + size > PAGE || at - from >= usize::from(u16::MAX - 1);
        if at - from >= least && full {
            close(from, at, bytes);
            (from, bytes) = (at, PAGE_HEADER);
        }
        bytes += ELEMENT + size;
        at += 1;
    }
    close(from, at, bytes);
    nodes
}

fn plan(bucket: &Bucket, next: &mut u64) -> Plan {
    let sizes = bucket.items.iter().map(|item| item.key.len() + item.value_bytes);
    let mut levels = vec![cut(sizes, 1, next)];
    while let Some(below) = levels.last().filter(|level| level.len() > 1) {
        let firsts = firsts(bucket, &levels, levels.len() - 1);
        let sizes: Vec<usize> = firsts.iter().map(|key| key.len()).collect();
        debug_assert_eq!(sizes.len(), below.len());
        // A branch of one child would never end the climb.
        levels.push(cut(sizes.into_iter(), 2, next));
    }
    Plan { levels }
}

/// The first key below each node of a level.
fn firsts<'a>(bucket: &'a Bucket, levels: &[Vec<Node>], level: usize) -> Vec<&'a [u8]> {
    let mut indexes: Vec<usize> = (0..levels[level].len()).collect();
    for below in (0..=level).rev() {
        indexes = indexes.into_iter().map(|index| levels[below][index].from).collect();
    }
    indexes.into_iter().map(|item| &*bucket.items[item].key).collect()
}

fn header(id: u64, flags: u16, count: usize, pages: u64) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE);
    page.extend(id.to_le_bytes());
    page.extend(flags.to_le_bytes());
    page.extend((count as u16).to_le_bytes());
    page.extend((pages.saturating_sub(1) as u32).to_le_bytes());
    page
}

fn meta(id: u64, root: u64, pages: u64) -> Vec<u8> {
    let mut page = header(id, META, 0, 1);
    let mut meta = Vec::with_capacity(META_BYTES);
    for number in [MAGIC, VERSION, PAGE as u32, 0] {
        meta.extend(number.to_le_bytes());
    }
    // Root, its sequence, the free list's page, the pages in all, the transaction.
    for number in [root, 0, 2, pages, id] {
        meta.extend(number.to_le_bytes());
    }
    let checksum = fnv1a(&meta);
    meta.extend(checksum.to_le_bytes());
    page.extend(meta);
    page
}

fn leaf(node: Node, entries: &[(u32, &[u8], Vec<u8>)]) -> Vec<u8> {
    let mut page = header(node.id, LEAF, entries.len(), node.pages);
    let mut content = entries.len() * ELEMENT;
    for (number, (flags, key, value)) in entries.iter().enumerate() {
        let position = content - number * ELEMENT;
        for field in [*flags, position as u32, key.len() as u32, value.len() as u32] {
            page.extend(field.to_le_bytes());
        }
        content += key.len() + value.len();
    }
    for (_, key, value) in entries {
        page.extend(*key);
        page.extend(value);
    }
    page
}

fn branch(node: Node, children: &[(&[u8], u64)]) -> Vec<u8> {
    let mut page = header(node.id, BRANCH, children.len(), node.pages);
    let mut content = children.len() * ELEMENT;
    for (number, (key, id)) in children.iter().enumerate() {
        let position = content - number * ELEMENT;
        page.extend((position as u32).to_le_bytes());
        page.extend((key.len() as u32).to_le_bytes());
        page.extend(id.to_le_bytes());
        content += key.len();
    }
    for (key, _) in children {
        page.extend(*key);
    }
    page
}

fn put(out: &mut impl Write, mut page: Vec<u8>) -> io::Result<()> {
    page.resize(page.len().next_multiple_of(PAGE), 0);
    out.write_all(&page)
}

/// Writes the file; `value` brings the value of an item of a bucket, in order. Buckets are
/// sorted by name.
pub(crate) fn write_bolt<E: From<io::Error>>(
    out: &mut impl Write,
    buckets: &[Bucket],
    mut value: impl FnMut(&Bucket, usize) -> Result<Vec<u8>, E>,
) -> Result<(), E> {
    let mut next = 3;
    let plans: Vec<Plan> = buckets.iter().map(|bucket| plan(bucket, &mut next)).collect();
    let roots: Vec<(u32, &[u8], Vec<u8>)> = buckets
        .iter()
        .zip(&plans)
        .map(|(bucket, plan)| {
            let mut value = plan.root().to_le_bytes().to_vec();
            value.extend(0_u64.to_le_bytes());
            (IS_BUCKET, bucket.name.as_bytes(), value)
        })
        .collect();
    let size: usize = roots.iter().map(|(_, key, value)| ELEMENT + key.len() + value.len()).sum();
    let root = Node { from: 0, to: roots.len(), id: next, pages: pages(PAGE_HEADER + size) };
    let total = root.id + root.pages;
    put(out, meta(0, root.id, total))?;
    put(out, meta(1, root.id, total))?;
    put(out, header(2, FREE_LIST, 0, 1))?;
    for (bucket, plan) in buckets.iter().zip(&plans) {
        for node in &plan.levels[0] {
            let mut entries = Vec::with_capacity(node.to - node.from);
            for index in node.from..node.to {
                let value = value(bucket, index)?;
                if value.len() != bucket.items[index].value_bytes {
                    return Err(io::Error::other("a value has another length than planned").into());
                }
                entries.push((0, &*bucket.items[index].key, value));
            }
            put(out, leaf(*node, &entries))?;
        }
        for level in 1..plan.levels.len() {
            let keys = firsts(bucket, &plan.levels, level - 1);
            for node in &plan.levels[level] {
                let below = &plan.levels[level - 1][node.from..node.to];
                let keys = &keys[node.from..node.to];
                let children: Vec<(&[u8], u64)> =
                    keys.iter().copied().zip(below.iter().map(|child| child.id)).collect();
                put(out, branch(*node, &children))?;
            }
        }
    }
    put(out, leaf(root, &roots))?;
    Ok(())
}
