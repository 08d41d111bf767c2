//! Packs inputs into frames and writes the signed file.
//!
//! Why frames by single threads: zstd's output for one frame does not depend on how many
//! frames are packed at once, so all cores work and the bytes stay the same.
//! Invariants: output depends on inputs, release and key only; the output file is complete
//! or absent.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use super::format::{self, END_BYTES, MANIFEST_NAME, SIGNATURE_NAME, member_name, padding};
use super::keys::KeyPair;
use super::progress::Progress;
use crate::model::bundle_manifest::{
    BUNDLE_FORMAT, BUNDLE_KIND, Entry, EntryBody, Manifest, Mode, PackageRecord,
};
use crate::sys::bundle_file;

/// One thing that goes in.
#[derive(Clone, Debug)]
pub struct Input {
    /// The entry's name.
    pub name: String,
    pub body: InputBody,
}

/// Where an input's content comes from.
#[derive(Clone, Debug)]
pub enum InputBody {
    /// A file on disk.
    File { path: PathBuf, mode: u32 },
    /// Bytes in memory.
    Bytes { bytes: Vec<u8>, mode: u32 },
    /// A link to a sibling.
    Link { target: String },
}

/// What the manifest says about the whole.
#[derive(Clone, Debug)]
pub struct Release {
    pub version: String,
    pub serial: u64,
    pub architecture: String,
    pub engine_prefix: String,
    pub packages: Vec<PackageRecord>,
    /// zstd's level.
    pub compression_level: i32,
}

/// Why a bundle could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the bundle's contents do not fit together: {reason}")]
    Contents { reason: String },
}

/// Packs `inputs`, signs with `key` and writes the bundle to `output`.
pub fn write_bundle(
    output: &Path,
    mut inputs: Vec<Input>,
    release: &Release,
    key: &KeyPair,
    progress: &dyn Progress,
) -> Result<Manifest, WriteError> {
    inputs.sort_by(|a, b| a.name.cmp(&b.name));
    let frames = Frames::new(output)?;
    let entries = frames.pack_all(&inputs, release.compression_level, progress)?;
    let manifest = Manifest {
        kind: BUNDLE_KIND.into(),
        format: BUNDLE_FORMAT,
        version: release.version.clone(),
        serial: release.serial,
        architecture: release.architecture.clone(),
        key_id: key.id(),
        engine_prefix: release.engine_prefix.clone(),
        packages: release.packages.clone(),
        entries,
    };
    if let Some(reason) = manifest.problem() {
        return Err(WriteError::Contents { reason });
    }
    let mut bytes = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| WriteError::Contents { reason: error.to_string() })?;
    bytes.push(b'\n');
    let signature = key.sign(&bytes);
    let mut source = frames.assemble(&manifest, bytes, &signature)?;
    let written = bundle_file::replace_from(output, 0o644, &mut source);
    written.map_err(|source| io_error("write", output, source))?;
    Ok(manifest)
}

/// Packed frames on disk until the manifest that precedes them is known.
struct Frames {
    folder: tempfile::TempDir,
}

impl Frames {
    fn new(output: &Path) -> Result<Self, WriteError> {
        let beside = bundle_file::folder_of(output);
        let folder = bundle_file::work_folder(&beside)
            .map_err(|source| io_error("create a work folder in", &beside, source))?;
        Ok(Self { folder })
    }

    fn frame(&self, index: usize) -> PathBuf {
        self.folder.path().join(index.to_string())
    }

    fn pack_all(
        &self,
        inputs: &[Input],
        level: i32,
        progress: &dyn Progress,
    ) -> Result<Vec<Entry>, WriteError> {
        let sizes: Vec<u64> = inputs.iter().map(size_of).collect::<Result<_, _>>()?;
        progress.begin("pack", sizes.iter().sum());
        // The largest first, so that no core is left alone with one at the end.
        let mut order: Vec<usize> = (0..inputs.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(sizes[*index]));
        let queue = Mutex::new(VecDeque::from(order));
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let work = || {
            let mut packed = Vec::new();
            loop {
                let next = queue.lock().expect("no worker panics with the lock").pop_front();
                let Some(index) = next else { return Ok(packed) };
                progress.item(&inputs[index].name);
                packed.push((index, pack(&inputs[index], &self.frame(index), level)?));
                progress.advance(sizes[index]);
            }
        };
        let results = std::thread::scope(|scope| {
            let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let join = |worker: std::thread::ScopedJoinHandle<'_, Result<Vec<_>, WriteError>>| {
                worker.join().expect("packing does not panic")
            };
            running.into_iter().map(join).collect::<Result<Vec<_>, _>>()
        })?;
        let mut entries: Vec<(usize, Entry)> = results.into_iter().flatten().collect();
        entries.sort_by_key(|(index, _)| *index);
        progress.end();
        Ok(entries.into_iter().map(|(_, entry)| entry).collect())
    }

    /// The whole file as one stream.
    fn assemble(
        &self,
        manifest: &Manifest,
        bytes: Vec<u8>,
        signature: &[u8],
    ) -> Result<Sequence, WriteError> {
        let mut parts = VecDeque::new();
        let mut add = |name: &str, size: u64, content: Part| {
            let header = format::header(name, size).ok_or_else(|| WriteError::Contents {
                reason: format!("entry name {name} is too long for a tar header"),
            })?;
            parts.push_back(Part::Bytes(io::Cursor::new(header.to_vec())));
            parts.push_back(content);
            parts.push_back(Part::zeros(padding(size)));
            Ok(())
        };
        add(MANIFEST_NAME, bytes.len() as u64, Part::Bytes(io::Cursor::new(bytes)))?;
        let signature = signature.to_vec();
        add(SIGNATURE_NAME, signature.len() as u64, Part::Bytes(io::Cursor::new(signature)))?;
        for (index, entry) in manifest.entries.iter().enumerate() {
            if let EntryBody::File { packed_size, .. } = &entry.body {
                let frame = Part::Unopened(self.frame(index));
                add(&member_name(&entry.name), *packed_size, frame)?;
            }
        }
        parts.push_back(Part::zeros(END_BYTES));
        Ok(Sequence { parts })
    }
}

/// Parts read one after the other; frames are opened when their turn comes, so that the
/// number of entries is not bound by the number of open files.
struct Sequence {
    parts: VecDeque<Part>,
}

enum Part {
    Bytes(io::Cursor<Vec<u8>>),
    Unopened(PathBuf),
    Opened(bundle_file::Section),
}

impl Part {
    fn zeros(count: u64) -> Self {
        Part::Bytes(io::Cursor::new(vec![0; count as usize]))
    }
}

impl Read for Sequence {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(part) = self.parts.front_mut() {
            if let Part::Unopened(path) = part {
                let frame = bundle_file::SharedFile::open(path)?;
                *part = Part::Opened(frame.section(0, frame.size()));
            }
            let got = match part {
                Part::Bytes(bytes) => bytes.read(buffer)?,
                Part::Opened(section) => section.read(buffer)?,
                Part::Unopened(_) => 0,
            };
            if got > 0 || buffer.is_empty() {
                return Ok(got);
            }
            self.parts.pop_front();
        }
        Ok(0)
    }
}

fn size_of(input: &Input) -> Result<u64, WriteError> {
    match &input.body {
        InputBody::File { path, .. } => {
            let file = bundle_file::SharedFile::open(path);
            Ok(file.map_err(|source| io_error("open", path, source))?.size())
        }
        InputBody::Bytes { bytes, .. } => Ok(bytes.len() as u64),
        InputBody::Link { .. } => Ok(0),
    }
}

fn pack(input: &Input, frame: &Path, level: i32) -> Result<Entry, WriteError> {
    let (mut source, mode): (Box<dyn Read>, u32) = match &input.body {
        InputBody::Link { target } => {
            let body = EntryBody::Link { target: target.clone() };
            return Ok(Entry { name: input.name.clone(), body });
        }
        InputBody::Bytes { bytes, mode } => (Box::new(bytes.as_slice()), *mode),
        InputBody::File { path, mode } => {
            let file = bundle_file::SharedFile::open(path)
                .map_err(|source| io_error("open", path, source))?;
            (Box::new(file.section(0, file.size())), *mode)
        }
    };
    let written = pack_stream(&mut source, size_of(input)?, frame, level);
    let packed = written.map_err(|source| io_error("pack", Path::new(&input.name), source))?;
    let body = EntryBody::File {
        mode: Mode(mode),
        size: packed.size,
        sha256: packed.sha256,
        packed_size: packed.packed_size,
        packed_sha256: packed.packed_sha256,
    };
    Ok(Entry { name: input.name.clone(), body })
}

struct Packed {
    size: u64,
    sha256: String,
    packed_size: u64,
    packed_sha256: String,
}

fn pack_stream(source: &mut dyn Read, size: u64, frame: &Path, level: i32) -> io::Result<Packed> {
    let out = Counting { inner: bundle_file::create(frame)?, hash: Sha256::new(), count: 0 };
    let mut encoder = zstd::Encoder::new(io::BufWriter::with_capacity(1 << 17, out), level)?;
    // The size in the frame lets zstd choose its window by it and readers reserve space.
    encoder.set_pledged_src_size(Some(size))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    let mut total = 0;
    loop {
        let got = source.read(&mut buffer)?;
        if got == 0 {
            break;
        }
        hash.update(&buffer[..got]);
        encoder.write_all(&buffer[..got])?;
        total += got as u64;
    }
    let out = encoder.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(Packed {
        size: total,
        sha256: hex::encode(hash.finalize()),
        packed_size: out.count,
        packed_sha256: hex::encode(out.hash.finalize()),
    })
}

/// A file that counts and digests what is written to it.
struct Counting {
    inner: std::fs::File,
    hash: Sha256,
    count: u64,
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> WriteError {
    WriteError::Io { action, path: path.into(), source }
}
