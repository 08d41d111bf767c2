//! Bundles that the release process would not make: older ones, ones with other images,
//! damaged ones.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use holdfast::bundle::build::{build_image, layout_inputs};
use holdfast::bundle::{
    Bundle, Input, InputBody, KeyPair, Release, Silent, TrustedKeys, write_bundle,
};
use holdfast::model::bundle_manifest::EntryBody;
use libtest_mimic::Failed;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::harness::{bundle, failed, succeed, trusted_key};

/// Level of compression; these bundles are read once.
const QUICK: i32 = 1;

/// The real bundle.
pub(crate) fn original() -> Result<Bundle, Failed> {
    let trusted =
        TrustedKeys::load(&[trusted_key()]).map_err(|error| failed("trusted key", error))?;
    Bundle::open(&bundle(), &trusted).map_err(|error| failed("open the bundle", error))
}

/// Makes a key beside `output` and returns it with the public key's path.
fn new_key(output: &Path) -> Result<(KeyPair, PathBuf), Failed> {
    let key = KeyPair::generate().map_err(|error| failed("make a key", error))?;
    let place = output.with_extension("key");
    let public = key.save(&place).map_err(|error| failed("save the key", error))?;
    Ok((key, public))
}

/// The same contents as the real bundle under another serial and a new key, whose public
/// part is returned.
pub(crate) fn with_serial(output: &Path, serial: u64) -> Result<PathBuf, Failed> {
    let original = original()?;
    let mut inputs = Vec::new();
    for entry in &original.manifest().entries {
        let body = match &entry.body {
            EntryBody::File { mode, .. } => {
                let bytes = original.read_entry(&entry.name);
                let bytes = bytes.map_err(|error| failed(&entry.name, error))?;
                InputBody::Bytes { bytes, mode: mode.0 }
            }
            EntryBody::Link { target } => InputBody::Link { target: target.clone() },
        };
        inputs.push(Input { name: entry.name.clone(), body });
    }
    write(output, inputs, serial)
}

/// A bundle that holds nothing but images `NAME-0:1` … with one random layer each; returns
/// the public key's path.
pub(crate) fn with_images(
    output: &Path,
    name: &str,
    count: usize,
    layer_bytes: usize,
) -> Result<PathBuf, Failed> {
    let work = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let mut random = SmallRng::seed_from_u64(rand::random());
    let mut images = Vec::new();
    for number in 0..count {
        let folder = work.path().join(number.to_string());
        let mut bytes = vec![0; layer_bytes];
        random.fill_bytes(&mut bytes);
        let recipe = format!(
            "name: {name}-{number}\ntag: \"1\"\nfiles: [{{from: content, to: /content, mode: \
             \"0644\"}}]\nentrypoint: [/content]\nuser: \"0:0\"\n"
        );
        let laid = fs::create_dir(&folder)
            .and_then(|()| fs::write(folder.join("content"), &bytes))
            .and_then(|()| fs::write(folder.join("image.yaml"), recipe));
        laid.map_err(|error| failed("lay an image's recipe", error))?;
        let built = build_image(&folder, work.path());
        images.push(built.map_err(|error| failed("build an image", error))?);
    }
    let inputs = layout_inputs(&images).map_err(|error| failed("lay the images out", error))?;
    write(output, inputs, original()?.serial())
}

/// A bundle with the image `NAME-0:1` of this machine's own shell and what a look around
/// and `kubectl cp` need, with the libraries that those are linked to.
pub(crate) fn with_tools(output: &Path, name: &str) -> Result<PathBuf, Failed> {
    let work = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let folder = work.path().join("tools");
    fs::create_dir(&folder).map_err(|error| failed("image folder", error))?;
    let mut places = BTreeSet::new();
    for tool in ["sh", "tar", "cat", "sleep", "stty", "md5sum", "ls", "mkdir"] {
        let place = format!("/bin/{tool}");
        let found = if Path::new(&place).exists() { place } else { format!("/usr/bin/{tool}") };
        let linked = succeed(Command::new("ldd").arg(&found))?;
        places.extend(
            linked.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned),
        );
        places.insert(found);
    }
    let mut files = String::new();
    for (number, place) in places.iter().enumerate() {
        fs::copy(place, folder.join(number.to_string())).map_err(|e| failed(place.clone(), e))?;
        // A tool is found in one place, whatever this machine has made of /usr.
        let to = place.replace("/usr/bin/", "/bin/");
        files.push_str(&format!("  - {{from: \"{number}\", to: {to}, mode: \"0755\"}}\n"));
    }
    let recipe = format!(
        "name: {name}-0\ntag: \"1\"\nfiles:\n{files}entrypoint: [/bin/sh]\nuser: \"0:0\"\n"
    );
    fs::write(folder.join("image.yaml"), recipe).map_err(|error| failed("recipe", error))?;
    let built =
        build_image(&folder, work.path()).map_err(|error| failed("build an image", error))?;
    let inputs = layout_inputs(&[built]).map_err(|error| failed("lay the image out", error))?;
    write(output, inputs, original()?.serial())
}

fn write(output: &Path, inputs: Vec<Input>, serial: u64) -> Result<PathBuf, Failed> {
    let original = original()?;
    let manifest = original.manifest();
    let release = Release {
        version: manifest.version.clone(),
        serial,
        architecture: manifest.architecture.clone(),
        engine_prefix: manifest.engine_prefix.clone(),
        packages: manifest.packages.clone(),
        compression_level: QUICK,
    };
    let (key, public) = new_key(output)?;
    let written = write_bundle(output, inputs, &release, &key, &Silent);
    written.map_err(|error| failed("write a bundle", error))?;
    Ok(public)
}

/// Where the members of the real bundle's tar lie: name, first byte, length.
pub(crate) fn members() -> Result<Vec<(String, usize, usize)>, Failed> {
    let problem = |error: std::io::Error| failed("read the bundle as a tar", error);
    let file = fs::File::open(bundle()).map_err(problem)?;
    let mut archive = tar::Archive::new(file);
    let mut found = Vec::new();
    for member in archive.entries().map_err(problem)? {
        let member = member.map_err(problem)?;
        let name = member.path().map_err(problem)?.display().to_string();
        let (at, length) = (member.raw_file_position(), member.size());
        found.push((name, usize::try_from(at)?, usize::try_from(length)?));
    }
    Ok(found)
}
