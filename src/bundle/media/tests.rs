//! Media made of a small bundle, read by what did not write them where there is such a thing.

use std::os::unix::fs::{FileExt, symlink};

use super::*;
use crate::bundle::BundleError;
use crate::bundle::keys::KeyPair;
use crate::bundle::progress::Silent;
use crate::bundle::write::{Input, InputBody, Release, write_bundle};

/// A bundle with this many bytes for each of the boot loader's images, and its key.
struct Fixture {
    dir: tempfile::TempDir,
    trusted: TrustedKeys,
    bundle: PathBuf,
}

/// The name of the key file.
const KEYS: &str = "keys.pub";
const CD_IMAGE: usize = 150_000;
const CORE: usize = 140_000;

/// Bytes that no packer makes smaller.
fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

impl Fixture {
    fn new(with_system: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("b.hfb");
        let key = KeyPair::from_seed([5; 32]);
        let mut trusted = TrustedKeys::default();
        trusted.add_pem(&key.public_pem().unwrap()).unwrap();
        let mut inputs = vec![("bin/holdfast", noise(300_000, 1))];
        if with_system {
            inputs.extend([
                ("system/early", noise(70_000, 2)),
                ("system/kernel", noise(90_000, 3)),
                ("system/loader/boot", noise(512, 4)),
                ("system/loader/cd", noise(CD_IMAGE, 5)),
                ("system/loader/disk", noise(CORE, 6)),
                ("system/loader/hybrid", noise(512, 7)),
                ("system/loader/uefi", noise(600_000, 8)),
                ("system/root", noise(50_000, 9)),
            ]);
        }
        let input = |(name, bytes): (&str, Vec<u8>)| Input {
            name: name.to_owned(),
            body: InputBody::Bytes { bytes, mode: 0o644 },
        };
        let release = Release {
            version: "9.9".into(),
            serial: 9,
            architecture: "amd64".into(),
            engine_prefix: "/opt".into(),
            packages: Vec::new(),
            compression_level: 1,
        };
        let inputs = inputs.into_iter().map(input).collect();
        write_bundle(&bundle, inputs, &release, &key, &Silent).unwrap();
        Self { dir, trusted, bundle }
    }

    fn medium(&self, shape: Shape, name: &str) -> Result<PathBuf, MediaError> {
        let output = self.dir.path().join(name);
        let bundle = Bundle::open(&self.bundle, &self.trusted).unwrap();
        let key_files = [self.dir.path().join(KEYS)];
        write_medium(shape, &bundle, &self.trusted, &key_files, &output, &Silent)?;
        Ok(output)
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn find(image: &[u8], part: &[u8]) -> usize {
    let sectors = image.chunks(512).enumerate();
    let mut starts = sectors.filter(|(_, sector)| part.starts_with(sector)).map(|(at, _)| at * 512);
    starts.find(|at| image[*at..].starts_with(part)).expect("it is in one piece")
}

#[test]
fn media_of_the_same_bundle_are_the_same_bytes() {
    let fixture = Fixture::new(true);
    for shape in [Shape::Iso, Shape::Disk] {
        let first = std::fs::read(fixture.medium(shape, "one").unwrap()).unwrap();
        let second = std::fs::read(fixture.medium(shape, "two").unwrap()).unwrap();
        assert!(first == second, "{shape:?}");
        let bundle = std::fs::read(&fixture.bundle).unwrap();
        find(&first, &bundle);
    }
}

#[test]
fn an_iso_leads_each_firmware_to_its_loader() {
    let fixture = Fixture::new(true);
    let image = std::fs::read(fixture.medium(Shape::Iso, "m.iso").unwrap()).unwrap();
    assert_eq!(&image[32_769..32_774], b"CD001");
    assert_eq!(&image[32_808..32_816], b"HOLDFAST");
    // El Torito: the catalog's first entry is the BIOS', the section's is UEFI's.
    let catalog = usize::try_from(word(&image, 34_816 + 71) & 0xffff_ffff).unwrap() * 2048;
    assert_eq!(image[catalog + 1], 0, "the first platform is a BIOS");
    assert_eq!(image[catalog + 32], 0x88, "its image is bootable");
    let block = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize;
    let bios = block(catalog + 32 + 8) * 2048;
    let cd = noise(CD_IMAGE, 5);
    assert_eq!(image[bios + 4096..bios + CD_IMAGE], cd[4096..], "the BIOS' image");
    assert_eq!(image[catalog + 65], 0xef, "the second platform is UEFI");
    let efi = block(catalog + 96 + 8) * 2048;
    assert_eq!(&image[efi + 54..efi + 59], b"FAT12", "its image is a FAT file system");
    // As a stick: the MBR's code goes on behind the CD's loader; the GPT has both partitions.
    assert_eq!(image[..432], noise(512, 7)[..432]);
    assert_eq!(word(&image, 432), bios as u64 / 512 + 4);
    assert_eq!(&image[510..520], b"\x55\xaaEFI PART");
    let entries = usize::try_from(word(&image, 512 + 72)).unwrap() * 512;
    let esp = hadris_part::gpt::types::EFI_SYSTEM.to_bytes();
    let starts = (0..4).map(|slot| entries + slot * 128).find(|at| image[*at..*at + 16] == esp);
    assert_eq!(word(&image, starts.unwrap() + 32) * 512, efi as u64);
}

#[test]
fn a_disk_leads_a_bios_to_the_whole_core() {
    let fixture = Fixture::new(true);
    let image = std::fs::read(fixture.medium(Shape::Disk, "m.img").unwrap()).unwrap();
    let core = usize::try_from(word(&image, 0x5c)).unwrap() * 512;
    assert_eq!(core, 1 << 20);
    assert_eq!(image[core..core + 0x1f4], noise(CORE, 6)[..0x1f4]);
    assert_eq!(image[core + 512..core + CORE], noise(CORE, 6)[512..]);
    assert_eq!(word(&image, core + 0x1f4) * 512, core as u64 + 512);
    let rest = u16::from_le_bytes([image[core + 0x1fc], image[core + 0x1fd]]);
    assert_eq!(usize::from(rest) + 1, CORE.div_ceil(512));
    let fat = 2 << 20;
    assert_eq!(&image[fat + 82..fat + 87], b"FAT32");
    assert_eq!(&image[fat + 71..fat + 79], b"HOLDFAST");
    // Both copies of the table are there.
    assert_eq!(&image[512..520], b"EFI PART");
    assert_eq!(&image[image.len() - 512..image.len() - 504], b"EFI PART");
}

#[test]
fn a_bundle_without_a_system_is_refused_with_the_remedy() {
    let fixture = Fixture::new(false);
    let refused = fixture.medium(Shape::Iso, "m.iso").unwrap_err();
    assert!(matches!(refused, MediaError::NoSystem { .. }), "{refused}");
    assert!(refused.to_string().contains("--system"), "{refused}");
}

#[test]
fn nothing_is_written_when_the_bundle_is_damaged_or_the_output_is_no_file() {
    let fixture = Fixture::new(true);
    let place = fixture.dir.path().join("folder");
    std::fs::create_dir(&place).unwrap();
    let refused = fixture.medium(Shape::Disk, "folder").unwrap_err();
    assert!(matches!(refused, MediaError::NotAFile { .. }), "{refused}");

    let good = fixture.medium(Shape::Iso, "m.iso").unwrap();
    let before = std::fs::read(&good).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(&fixture.bundle).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
    let refused = fixture.medium(Shape::Iso, "m.iso").unwrap_err();
    assert!(matches!(refused, MediaError::Bundle(BundleError::Entry { .. })), "{refused}");
    assert!(std::fs::read(&good).unwrap() == before, "the older medium is as it was");
    let left: Vec<_> = std::fs::read_dir(fixture.dir.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn a_medium_never_takes_the_place_of_what_it_is_made_of() {
    let fixture = Fixture::new(true);
    let dir = fixture.dir.path();
    std::fs::write(dir.join(KEYS), fixture.trusted.public_pem().unwrap()).unwrap();
    symlink(&fixture.bundle, dir.join("link")).unwrap();
    std::fs::hard_link(dir.join(KEYS), dir.join("second-name")).unwrap();
    let before = std::fs::read(&fixture.bundle).unwrap();
    for name in ["b.hfb", "link", KEYS, "second-name"] {
        let refused = fixture.medium(Shape::Iso, name).unwrap_err();
        assert!(matches!(refused, MediaError::OverInput { .. }), "{name}: {refused}");
    }
    assert!(std::fs::read(&fixture.bundle).unwrap() == before, "the bundle is as it was");
    let left: Vec<_> = std::fs::read_dir(dir).unwrap().flatten().collect();
    assert_eq!(left.len(), 4, "{left:?}");
}
