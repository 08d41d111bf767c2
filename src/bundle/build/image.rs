//! Builds OCI images from recipes: no network, no engine, the same bytes every time.
//!
//! ```text
//!  image.yaml + files ─► layer (tar, gzip) ─► config ─► manifest ─► index.json
//! ```
//!
//! Why gzip: it is what every engine and registry reads, Docker 20.10 included.
//! Invariants: times are zero, owners root, names and JSON keys sorted; so a digest says
//! what is inside and nothing of who built it when.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, HistoryBuilder, ImageConfigurationBuilder,
    ImageIndexBuilder, ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, RootFsBuilder,
    Sha256Digest,
};
use sha2::{Digest, Sha256};

use super::error::{BuildError, io};
use super::lock::load_yaml;
use crate::bundle::images::{BLOB_FOLDER, INDEX_ENTRY, REF_NAME};
use crate::bundle::write::{Input, InputBody};
use crate::model::bundle_recipe::{ImageFile, ImageRecipe};
use crate::sys::bundle_file;

/// The time that images say they were made at.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// An image as blobs.
#[derive(Clone, Debug)]
pub struct BuiltImage {
    /// `NAME:TAG`.
    pub reference: String,
    /// `sha256:…` of the manifest.
    pub digest: String,
    /// Manifest, config and layer by hex digest.
    pub blobs: BTreeMap<String, Vec<u8>>,
    descriptor: Descriptor,
}

/// Builds the image of the recipe in `folder`; `programs` holds the programs it names.
pub fn build_image(folder: &Path, programs: &Path) -> Result<BuiltImage, BuildError> {
    let path = folder.join("image.yaml");
    let recipe: ImageRecipe = load_yaml(&path)?;
    let wrong = |reason: String| BuildError::Recipe { recipe: path.clone(), reason };
    check(&recipe).map_err(wrong)?;
    let mut files = BTreeMap::new();
    for file in &recipe.files {
        let source = source(file, folder, programs).map_err(wrong)?;
        let bytes = bundle_file::read(&source).map_err(|e| io("read", &source, e))?;
        let place = file.to.trim_start_matches('/').to_string();
        if files.insert(place, (file.mode.0, bytes)).is_some() {
            return Err(wrong(format!("{} stands there twice", file.to)));
        }
    }
    let tar = layer(&files).map_err(|source| io("pack a layer of", &path, source))?;
    let gzip = compress(&tar).map_err(|source| io("pack a layer of", &path, source))?;
    assemble(&recipe, &tar, gzip).map_err(wrong)
}

fn check(recipe: &ImageRecipe) -> Result<(), String> {
    let name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
    if recipe.name.is_empty() || !recipe.name.chars().all(name) {
        return Err(format!("name {:?} is not a repository name", recipe.name));
    }
    let tag = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if recipe.tag.is_empty() || !recipe.tag.chars().all(tag) {
        return Err(format!("tag {:?} is not a tag", recipe.tag));
    }
    if recipe.entrypoint.is_empty() {
        return Err("entrypoint is empty".into());
    }
    Ok(())
}

fn source(file: &ImageFile, folder: &Path, programs: &Path) -> Result<PathBuf, String> {
    let inside = file.to.strip_prefix('/').map(crate::model::bundle_manifest::name_problem);
    if inside != Some(None) {
        return Err(format!("to {:?} is not a clean absolute path", file.to));
    }
    match (&file.program, &file.from) {
        (Some(program), None) if !program.contains('/') => Ok(programs.join(program)),
        (None, Some(from)) => Ok(folder.join(from)),
        _ => Err(format!("{} needs either a program's name or a file in `from`", file.to)),
    }
}

/// The layer's tar: folders, then files, all sorted.
fn layer(files: &BTreeMap<String, (u32, Vec<u8>)>) -> std::io::Result<Vec<u8>> {
    let mut folders = BTreeSet::new();
    for place in files.keys() {
        let above = Path::new(place).ancestors().skip(1);
        let named = above.filter(|folder| !folder.as_os_str().is_empty());
        folders.extend(named.map(|folder| format!("{}/", folder.display())));
    }
    let mut archive = tar::Builder::new(Vec::new());
    for folder in &folders {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        archive.append_data(&mut header, folder, std::io::empty())?;
    }
    for (place, (mode, bytes)) in files {
        let mut header = header(tar::EntryType::Regular, *mode, bytes.len() as u64);
        archive.append_data(&mut header, place, bytes.as_slice())?;
    }
    archive.into_inner()
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn compress(tar: &[u8]) -> std::io::Result<Vec<u8>> {
    // 255 is "unknown system": the default names the building one.
    let builder = GzBuilder::new().mtime(0).operating_system(255);
    let mut encoder = builder.write(Vec::new(), Compression::new(6));
    encoder.write_all(tar)?;
    encoder.finish()
}

fn assemble(recipe: &ImageRecipe, tar: &[u8], gzip: Vec<u8>) -> Result<BuiltImage, String> {
    let text = |error: oci_spec::OciSpecError| error.to_string();
    let mut blobs = BTreeMap::new();
    let layer = add(&mut blobs, MediaType::ImageLayerGzip, gzip)?;
    let config = config_json(recipe, tar)?;
    let config = add(&mut blobs, MediaType::ImageConfig, config)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(vec![layer])
        .build()
        .map_err(text)?;
    let mut descriptor = add(&mut blobs, MediaType::ImageManifest, json(&manifest)?)?;
    let reference = recipe.reference();
    let name = HashMap::from([(REF_NAME.to_string(), reference.clone())]);
    descriptor.set_annotations(Some(name));
    Ok(BuiltImage { reference, digest: descriptor.digest().to_string(), blobs, descriptor })
}

fn config_json(recipe: &ImageRecipe, tar: &[u8]) -> Result<Vec<u8>, String> {
    let text = |error: oci_spec::OciSpecError| error.to_string();
    let env: Vec<String> =
        recipe.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut run = ConfigBuilder::default()
        .entrypoint(recipe.entrypoint.clone())
        .user(recipe.user.clone())
        .working_dir("/")
        .env(env)
        .build()
        .map_err(text)?;
    if !recipe.command.is_empty() {
        run.set_cmd(Some(recipe.command.clone()));
    }
    if !recipe.ports.is_empty() {
        run.set_exposed_ports(Some(recipe.ports.clone()));
    }
    if !recipe.labels.is_empty() {
        run.set_labels(Some(recipe.labels.clone().into_iter().collect()));
    }
    let layers = RootFsBuilder::default()
        .typ("layers")
        .diff_ids(vec![format!("sha256:{}", hex_digest(tar))])
        .build()
        .map_err(text)?;
    let history = HistoryBuilder::default()
        .created(CREATED)
        .created_by(format!("holdfast image {}", recipe.reference()))
        .build()
        .map_err(text)?;
    let config = ImageConfigurationBuilder::default()
        .created(CREATED)
        .architecture(Arch::Amd64)
        .os(Os::Linux)
        .config(run)
        .rootfs(layers)
        .history(vec![history])
        .build()
        .map_err(text)?;
    json(&config)
}

/// Adds a blob and returns its descriptor.
fn add(
    blobs: &mut BTreeMap<String, Vec<u8>>,
    kind: MediaType,
    bytes: Vec<u8>,
) -> Result<Descriptor, String> {
    let hex = hex_digest(&bytes);
    let digest: Sha256Digest = hex.parse().map_err(|e: oci_spec::OciSpecError| e.to_string())?;
    let size = bytes.len() as u64;
    blobs.insert(hex, bytes);
    let builder = DescriptorBuilder::default().media_type(kind).digest(digest).size(size);
    builder.build().map_err(|error| error.to_string())
}

/// JSON with sorted keys; oci-spec keeps maps in hash order.
fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, String> {
    let mut tree = serde_json::to_value(value).map_err(|error| error.to_string())?;
    tree.sort_all_objects();
    serde_json::to_vec(&tree).map_err(|error| error.to_string())
}

fn hex_digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The images as an OCI layout, ready to go into a bundle below `images/`.
pub fn layout_inputs(images: &[BuiltImage]) -> Result<Vec<Input>, BuildError> {
    let wrong = |reason: String| BuildError::Recipe { recipe: PathBuf::from(INDEX_ENTRY), reason };
    let input = |name: String, bytes: Vec<u8>| Input {
        name,
        body: InputBody::Bytes { bytes, mode: 0o644 },
    };
    let mut images: Vec<&BuiltImage> = images.iter().collect();
    images.sort_by(|a, b| a.reference.cmp(&b.reference));
    if let Some(twice) = images.windows(2).find(|pair| pair[0].reference == pair[1].reference) {
        return Err(wrong(format!("{} is built twice", twice[0].reference)));
    }
    let index = ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageIndex)
        .manifests(images.iter().map(|image| image.descriptor.clone()).collect::<Vec<_>>())
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let layout = OciLayoutBuilder::default().image_layout_version("1.0.0").build();
    let layout = layout.map_err(|error| wrong(error.to_string()))?;
    let mut blobs = BTreeMap::new();
    for image in images {
        blobs.extend(image.blobs.clone());
    }
    let mut inputs = vec![
        input(INDEX_ENTRY.into(), json(&index).map_err(wrong)?),
        input("images/oci-layout".into(), json(&layout).map_err(wrong)?),
    ];
    let blob = |(hex, bytes): (String, Vec<u8>)| input(format!("{BLOB_FOLDER}/{hex}"), bytes);
    inputs.extend(blobs.into_iter().map(blob));
    Ok(inputs)
}
