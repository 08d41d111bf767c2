//! The hybrid ISO: a CD for both firmwares, and a disk for both when it is written to a stick.
//!
//! ```text
//!  0      MBR: GRUB's hybrid boot code, partitions for old firmware     BIOS, stick
//!  512    GPT: the whole image, the EFI partition                       UEFI, stick
//!  32 KiB ISO 9660 ─ El Torito ─┬─ boot/grub/bios.img                   BIOS, CD
//!         files                 └─┐
//!         EFI partition (FAT) ◄───┘ EFI/BOOT/BOOTX64.EFI                UEFI, CD
//! ```

use std::path::Path;

use hadris_fat::{FatKind, FatOptions, VolumeLabel};
use hadris_fs::{Content, Node, Tree};
use hadris_iso::{
    AppendedPartition, BootEntry, BootInfo, ElTorito, Hybrid, IsoId, IsoLevel, IsoOptions,
};
use hadris_storage::host::FileDevice;
use hadris_storage::{BlockSize, MemDevice};

use super::error::{MediaError, failed, layout};
use super::parts::Parts;
use super::{reopened, same_as_bundle};
use crate::model::live::BUNDLE_ON_MEDIUM;
use crate::sys::bundle_file;

/// Where the boot image for BIOS lies in the tree.
const BIOS_IMAGE: &str = "boot/grub/bios.img";
/// Bytes of the first sector that are code; partitions follow.
const BOOT_CODE_BYTES: usize = 440;
/// Where GRUB's hybrid boot code reads the 512-byte sector at which it goes on.
const GOES_ON_AT: u64 = 432;
/// The image begins with a loader for CDs, which it must skip; 512-byte sectors.
const CD_LOADER_SECTORS: u64 = 4;
/// What the firmware of UEFI asks of a FAT file system besides its files, bytes.
const FAT_ROOM: usize = 512 * 1024;

pub(super) fn write(parts: &Parts<'_>, output: &Path) -> Result<(), MediaError> {
    let mut tree = parts.tree()?;
    tree.insert(BIOS_IMAGE, Node::file(Content::bytes(parts.loader("cd")?))).map_err(layout)?;
    let hybrid = parts.loader("hybrid")?;
    let code = hybrid
        .get(..BOOT_CODE_BYTES)
        .ok_or(MediaError::Loader { image: "hybrid", reason: "it is shorter than a sector" })?;
    let efi = efi_partition(parts.loader("uefi")?)?;
    let options = IsoOptions::default()
        .with_id(IsoId::Volume, parts.label())
        .with_level(IsoLevel::L3)
        .with_rock_ridge()
        .with_joliet()
        .with_el_torito(
            ElTorito::new()
                .with_entry(
                    BootEntry::bios(BIOS_IMAGE).with_load_size(4).with_boot_info(BootInfo::Grub2),
                )
                .with_entry(BootEntry::uefi_appended(0)),
        )
        .with_hybrid(
            Hybrid::gpt_hybrid_mbr()
                .with_bootstrap(code)
                .with_appended(AppendedPartition::esp(Content::bytes(efi))),
        );
    let file = bundle_file::open_to_change(output).map_err(failed("open", output))?;
    let device = FileDevice::new(file).map_err(failed("open", output))?;
    let report = hadris_iso::sync::write(device, &tree, &options).map_err(layout)?;
    skip_cd_loader(output)?;
    let bundle = report.extents(BUNDLE_ON_MEDIUM.trim_start_matches('/')).unwrap_or_default();
    let [first, ..] = bundle else { return Err(MediaError::ReadBack { source: None }) };
    let image = reopened(output)?;
    // Files above 4 GiB take several extents, one behind the other.
    let start = first.offset();
    same_as_bundle(parts, &mut |at, part| image.read_exact_at(part, start + at))
}

/// The writer puts the sector of the boot image there, as other loaders want it.
fn skip_cd_loader(output: &Path) -> Result<(), MediaError> {
    let image = reopened(output)?;
    let mut field = [0; 8];
    image.read_exact_at(&mut field, GOES_ON_AT).map_err(failed("read", output))?;
    let sector = u64::from_le_bytes(field) + CD_LOADER_SECTORS;
    bundle_file::write_at(output, GOES_ON_AT, &sector.to_le_bytes())
        .map_err(failed("write", output))
}

/// A FAT file system with the loader under the name that firmware looks for.
fn efi_partition(loader: Vec<u8>) -> Result<Vec<u8>, MediaError> {
    let room = (loader.len() + FAT_ROOM).next_multiple_of(64 * 1024);
    let mut tree = Tree::new();
    tree.insert("EFI/BOOT/BOOTX64.EFI", Node::file(Content::bytes(loader))).map_err(layout)?;
    let block = BlockSize::new(512).expect("it is a power of two");
    let mut device = MemDevice::new(vec![0_u8; room], block);
    let label = VolumeLabel::new("HF-EFI").expect("it is short and plain");
    let options = FatOptions::new().with_kind(FatKind::Fat12).with_label(label);
    hadris_fat::sync::write(&mut device, &tree, &options).map_err(layout)?;
    Ok(device.into_inner())
}
