//! Bundles that must not be taken, at every door: `init`, `join` and `registry import`.
//! Each is refused with one error that names what is wrong, and nothing is written.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Lab, Outcome, binary, bundle, failed, succeed};
use crate::install::{BUNDLE, Refusal, TRUST, join_command, refused, refused_beside, token};
use crate::scenarios::interrupted::{CLUSTER, init_command, write_cluster};
use crate::test_bundle;

/// Where the bad bundle and the other keys lie on the host under test.
const BAD: &str = "/var/seed/bad.hfb";
const OTHER_KEY: &str = "/var/seed/other.pub";
/// The real contents under a smaller serial, and the key that signed them.
const OLDER: &str = "/var/seed/older.hfb";
const OLDER_KEY: &str = "/var/seed/older.pub";

/// One way of being wrong, and what the error must say beside the file's name.
struct Damage {
    bytes: Vec<u8>,
    says: Vec<String>,
}

/// A flipped bit in each kind of place, and cuts.
fn damages() -> Result<Vec<Damage>, libtest_mimic::Failed> {
    let original = fs::read(bundle()).map_err(|error| failed("read the bundle", error))?;
    let members = test_bundle::members()?;
    let mut damages = Vec::new();
    let mut flip = |at: usize, says: String| {
        let mut bytes = original.clone();
        bytes[at] ^= 0x10;
        damages.push(Damage { bytes, says: vec![says] });
    };
    let entries: Vec<_> = members.iter().filter(|(name, ..)| name.ends_with(".zst")).collect();
    for (name, at, length) in [entries[0], entries[entries.len() / 2], entries[entries.len() - 1]] {
        let entry = name.trim_end_matches(".zst");
        flip(at + length / 2, format!("entry {entry} "));
    }
    let (_, manifest, length) = &members[0];
    flip(manifest + length / 2, "its manifest was altered".into());
    flip(members[1].1 + 7, "signature".into());
    for keep in [original.len() - 1, original.len() / 2, 100_000] {
        let says = vec!["is truncated".into(), format!("{keep} bytes of {}", original.len())];
        damages.push(Damage { bytes: original[..keep].to_vec(), says });
    }
    for keep in [10, 0] {
        let says = vec!["is not a holdfast bundle".into()];
        damages.push(Damage { bytes: original[..keep].to_vec(), says });
    }
    Ok(damages)
}

/// Which door is tried: the command with a bundle and a key in it.
type Door<'a> = &'a dyn Fn(&'a str, &'a str) -> Vec<&'a str>;

/// The directory of the host's disk where the bad files are put.
fn seed(lab: &Lab, node: &str) -> Result<PathBuf, libtest_mimic::Failed> {
    let dir = lab.root(node).join("var/seed");
    fs::create_dir_all(&dir).map_err(|error| failed("seed folder", error))?;
    Ok(dir)
}

/// All damages and the wrong key. `calm` says that nothing else is at work on the host.
fn refuses_damage(lab: &Lab, node: &str, door: Door<'_>, calm: bool) -> Outcome {
    let dir = seed(lab, node)?;
    let refused = |command: &[&str], says: &[&str]| {
        let wanted = Refusal { exit: 1, says };
        if calm {
            return refused(lab, node, command, wanted);
        }
        // A running node writes its store; what it was made of must stay.
        refused_beside(lab, node, command, wanted, |state| {
            state.only(&["/etc/", "/opt/", "/registry", "mount ", "link ", "rules "])
        })
    };
    for damage in damages()? {
        fs::write(dir.join("bad.hfb"), &damage.bytes).map_err(|e| failed("bad bundle", e))?;
        let mut says: Vec<&str> = vec![BAD];
        says.extend(damage.says.iter().map(String::as_str));
        refused(&door(BAD, TRUST), &says)?;
    }
    fs::copy(bundle(), dir.join("bad.hfb")).map_err(|error| failed("copy the bundle", error))?;
    other_key(&dir)?;
    refused(&door(BAD, OTHER_KEY), &[BAD, "is signed by key", "not trusted"])?;
    fs::remove_file(dir.join("bad.hfb")).map_err(|error| failed("remove the bundle", error))
}

fn other_key(dir: &Path) -> Outcome {
    if dir.join("other.pub").exists() {
        return Ok(());
    }
    let place = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let key = place.path().join("other");
    succeed(std::process::Command::new(binary()).args(["bundle", "keygen"]).arg(&key))?;
    let copied = fs::copy(place.path().join("other.pub"), dir.join("other.pub"));
    copied.map(drop).map_err(|error| failed("copy the other key", error))
}

/// Lays the older bundle down on a host.
fn older(lab: &Lab, node: &str) -> Outcome {
    let place = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let serial = test_bundle::original()?.serial();
    let output = place.path().join("older.hfb");
    let public = test_bundle::with_serial(&output, serial - 1)?;
    let dir = seed(lab, node)?;
    fs::copy(&output, dir.join("older.hfb"))
        .and_then(|_| fs::copy(&public, dir.join("older.pub")))
        .map(drop)
        .map_err(|error| failed("lay the older bundle down", error))
}

fn refuses_older(lab: &Lab, node: &str, door: Door<'_>) -> Outcome {
    let serial = test_bundle::original()?.serial();
    let says = [format!("serial {}", serial - 1), format!("serial {serial}")];
    let says = [says[0].as_str(), says[1].as_str(), "nothing was written", "newer"];
    let wanted = Refusal { exit: 1, says: &says };
    refused_beside(lab, node, &door(OLDER, OLDER_KEY), wanted, |state| {
        state.only(&["/etc/", "/opt/", "/registry", "mount ", "link ", "rules "])
    })
}

fn import_command<'a>(bundle: &'a str, trust: &'a str) -> Vec<&'a str> {
    vec!["holdfast", "registry", "import", "--bundle", bundle, "--trust", trust]
}

pub(crate) fn all_doors() -> Outcome {
    let lab = Lab::up("three", true)?;
    write_cluster(&lab, "a1", CLUSTER)?;
    refuses_damage(&lab, "a1", &init_command, true)?;
    let absent = Refusal { exit: 64, says: &["there is no file /var/seed/missing.hfb"] };
    refused(&lab, "a1", &init_command("/var/seed/missing.hfb", TRUST), absent)?;

    succeed(&mut lab.on("a1", &init_command(BUNDLE, TRUST)))?;
    refuses_damage(&lab, "a1", &import_command, false)?;
    older(&lab, "a1")?;
    refuses_older(&lab, "a1", &init_command)?;
    refuses_older(&lab, "a1", &import_command)?;

    let token = token(&lab, "a1", &[])?;
    let door = |bundle, trust| {
        let mut command = join_command("b1", &token, bundle);
        command.retain(|word| *word != TRUST);
        command.push(trust);
        command
    };
    refuses_damage(&lab, "b1", &door, true)?;
    succeed(&mut lab.on("b1", &join_command("b1", &token, BUNDLE)))?;
    older(&lab, "b1")?;
    refuses_older(&lab, "b1", &door)
}
