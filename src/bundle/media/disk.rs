//! The disk image: for sticks that an engineer opens to put files beside the bundle.
//!
//! ```text
//!  0        MBR: GRUB's boot code ─────┐
//!  512      GPT                        │
//!  1 MiB    BIOS boot: GRUB's core ◄───┘     BIOS
//!  2 MiB    EFI system partition, FAT32: EFI/BOOT/BOOTX64.EFI and all files, labelled HOLDFAST
//! ```

use std::path::Path;

use hadris_fat::sync::FatFs;
use hadris_fat::{FatKind, FatOptions, VolumeLabel};
use hadris_fs::{Content, Guid, MountOptions, Name, Node, PathError};
use hadris_part::gpt::types;
use hadris_part::{DiskLayout, Partition, PartitionSpec, Size};
use hadris_storage::host::FileDevice;
use sha2::{Digest, Sha256};

use super::error::{MediaError, failed, layout};
use super::parts::Parts;
use super::same_as_bundle;
use crate::model::live::BUNDLE_ON_MEDIUM;
use crate::sys::bundle_file;

const MIB: u64 = 1 << 20;
/// Room for an engineer's own files and for the file system's tables, MiB.
const ROOM_MIB: u64 = 64;
const SECTOR: usize = 512;
/// Bytes of the first sector that are code; the disk's signature and partitions follow.
const BOOT_CODE_BYTES: usize = 440;
/// Where the boot code reads the sector at which the core begins.
const CORE_AT: std::ops::Range<usize> = 0x5c..0x64;
/// A jump that GRUB's own installer takes out: it distrusts what the BIOS says of the drive.
const DRIVE_CHECK: std::ops::Range<usize> = 0x66..0x68;
/// In the core's first sector: where its rest begins, how many sectors it has, and the
/// segment to which it goes.
const REST_AT: std::ops::Range<usize> = 0x1f4..0x1fc;
const REST_SECTORS: std::ops::Range<usize> = 0x1fc..0x1fe;
const REST_SEGMENT: std::ops::Range<usize> = 0x1fe..0x200;
const CORE_SEGMENT: u16 = 0x820;

pub(super) fn write(parts: &Parts<'_>, output: &Path) -> Result<(), MediaError> {
    let mut tree = parts.tree()?;
    let uefi = Node::file(Content::bytes(parts.loader("uefi")?));
    tree.insert("EFI/BOOT/BOOTX64.EFI", uefi).map_err(layout)?;
    let files: u64 = tree_bytes(&tree);
    let size = (files.div_ceil(MIB) + ROOM_MIB) * MIB;
    let file = bundle_file::open_to_change(output).map_err(failed("open", output))?;
    file.set_len(size).map_err(failed("make room in", output))?;
    let mut device = FileDevice::new(file).map_err(failed("open", output))?;
    let plan = DiskLayout::gpt(identity(parts))
        .partition(PartitionSpec::new(types::BIOS_BOOT, Size::MiB(1)).with_name("HF-BIOS"))
        .partition(PartitionSpec::new(types::EFI_SYSTEM, Size::Remaining).with_name(parts.label()));
    let table = hadris_part::sync::create(&mut device, &plan)
        .map_err(|error| layout(PathError::from(error)))?;
    let both = (table.partition(0), table.partition(1));
    let (Some(bios), Some(system)) = both else { unreachable!("both were just laid out") };
    {
        let part = hadris_part::sync::open(&mut device, &system);
        let mut part = part.map_err(|error| layout(PathError::from(error)))?;
        let label = VolumeLabel::new(parts.label()).expect("it is short and plain");
        let options = FatOptions::new().with_kind(FatKind::Fat32).with_label(label);
        hadris_fat::sync::write(&mut part, &tree, &options).map_err(layout)?;
    }
    embed(parts, &bios, output)?;
    read_back(parts, &mut device, &system)
}

/// The bytes of all files.
fn tree_bytes(tree: &hadris_fs::Tree) -> u64 {
    fn below(entry: hadris_fs::TreeEntry<'_>) -> u64 {
        let own = entry.node().content().map_or(0, Content::len);
        own + entry.children().map(|(_, child)| below(child)).sum::<u64>()
    }
    below(tree.root())
}

/// The disk's number: the same for the same bundle.
fn identity(parts: &Parts<'_>) -> Guid {
    let manifest = serde_json::to_vec(parts.bundle.manifest()).expect("it is plain data");
    let digest = Sha256::digest(manifest);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Guid::from_bytes(bytes)
}

/// Puts GRUB's boot code into the first sector and its core into the partition for it, each
/// with the numbers of the sectors at which it goes on.
fn embed(parts: &Parts<'_>, bios: &Partition, output: &Path) -> Result<(), MediaError> {
    let start = bios.start();
    let mut boot = parts.loader("boot")?;
    let mut core = parts.loader("disk")?;
    let sectors = core.len().div_ceil(SECTOR);
    core.resize(sectors * SECTOR, 0);
    if boot.len() != SECTOR || sectors < 2 {
        return Err(MediaError::Loader { image: "boot", reason: "it is not one sector" });
    }
    if sectors as u64 > bios.len() {
        return Err(MediaError::Loader {
            image: "disk",
            reason: "it is larger than its partition",
        });
    }
    boot[CORE_AT].copy_from_slice(&start.to_le_bytes());
    boot[DRIVE_CHECK].copy_from_slice(&[0x90, 0x90]);
    let rest = u16::try_from(sectors - 1).expect("it fits a partition of one MiB");
    core[REST_AT].copy_from_slice(&(start + 1).to_le_bytes());
    core[REST_SECTORS].copy_from_slice(&rest.to_le_bytes());
    core[REST_SEGMENT].copy_from_slice(&CORE_SEGMENT.to_le_bytes());
    let put = |at: u64, bytes: &[u8]| {
        bundle_file::write_at(output, at, bytes).map_err(failed("write", output))
    };
    put(0, &boot[..BOOT_CODE_BYTES])?;
    put(start * SECTOR as u64, &core)
}

/// Reads the bundle through the file system that was just made.
fn read_back(
    parts: &Parts<'_>,
    device: &mut FileDevice,
    system: &Partition,
) -> Result<(), MediaError> {
    let part = hadris_part::sync::open(device, system);
    let part = part.map_err(|error| layout(PathError::from(error)))?;
    let mounted = FatFs::mount(part, MountOptions::new().read_only());
    let mut files = mounted.map_err(|error| layout(PathError::from(error)))?;
    let mut node = files.root();
    for name in BUNDLE_ON_MEDIUM.split('/').filter(|name| !name.is_empty()) {
        let found = files.lookup(node, Name::new(name));
        node = found.map_err(|error| layout(PathError::from(error)))?;
    }
    same_as_bundle(parts, &mut |at, part| {
        let mut done = 0;
        while done < part.len() {
            let got = files.read(node, at + done as u64, &mut part[done..]);
            match got.map_err(PathError::from)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                got => done += got,
            }
        }
        Ok(())
    })
}
