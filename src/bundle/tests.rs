//! What a bundle promises, on small synthetic inputs.

use std::io::Read;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::build::{build_image, layout_inputs};
use super::write::{Input, InputBody, Release, write_bundle};
use super::*;
use crate::model::bundle_manifest::EntryBody;

struct Fixture {
    dir: tempfile::TempDir,
    key: KeyPair,
    trusted: TrustedKeys,
}

fn file(name: &str, bytes: Vec<u8>, mode: u32) -> Input {
    Input { name: name.into(), body: InputBody::Bytes { bytes, mode } }
}

fn release() -> Release {
    Release {
        version: "1.2.3".into(),
        serial: 7,
        architecture: "amd64".into(),
        engine_prefix: "/opt/holdfast/engine".into(),
        packages: vec![],
        compression_level: 3,
    }
}

fn recipe(dir: &Path) -> PathBuf {
    let folder = dir.join("recipe");
    std::fs::create_dir_all(&folder).unwrap();
    let text = "name: a/b\ntag: \"1\"\nfiles:\n- {from: data, to: /x/y/data, mode: \"0640\"}\n\
                entrypoint: [/x]\nuser: \"1:1\"\nports: [80/tcp, 81/tcp]\n\
                env: {B: b, A: a}\nlabels: {z: z, y: y, x: x}\n";
    std::fs::write(folder.join("image.yaml"), text).unwrap();
    std::fs::write(folder.join("data"), b"data").unwrap();
    folder
}

fn inputs(dir: &Path) -> Vec<Input> {
    let noise: Vec<u8> =
        (0..70_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let link = InputBody::Link { target: "dockerd".into() };
    let mut inputs = vec![
        file("engine/bin/dockerd", noise, 0o755),
        Input { name: "engine/bin/alias".into(), body: link },
        file("engine/lib/empty", vec![], 0o644),
        file("engine/lib/libc.so.6", b"text ".repeat(5000), 0o644),
        file("playbooks/site.yaml", b"- hosts: all\n".to_vec(), 0o644),
        file("bin/holdfast", b"binary".repeat(99), 0o755),
    ];
    let image = build_image(&recipe(dir), dir).unwrap();
    inputs.extend(layout_inputs(&[image]).unwrap());
    inputs
}

impl Fixture {
    fn new() -> Self {
        let key = KeyPair::from_seed([7; 32]);
        let mut trusted = TrustedKeys::default();
        trusted.add_pem(&key.public_pem().unwrap()).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), key, trusted }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        write_bundle(&path, inputs(self.dir.path()), &release(), &self.key, &Silent).unwrap();
        path
    }

    fn open(&self, path: &Path) -> Result<Bundle, BundleError> {
        Bundle::open(path, &self.trusted)
    }

    /// Opens and verifies bytes that are not the bundle that was written.
    fn check(&self, bytes: &[u8]) -> Result<(), BundleError> {
        let path = self.path("changed");
        std::fs::write(&path, bytes).unwrap();
        self.open(&path)?.verify_all(&Silent)
    }
}

#[test]
fn two_builds_of_the_same_inputs_are_identical() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.write("a"), fixture.write("b"));
    assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap());
    // Nothing of the work is left beside them.
    let mut names: Vec<_> =
        std::fs::read_dir(fixture.dir.path()).unwrap().map(|i| i.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "b", "recipe"]);
}

#[test]
fn a_good_bundle_gives_back_what_went_in() {
    let fixture = Fixture::new();
    let bundle = fixture.open(&fixture.write("b")).unwrap();
    bundle.verify_all(&Silent).unwrap();
    assert_eq!((bundle.version(), bundle.serial()), ("1.2.3", 7));
    assert_eq!(bundle.signer(), fixture.key.id());
    assert_eq!(bundle.read_entry("engine/lib/libc.so.6").unwrap(), b"text ".repeat(5000));
    assert_eq!(bundle.read_entry("engine/lib/empty").unwrap(), b"");
    let playbooks = bundle.playbooks().unwrap();
    assert_eq!(playbooks, [("site.yaml".to_string(), b"- hosts: all\n".to_vec())]);
    assert!(matches!(bundle.read_entry("no"), Err(BundleError::NoEntry { .. })));
    assert_eq!(bundle.space_needed().binary, 4096);
}

#[test]
fn tar_reads_a_bundle_and_finds_manifest_and_signature_first() {
    let fixture = Fixture::new();
    let path = fixture.write("b");
    let bundle = fixture.open(&path).unwrap();
    let mut archive = tar::Archive::new(std::fs::File::open(&path).unwrap());
    let mut names = Vec::new();
    for item in archive.entries().unwrap() {
        let mut item = item.unwrap();
        let name = item.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        item.read_to_end(&mut bytes).unwrap();
        if let Some(entry) = name.strip_suffix(".zst") {
            let plain = zstd::decode_all(bytes.as_slice()).unwrap();
            assert!(plain == bundle.read_entry(entry).unwrap(), "{entry}");
        }
        names.push(name);
    }
    assert_eq!(names[..2], ["manifest.json", "manifest.sig"]);
    let files = bundle.manifest().entries.iter();
    let files = files.filter(|entry| matches!(entry.body, EntryBody::File { .. })).count();
    assert_eq!(names.len(), 2 + files);
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let fixture = Fixture::new();
    let good = std::fs::read(fixture.write("b")).unwrap();
    fixture.check(&good).unwrap();
    let seed = 0x5eed_0001;
    let mut random = StdRng::seed_from_u64(seed);
    // Every tar block once, so that every section, header and padding is hit.
    for block in (0..good.len()).step_by(512) {
        let mut bad = good.clone();
        let at = block + random.random_range(0..512);
        bad[at] ^= 1 << random.random_range(0..8);
        let found = fixture.check(&bad);
        assert!(found.is_err(), "seed {seed:#x}: a flip at {at} was not found");
    }
}

#[test]
fn a_wrong_entry_is_named() {
    let fixture = Fixture::new();
    let path = fixture.write("b");
    let good = std::fs::read(&path).unwrap();
    let bundle = fixture.open(&path).unwrap();
    let names: Vec<String> =
        bundle.manifest().entries.iter().map(|entry| entry.name.clone()).collect();
    let (offsets, _) = {
        let size = tar::Header::from_byte_slice(&good[..512]).entry_size().unwrap();
        format::layout(bundle.manifest(), size)
    };
    for (index, name) in names.iter().enumerate().filter(|(index, _)| offsets[*index] != 0) {
        let mut bad = good.clone();
        bad[offsets[index] as usize + 5] ^= 0x10;
        match fixture.check(&bad) {
            Err(BundleError::Entry { name: found, .. }) => assert_eq!(&found, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_truncated_or_longer_file_is_refused() {
    let fixture = Fixture::new();
    let good = std::fs::read(fixture.write("b")).unwrap();
    let seed = 0x5eed_0002;
    let mut random = StdRng::seed_from_u64(seed);
    let mut lengths: Vec<usize> = (0..200).map(|_| random.random_range(512..good.len())).collect();
    lengths.extend([512, 513, good.len() - 1, good.len() - 1024]);
    for len in lengths {
        let found = fixture.check(&good[..len]);
        assert!(
            matches!(found, Err(BundleError::Truncated { .. })),
            "seed {seed:#x}: length {len}: {found:?}"
        );
    }
    for len in [0, 1, 511] {
        assert!(matches!(fixture.check(&good[..len]), Err(BundleError::NotABundle { .. })));
    }
    let longer = [good.as_slice(), b"x"].concat();
    assert!(matches!(fixture.check(&longer), Err(BundleError::TrailingBytes { extra: 1, .. })));
}

#[test]
fn a_foreign_key_and_an_altered_manifest_are_told_apart() {
    let fixture = Fixture::new();
    let path = fixture.write("b");
    let mut foreign = TrustedKeys::default();
    let other = KeyPair::from_seed([9; 32]);
    foreign.add_pem(&other.public_pem().unwrap()).unwrap();
    match Bundle::open(&path, &foreign) {
        Err(BundleError::UntrustedKey { key_id, trusted, .. }) => {
            assert_eq!((key_id, trusted), (fixture.key.id(), other.id()));
        }
        found => panic!("{found:?}"),
    }
    let none = Bundle::open(&path, &TrustedKeys::default());
    assert!(matches!(none, Err(BundleError::UntrustedKey { .. })));
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(11).position(|window| window == b"\"serial\": 7").unwrap();
    bytes[at + 10] = b'9';
    assert!(matches!(fixture.check(&bytes), Err(BundleError::BadSignature { .. })));
}

#[test]
fn signed_but_unreadable_manifests_are_refused() {
    let fixture = Fixture::new();
    let write = |manifest: &str| {
        let bytes = manifest.as_bytes();
        let pad = |bytes: &[u8]| {
            let mut out = bytes.to_vec();
            out.resize(bytes.len().next_multiple_of(512), 0);
            out
        };
        let mut out = format::header("manifest.json", bytes.len() as u64).unwrap().to_vec();
        out.extend(pad(bytes));
        out.extend(format::header("manifest.sig", 64).unwrap());
        out.extend(pad(&fixture.key.sign(bytes)));
        out.extend([0; 1024]);
        fixture.check(&out)
    };
    let newer = write(r#"{"kind":"holdfast-bundle","format":2,"what":"ever"}"#);
    assert!(matches!(newer, Err(BundleError::WrongFormat { found: 2, supported: 1, .. })));
    let other = write(r#"{"kind":"something"}"#);
    assert!(matches!(other, Err(BundleError::NotABundle { .. })));
    let partial = write(r#"{"kind":"holdfast-bundle","format":1}"#);
    assert!(matches!(partial, Err(BundleError::Manifest { .. })));
    let escape = write(
        r#"{"kind":"holdfast-bundle","format":1,"version":"1","serial":1,"architecture":"amd64",
        "keyId":"k","enginePrefix":"/opt","packages":[],
        "entries":[{"name":"engine/../../etc/x","body":{"link":{"target":"y"}}}]}"#,
    );
    assert!(matches!(escape, Err(BundleError::Manifest { .. })));
}

#[test]
fn extraction_is_exact_and_repeatable() {
    let fixture = Fixture::new();
    let bundle = fixture.open(&fixture.write("b")).unwrap();
    let place = fixture.path("opt/engine");
    assert_eq!(bundle.extract_engine(&place, &Silent).unwrap(), Outcome::Written);
    assert_eq!(bundle.extract_engine(&place, &Silent).unwrap(), Outcome::Unchanged);
    let names = crate::sys::bundle_tree::list(&place).unwrap();
    assert_eq!(names, ["bin/alias", "bin/dockerd", "lib/empty", "lib/libc.so.6"]);
    assert_eq!(crate::sys::bundle_tree::file_mode(&place.join("bin/dockerd")), Some(0o755));
    assert_eq!(std::fs::read_link(place.join("bin/alias")).unwrap(), Path::new("dockerd"));
    // A changed, an extra and a missing file each make it write again.
    std::fs::write(place.join("lib/libc.so.6"), b"worse").unwrap();
    assert_eq!(bundle.extract_engine(&place, &Silent).unwrap(), Outcome::Written);
    std::fs::write(place.join("lib/extra"), b"x").unwrap();
    assert_eq!(bundle.extract_engine(&place, &Silent).unwrap(), Outcome::Written);
    std::fs::remove_file(place.join("bin/alias")).unwrap();
    assert_eq!(bundle.extract_engine(&place, &Silent).unwrap(), Outcome::Written);
    assert_eq!(bundle.extract_engine(&place, &Silent).unwrap(), Outcome::Unchanged);
    let binary = fixture.path("bin/holdfast");
    assert_eq!(bundle.extract_binary(&binary).unwrap(), Outcome::Written);
    assert_eq!(bundle.extract_binary(&binary).unwrap(), Outcome::Unchanged);
    let left = crate::sys::bundle_tree::list(&fixture.path("opt")).unwrap();
    assert!(left.iter().all(|name| name.starts_with("engine/")), "{left:?}");
}

#[test]
fn an_interrupted_extraction_leaves_the_old_tree_and_the_next_one_finishes() {
    let fixture = Fixture::new();
    let path = fixture.write("b");
    let bundle = fixture.open(&path).unwrap();
    let place = fixture.path("engine");
    // What a killed run leaves: an old tree in place, a partial one beside it.
    std::fs::create_dir_all(place.join("bin")).unwrap();
    std::fs::write(place.join("bin/dockerd"), b"old").unwrap();
    std::fs::create_dir_all(fixture.path(".engine.partial/bin")).unwrap();
    std::fs::write(fixture.path(".engine.partial/bin/dockerd"), b"half").unwrap();

    // The disk lies after the bundle was opened: the old tree stays.
    let mut bytes = std::fs::read(&path).unwrap();
    let size = tar::Header::from_byte_slice(&bytes[..512]).entry_size().unwrap();
    let (offsets, _) = format::layout(bundle.manifest(), size);
    let index = bundle.manifest().entries.iter().position(|e| e.name == "engine/lib/libc.so.6");
    let at = offsets[index.unwrap()] as usize + 5;
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    match bundle.extract_engine(&place, &Silent) {
        Err(BundleError::Entry { name, .. }) => assert_eq!(name, "engine/lib/libc.so.6"),
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read(place.join("bin/dockerd")).unwrap(), b"old");
    assert!(!fixture.path(".engine.partial").exists());

    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(bundle.extract_engine(&place, &Silent).unwrap(), Outcome::Written);
    assert_eq!(bundle.extract_engine(&place, &Silent).unwrap(), Outcome::Unchanged);
}

const KILL_DIR: &str = "HOLDFAST_TEST_KILL_DIR";

/// The part of the next test that is killed: swaps two trees until its end.
fn extract_for_ever(dir: &Path) -> ! {
    let mut trusted = TrustedKeys::default();
    trusted.add_pem(&KeyPair::from_seed([7; 32]).public_pem().unwrap()).unwrap();
    let bundles = ["a", "b"].map(|name| Bundle::open(&dir.join(name), &trusted).unwrap());
    loop {
        for bundle in &bundles {
            bundle.extract_engine(&dir.join("place/engine"), &Silent).unwrap();
        }
    }
}

#[test]
fn a_killed_extraction_leaves_a_whole_tree() {
    if let Some(dir) = std::env::var_os(KILL_DIR) {
        extract_for_ever(Path::new(&dir));
    }
    let fixture = Fixture::new();
    let a = fixture.open(&fixture.write("a")).unwrap();
    let mut other = inputs(fixture.dir.path());
    other.push(file("engine/lib/more", b"more".to_vec(), 0o644));
    write_bundle(&fixture.path("b"), other, &release(), &fixture.key, &Silent).unwrap();
    let b = fixture.open(&fixture.path("b")).unwrap();
    let place = fixture.path("place/engine");
    let seed = 0x5eed_0003;
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..30 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["bundle::tests::a_killed_extraction_leaves_a_whole_tree", "--exact"])
            .env(KILL_DIR, fixture.dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let wait = std::time::Duration::from_micros(random.random_range(0..60_000));
        #[expect(clippy::disallowed_methods, reason = "the moment of the kill is what varies")]
        std::thread::sleep(wait);
        child.kill().unwrap();
        child.wait().unwrap();
        if !place.exists() {
            continue;
        }
        let whole = [&a, &b].iter().any(|bundle| bundle.engine_stands_at(&place).unwrap());
        assert!(whole, "seed {seed:#x}: round {round} left a partial tree");
    }
    a.extract_engine(&place, &Silent).unwrap();
    let left: Vec<_> = std::fs::read_dir(fixture.path("place")).unwrap().collect();
    assert_eq!(left.len(), 1, "seed {seed:#x}: {left:?}");
}

#[test]
fn images_are_reproducible_and_readable_as_an_oci_layout() {
    let fixture = Fixture::new();
    let folder = recipe(fixture.dir.path());
    let image = build_image(&folder, fixture.dir.path()).unwrap();
    for _ in 0..20 {
        let again = build_image(&folder, fixture.dir.path()).unwrap();
        assert_eq!((&again.digest, &again.blobs), (&image.digest, &image.blobs));
    }
    let bundle = fixture.open(&fixture.write("b")).unwrap();
    let images = bundle.images().unwrap();
    let [only] = images.list() else { panic!("{:?}", images.list()) };
    assert_eq!((only.name.as_str(), only.tag.as_str()), ("a/b", "1"));
    assert_eq!(only.digest, image.digest);
    let blobs: Vec<BlobInfo> = images.blobs().collect();
    assert_eq!(blobs.len(), 3);
    for blob in &blobs {
        let bytes = images.open_blob(&blob.digest).unwrap().read_all().unwrap();
        assert_eq!(bytes.len() as u64, blob.size);
    }
    let manifest = images.open_blob(&only.digest).unwrap().read_all().unwrap();
    let manifest: oci_spec::image::ImageManifest = serde_json::from_slice(&manifest).unwrap();
    let layer = images.open_blob(manifest.layers()[0].digest().as_ref()).unwrap();
    let layer = layer.read_all().unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(layer.as_slice()));
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|item| item.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(names, ["x/", "x/y/", "x/y/data"]);
}

#[test]
fn wrong_recipes_are_refused() {
    let fixture = Fixture::new();
    let folder = recipe(fixture.dir.path());
    let good = std::fs::read_to_string(folder.join("image.yaml")).unwrap();
    for (from, to) in [
        ("name: a/b", "name: A B"),
        ("tag: \"1\"", "tag: \"\""),
        ("entrypoint: [/x]", "entrypoint: []"),
        ("to: /x/y/data", "to: x"),
        ("to: /x/y/data", "to: /../x"),
        ("from: data", "from: nothing"),
        ("from: data", "program: ../data"),
        ("user:", "users:"),
        ("\"0640\"", "\"rw\""),
    ] {
        assert!(good.contains(from), "{from}");
        std::fs::write(folder.join("image.yaml"), good.replace(from, to)).unwrap();
        assert!(build_image(&folder, fixture.dir.path()).is_err(), "{to}");
    }
}

#[test]
fn bundles_and_readers_go_to_other_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<Bundle>();
    sent::<EntryReader>();
}
