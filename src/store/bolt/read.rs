//! Reads the buckets of a bbolt file, key by key.

use std::io::{self, Read, Seek, SeekFrom};

use super::{BRANCH, ELEMENT, IS_BUCKET, LEAF, MAGIC, META_BYTES, PAGE_HEADER, VERSION, fnv1a};

/// Page sizes that bbolt uses: those of the operating systems it runs on.
const PAGE_SIZES: [u64; 5] = [4096, 8192, 16384, 32768, 65536];
/// Levels of a tree beyond which the file is garbage.
const DEPTH_MAX: usize = 64;
/// Largest page with its overflow, bytes.
const NODE_MAX_BYTES: u64 = 1024 * 1024 * 1024;

/// Why a file is no bbolt file that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BoltError {
    #[error("cannot read the file")]
    Read(#[from] io::Error),
    #[error("no whole meta page was found")]
    NoMeta,
    #[error("page {page} is not as it should be")]
    Page { page: u64 },
}

/// Takes an element: its flags, key and value.
type Each<'a, E> = dyn FnMut(u32, &[u8], &[u8]) -> Result<(), E> + 'a;

/// An open file.
#[derive(Debug)]
pub(crate) struct BoltFile<F> {
    file: F,
    page_size: u64,
    root: u64,
    pages: u64,
    /// Pages that may still be read in this walk; a cycle would read more than there are.
    left: u64,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
}

/// Page size, root, pages and transaction of a whole meta.
fn meta(bytes: &[u8]) -> Option<(u64, u64, u64, u64)> {
    let whole = u32_at(bytes, 0) == MAGIC
        && u32_at(bytes, 4) == VERSION
        && u64_at(bytes, META_BYTES - 8) == fnv1a(&bytes[..META_BYTES - 8]);
    let size = u64::from(u32_at(bytes, 8));
    let known = PAGE_SIZES.contains(&size);
    (whole && known).then(|| (size, u64_at(bytes, 16), u64_at(bytes, 40), u64_at(bytes, 48)))
}

impl<F: Read + Seek> BoltFile<F> {
    pub(crate) fn open(mut file: F) -> Result<Self, BoltError> {
        let mut newest: Option<(u64, u64, u64, u64)> = None;
        for start in std::iter::once(0).chain(PAGE_SIZES) {
            let mut bytes = [0; META_BYTES];
            file.seek(SeekFrom::Start(start + PAGE_HEADER as u64))?;
            if file.read_exact(&mut bytes).is_err() {
                break;
            }
            let Some(found) = meta(&bytes).filter(|found| start == 0 || start == found.0) else {
                continue;
            };
            if newest.is_none_or(|known| known.3 < found.3) {
                newest = Some(found);
            }
        }
        let (page_size, root, pages, _) = newest.ok_or(BoltError::NoMeta)?;
        Ok(Self { file, page_size, root, pages, left: 0 })
    }

    /// A page with its overflow.
    fn node(&mut self, id: u64) -> Result<Vec<u8>, BoltError> {
        let bad = || BoltError::Page { page: id };
        if id >= self.pages || id < 2 || self.left == 0 {
            return Err(bad());
        }
        self.left -= 1;
        self.file.seek(SeekFrom::Start(id * self.page_size))?;
        let mut bytes = vec![0; self.page_size as usize];
        self.file.read_exact(&mut bytes)?;
        let overflow = u64::from(u32_at(&bytes, 12));
        let whole = (1 + overflow) * self.page_size;
        if u64_at(&bytes, 0) != id || whole > NODE_MAX_BYTES || id + overflow >= self.pages {
            return Err(bad());
        }
        let had = bytes.len();
        bytes.resize(whole as usize, 0);
        self.file.read_exact(&mut bytes[had..])?;
        Ok(bytes)
    }

    /// Calls `each` with every key and value of a bucket, in order; `false` if there is no
    /// such bucket.
    pub(crate) fn each<E: From<BoltError>>(
        &mut self,
        bucket: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut found = None;
        let root = self.root;
        self.left = self.pages;
        self.walk(root, 0, &mut |flags, key, value| {
            if flags & IS_BUCKET != 0 && key == bucket && value.len() >= 16 {
                found = Some(value.to_vec());
            }
            Ok::<(), BoltError>(())
        })?;
        let Some(value) = found else { return Ok(false) };
        let mut plain = |_: u32, key: &[u8], value: &[u8]| each(key, value);
        match u64_at(&value, 0) {
            0 => elements(&value[16..], 0, &mut plain)?,
            root => {
                self.left = self.pages;
                self.walk(root, 0, &mut plain)?;
            }
        }
        Ok(true)
    }

    fn walk<E: From<BoltError>>(
        &mut self,
        id: u64,
        depth: usize,
        each: &mut Each<'_, E>,
    ) -> Result<(), E> {
        let bad = || E::from(BoltError::Page { page: id });
        if depth > DEPTH_MAX {
            return Err(bad());
        }
        let page = self.node(id)?;
        if u16_at(&page, 8) & LEAF != 0 {
            return elements(&page, id, each);
        }
        let count = usize::from(u16_at(&page, 10));
        if u16_at(&page, 8) & BRANCH == 0 || PAGE_HEADER + count * ELEMENT > page.len() {
            return Err(bad());
        }
        for number in 0..count {
            self.walk(u64_at(&page, PAGE_HEADER + number * ELEMENT + 8), depth + 1, each)?;
        }
        Ok(())
    }
}

/// The elements of a leaf page.
fn elements<E: From<BoltError>>(page: &[u8], id: u64, each: &mut Each<'_, E>) -> Result<(), E> {
    let bad = || E::from(BoltError::Page { page: id });
    if page.len() < PAGE_HEADER {
        return Err(bad());
    }
    let count = usize::from(u16_at(page, 10));
    if PAGE_HEADER + count * ELEMENT > page.len() {
        return Err(bad());
    }
    for number in 0..count {
        let at = PAGE_HEADER + number * ELEMENT;
        let field = |of: usize| u32_at(page, at + of) as usize;
        let (start, key_bytes, value_bytes) = (at + field(4), field(8), field(12));
        let key = page.get(start..start + key_bytes).ok_or_else(bad)?;
        let start = start + key_bytes;
        let value = page.get(start..start + value_bytes).ok_or_else(bad)?;
        each(u32_at(page, at), key, value)?;
    }
    Ok(())
}
