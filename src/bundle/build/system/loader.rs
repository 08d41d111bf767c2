//! GRUB's core images, made of its modules: one for each way in which firmware starts things.
//!
//! | image | read by | from |
//! |---|---|---|
//! | `cd` | BIOS | El Torito; from a stick too, behind `hybrid` |
//! | `hybrid` | BIOS | the first sector of an ISO that was written to a stick |
//! | `disk`, behind `boot` | BIOS | a partition of its own on a disk |
//! | `uefi` | UEFI | a FAT file system |
//!
//! Why one configuration in all of them: each looks for the medium by a file that only it
//! has, so that the same images serve any disk and any order of disks.

use std::path::Path;

use super::super::error::{BuildError, io};
use super::super::tree;
use super::tools::Tools;
use crate::model::system_recipe::LoaderRecipe;
use crate::sys::bundle_file;

/// What every image does first.
const FIRST: &str = "search --no-floppy --set=root --file /holdfast/bundle.hfb\n\
                     set prefix=($root)/boot/grub\n\
                     configfile ($root)/boot/grub/grub.cfg\n";

/// The images by name.
pub(super) fn images(
    recipe: &LoaderRecipe,
    tools: &Tools,
    work: &Path,
) -> Result<Vec<(&'static str, Vec<u8>)>, BuildError> {
    let first = work.join("first.cfg");
    tree::write_with(&first, 0o644, FIRST.as_bytes())?;
    let mut images = Vec::new();
    for (name, format, folder, more) in [
        ("cd", "i386-pc-eltorito", "i386-pc", &recipe.bios_modules),
        ("disk", "i386-pc", "i386-pc", &recipe.bios_modules),
        ("uefi", "x86_64-efi", "x86_64-efi", &recipe.uefi_modules),
    ] {
        let modules = tools.path(&format!("lib/grub/{folder}"));
        let output = work.join(name);
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (modules, first, made) = (text(&modules), text(&first), text(&output));
        let mut arguments =
            vec!["-d", &modules, "-O", format, "-p", "/boot/grub", "-c", &first, "-o", &made];
        arguments.extend(recipe.modules.iter().chain(more).map(String::as_str));
        tools.run("grub-mkimage", &arguments, work)?;
        let bytes = bundle_file::read(&output).map_err(|source| io("read", &output, source))?;
        images.push((name, bytes));
    }
    images.push(("boot", tools.file("lib/grub/i386-pc/boot.img")?));
    images.push(("hybrid", tools.file("lib/grub/i386-pc/boot_hybrid.img")?));
    Ok(images)
}
