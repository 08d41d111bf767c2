//! Empty machines start from media that the shipped program makes of the shipped bundle: by
//! BIOS and by UEFI, from a CD and from a stick, and from a damaged one not further than to
//! the line that says so.
//!
//! Not here: what media are made of, byte for byte (`src/bundle/media/tests.rs`).

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Failed;

use crate::bare::{Bare, Drive, Firmware};
use crate::failure::{Outcome, ensure, failed};
use crate::medium::{from_root, program};
use crate::running::succeed;
use crate::steps::step;

/// What the last line of the screen tells.
const SCREEN: &str = "Nothing was written to any disk.";

/// What asks for an answer.
const PROMPT: &str = "Enter restarts this machine";

/// The CD's way, by BIOS.
pub(crate) fn iso_bios() -> Outcome {
    starts("iso-bios", "iso", Firmware::Bios, Drive::Cd)
}

/// The same image as a stick, by UEFI.
pub(crate) fn iso_uefi() -> Outcome {
    starts("iso-uefi", "iso", Firmware::Uefi, Drive::Stick)
}

/// The disk image as a stick, by BIOS; its UEFI way is that of the ISO.
pub(crate) fn disk_bios() -> Outcome {
    starts("disk-bios", "disk", Firmware::Bios, Drive::Stick)
}

fn starts(name: &str, kind: &str, firmware: Firmware, drive: Drive) -> Outcome {
    let dir = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let medium = step("the medium", || make(kind, dir.path()))?;
    let mut machine = Bare::power_on(name, firmware, drive, &medium)?;
    step("power-on to the kernel", || machine.says("Holdfast is starting."))?;
    step("the bundle is verified", || machine.says("every entry as signed."))?;
    step("the screen", || machine.says(SCREEN))?;
    let said = machine.said()?;
    let firmware = if firmware == Firmware::Uefi { "UEFI" } else { "BIOS" };
    for part in [
        format!("started by {firmware}, 1 processors"),
        "serial HFTEST1, nothing found at its beginning and end".to_owned(),
        ", e1000e".to_owned(),
        "Nothing keeps this machine from serving.".to_owned(),
    ] {
        ensure(said.contains(&part), || format!("not on the screen: {part}\n{said}"))?;
    }
    ensure(!said.contains("does not take the module"), || said.clone())?;
    // What is typed before it is discarded.
    step("the prompt", || machine.says(PROMPT))?;
    step("a wrong answer is told", || {
        machine.type_line("on")?;
        machine.says("\"on\" is neither.")
    })?;
    step("it turns off", || {
        machine.type_line("off")?;
        machine.turns_off()
    })?;
    machine.disk_is_untouched()
}

/// One bit of the bundle is not as it was written.
pub(crate) fn bad_medium() -> Outcome {
    let dir = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let medium = make("iso", dir.path())?;
    let entry = damage(&medium)?;
    let mut machine = Bare::power_on("bad-medium", Firmware::Bios, Drive::Cd, &medium)?;
    step("it says what is wrong", || machine.says("cannot start from this medium: "))?;
    step("it waits for a person", || machine.says(PROMPT))?;
    let said = machine.said()?;
    let line = said.lines().find(|line| line.contains("cannot start from")).unwrap_or_default();
    ensure(line.contains(&entry) && line.contains("is wrong"), || format!("not {entry}: {line}"))?;
    ensure(!said.contains(SCREEN), || format!("it went on: {said}"))?;
    machine.disk_is_untouched()
}

/// Makes a medium as an engineer does.
fn make(kind: &str, dir: &Path) -> Result<PathBuf, Failed> {
    let output = dir.join("medium");
    let mut command = Command::new(program());
    command.args(["media", kind, "--bundle"]).arg(bundle());
    command.arg("--trust").arg(from_root("HOLDFAST_TRUST", ".build/signing.key.pub"));
    succeed(command.arg("-o").arg(&output))?;
    Ok(output)
}

fn bundle() -> PathBuf {
    from_root("HOLDFAST_SYSTEM_BUNDLE", ".build/holdfast-system.hfb")
}

/// Flips a bit in the middle of the bundle's largest entry, on the medium; answers its name.
fn damage(medium: &Path) -> Result<String, Failed> {
    let mut inspect = Command::new(program());
    inspect.args(["bundle", "inspect", "-o", "json"]).arg(bundle());
    inspect.arg("--trust").arg(from_root("HOLDFAST_TRUST", ".build/signing.key.pub"));
    let text = succeed(&mut inspect)?;
    let parsed: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| failed("inspect", error))?;
    let entries = parsed["manifest"]["entries"].as_array().ok_or("inspect lists no entries")?;
    let size = |entry: &serde_json::Value| entry["body"]["file"]["packedSize"].as_u64();
    let largest = entries.iter().max_by_key(|entry| size(entry)).ok_or("no entries")?;
    let name = largest["name"].as_str().ok_or("an entry without a name")?.to_owned();
    // Where the entry's frame stands on the medium: its bytes are looked for.
    let mut archive = Vec::new();
    let mut file = fs::File::open(bundle()).map_err(|error| failed("bundle", error))?;
    file.read_to_end(&mut archive).map_err(|error| failed("bundle", error))?;
    let image = fs::read(medium).map_err(|error| failed(medium.display(), error))?;
    let head = &archive[..4096];
    let start = image
        .chunks(2048)
        .position(|sector| head.starts_with(sector))
        .ok_or("the bundle is not on the medium in one piece")?
        * 2048;
    let member = format!("{name}.zst");
    let header = archive
        .chunks(512)
        .position(|block| block.starts_with(member.as_bytes()) && block[member.len()] == 0)
        .ok_or("the entry has no place in the bundle")?;
    let middle = size(largest).unwrap_or_default() / 2;
    let at = start as u64 + (header as u64 + 1) * 512 + middle;
    let bit = image[usize::try_from(at).map_err(|error| failed("place", error))?] ^ 1;
    let medium = fs::File::options().write(true).open(medium);
    let medium = medium.map_err(|error| failed("open the medium", error))?;
    medium.write_all_at(&[bit], at).map_err(|error| failed("damage the medium", error))?;
    Ok(name)
}
