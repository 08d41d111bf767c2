//! Proof that the bundle's engine runs on a host that has nothing: an empty root directory.
//!
//! The test starts itself again in new namespaces, enters the empty root by pivot_root
//! (runc does the same later and needs a real mount as its root), starts dockerd from the
//! extracted tree and runs the bundle's own images. Needs root and a built bundle:
//!
//! ```text
//! HOLDFAST_TEST_BUNDLE=F HOLDFAST_TEST_TRUST=K.pub cargo test engine_runs -- --ignored
//! ```
//!
//! Invariants: changes nothing outside its namespaces but one directory and one cgroup
//! per controller, which it removes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{ImportImageOptions, LogsOptionsBuilder};
use futures::StreamExt;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::*;

const ROOT: &str = "HOLDFAST_TEST_ROOT";
const SOCKET: &str = "/run/holdfast/engine.sock";
const NAME: &str = "bundle::proof::engine_runs_in_an_empty_root";

#[test]
#[ignore = "needs root and HOLDFAST_TEST_BUNDLE; run by the lab's tests"]
fn engine_runs_in_an_empty_root() {
    match std::env::var_os(ROOT) {
        None => outside(),
        Some(root) => inside(Path::new(&root)),
    }
}

fn bundle() -> Bundle {
    let path = std::env::var_os("HOLDFAST_TEST_BUNDLE").expect("HOLDFAST_TEST_BUNDLE is a file");
    let trust = std::env::var_os("HOLDFAST_TEST_TRUST").expect("HOLDFAST_TEST_TRUST is a key");
    Bundle::open(Path::new(&path), &TrustedKeys::load(&[PathBuf::from(trust)]).unwrap()).unwrap()
}

/// Removes what the host's engine leaves outside its namespaces.
struct Cgroups(String);

impl Drop for Cgroups {
    fn drop(&mut self) {
        for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove_cgroup(&controller.path().join(&self.0));
        }
    }
}

fn remove_cgroup(folder: &Path) {
    for item in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if item.path().is_dir() {
            remove_cgroup(&item.path());
        }
    }
    let _ = std::fs::remove_dir(folder);
}

fn outside() {
    // Not /tmp: overlay2 needs a real file system below it.
    let root = tempfile::tempdir_in("/var/tmp").unwrap();
    let bundle = bundle();
    let prefix = bundle.manifest().engine_prefix.trim_start_matches('/').to_string();
    bundle.extract_engine(&root.path().join(prefix), &Silent).unwrap();
    let cgroups = Cgroups(format!("holdfast-proof-{}", std::process::id()));
    let status = Command::new("unshare")
        .args(["-m", "-p", "-n", "-u", "-i", "--fork", "--kill-child"])
        .arg(std::env::current_exe().unwrap())
        .args([NAME, "--exact", "--ignored", "--nocapture"])
        .env(ROOT, root.path())
        .env("HOLDFAST_TEST_CGROUP", &cgroups.0)
        .status()
        .unwrap();
    let log = std::fs::read_to_string(root.path().join("dockerd.log")).unwrap_or_default();
    assert!(status.success(), "{status}; dockerd's log:\n{log}");
    let left = Command::new("findmnt").args(["-rno", "TARGET"]).output().unwrap();
    let left = String::from_utf8(left.stdout).unwrap();
    assert!(!left.contains(root.path().to_str().unwrap()), "mounts are left");
}

fn bind(source: &str, target: &Path, flags: MsFlags) {
    std::fs::create_dir_all(target).unwrap();
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | flags, None::<&str>).unwrap();
}

fn fresh(kind: &str, target: &Path, options: &str) {
    std::fs::create_dir_all(target).unwrap();
    let flags = MsFlags::empty();
    mount(Some(kind), target, Some(kind), flags, Some(options)).unwrap();
}

/// Turns the empty directory into this process's root.
fn enter(root: &Path) {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    bind(root.to_str().unwrap(), root, MsFlags::empty());
    fresh("proc", &root.join("proc"), "");
    fresh("sysfs", &root.join("sys"), "");
    fresh("tmpfs", &root.join("sys/fs/cgroup"), "");
    bind("/sys/fs/cgroup", &root.join("sys/fs/cgroup"), MsFlags::MS_REC);
    fresh("tmpfs", &root.join("dev"), "mode=755");
    for (name, major, minor) in
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)]
    {
        let path = root.join("dev").join(name);
        mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(major, minor))
            .unwrap();
    }
    fresh("devpts", &root.join("dev/pts"), "newinstance,ptmxmode=0666");
    std::os::unix::fs::symlink("pts/ptmx", root.join("dev/ptmx")).unwrap();
    std::os::unix::fs::symlink("/proc/self/fd", root.join("dev/fd")).unwrap();
    fresh("tmpfs", &root.join("run"), "");
    std::fs::create_dir_all(root.join("old")).unwrap();
    nix::unistd::pivot_root(root, &root.join("old")).unwrap();
    std::env::set_current_dir("/").unwrap();
    umount2("/old", MntFlags::MNT_DETACH).unwrap();
    std::fs::remove_dir("/old").unwrap();
}

fn start_engine(prefix: &str) -> Child {
    for folder in ["/run/holdfast", "/etc/holdfast"] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write("/etc/holdfast/engine.json", "{}\n").unwrap();
    let log = std::fs::File::create("/dockerd.log").unwrap();
    let parent = std::env::var("HOLDFAST_TEST_CGROUP").unwrap();
    Command::new(format!("{prefix}/bin/dockerd"))
        .env_clear()
        .env("PATH", format!("{prefix}/bin"))
        .args([&format!("--host=unix://{SOCKET}"), "--group=0"])
        .args(["--data-root=/var/lib/holdfast/engine", "--exec-root=/run/holdfast/engine"])
        .args(["--pidfile=/run/holdfast/engine.pid", "--config-file=/etc/holdfast/engine.json"])
        .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-forward=false"])
        .args(["--ip-masq=false", "--userland-proxy=false", "--live-restore"])
        .arg(format!("--cgroup-parent=/{parent}"))
        .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn inside(root: &Path) {
    let bundle = bundle();
    enter(root);
    let names: Vec<_> =
        std::fs::read_dir("/").unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(names.len(), 5, "only dev, opt, proc, run and sys are there: {names:?}");
    refuse_full_disk(&bundle);
    let prefix = bundle.manifest().engine_prefix.clone();
    let mut engine = start_engine(&prefix);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let docker = connect(&mut engine).await;
        for image in bundle.images().unwrap().list() {
            import(&docker, &bundle, image).await;
            run_and_stop(&docker, &format!("{}:{}", image.name, image.tag)).await;
        }
        outlive(&docker, &mut engine, &prefix).await;
    });
    let nft =
        |arguments: &[&str]| Command::new(format!("{prefix}/bin/nft")).args(arguments).status();
    assert!(nft(&["add", "table", "ip", "holdfast"]).unwrap().success());
    let rules = Command::new(format!("{prefix}/bin/iptables"))
        .env("XTABLES_LIBDIR", format!("{prefix}/lib/xtables"))
        .args(["-t", "nat", "-A", "POSTROUTING", "-p", "tcp", "--dport", "1", "-j", "MASQUERADE"])
        .status();
    assert!(rules.unwrap().success());
    let pid = nix::unistd::Pid::from_raw(engine.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(engine.wait().unwrap().success());
}

/// An extraction that finds no room says so and leaves nothing.
fn refuse_full_disk(bundle: &Bundle) {
    let small = Path::new("/run/small");
    fresh("tmpfs", small, "size=4m");
    match bundle.extract_engine(&small.join("engine"), &Silent) {
        Err(BundleError::Io { source, .. }) => {
            assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read_dir(small).unwrap().count(), 0);
}

/// A container goes on while its daemon is killed and started again.
async fn outlive(docker: &Docker, engine: &mut Child, prefix: &str) {
    let id = create(docker, "holdfast/pause:1").await;
    docker.start_container(&id, None).await.unwrap();
    let before = docker.inspect_container(&id, None).await.unwrap().state.unwrap();
    let containerd = std::fs::read_to_string("/run/holdfast/engine/containerd/containerd.pid");
    let containerd = nix::unistd::Pid::from_raw(containerd.unwrap().trim().parse().unwrap());
    engine.kill().unwrap();
    engine.wait().unwrap();
    // The kernel kills containerd with its parent. Unreaped it would count as running, and
    // the next dockerd would wait for it in vain: a host's process 1 has to reap.
    nix::sys::wait::waitpid(containerd, None).unwrap();
    *engine = start_engine(prefix);
    let docker = connect(engine).await;
    let after = docker.inspect_container(&id, None).await.unwrap();
    assert_eq!(after.restart_count, Some(0));
    let after = after.state.unwrap();
    assert_eq!((after.running, after.pid), (Some(true), before.pid));
    assert_eq!(after.started_at, before.started_at);
    docker.stop_container(&id, None).await.unwrap();
    docker.remove_container(&id, None).await.unwrap();
}

async fn connect(engine: &mut Child) -> Docker {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(engine.try_wait().unwrap().is_none(), "dockerd ended");
        assert!(Instant::now() < deadline, "dockerd does not answer");
        if let Ok(docker) = Docker::connect_with_unix(SOCKET, 60, bollard::API_DEFAULT_VERSION)
            && let Ok(docker) = docker.negotiate_version().await
            && docker.ping().await.is_ok()
        {
            return docker;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Loads an image as `docker load` does, from the bundle's blobs.
async fn import(docker: &Docker, bundle: &Bundle, image: &ImageRef) {
    let images = bundle.images().unwrap();
    let blob = |digest: &str| images.open_blob(digest).unwrap().read_all().unwrap();
    let manifest: oci_spec::image::ImageManifest =
        serde_json::from_slice(&blob(&image.digest)).unwrap();
    let layer = manifest.layers()[0].digest().to_string();
    let list = serde_json::json!([{
        "Config": "config.json", "Layers": ["layer.tar"],
        "RepoTags": [format!("{}:{}", image.name, image.tag)],
    }]);
    let mut archive = tar::Builder::new(Vec::new());
    let files = [
        ("manifest.json", list.to_string().into_bytes()),
        ("config.json", blob(manifest.config().digest().as_ref())),
        ("layer.tar", blob(&layer)),
    ];
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    let body = bollard::body_full(archive.into_inner().unwrap().into());
    let mut answers = docker.import_image(ImportImageOptions::default(), body, None).boxed();
    while let Some(answer) = answers.next().await {
        answer.unwrap();
    }
}

async fn create(docker: &Docker, image: &str) -> String {
    let config = ContainerCreateBody {
        image: Some(image.into()),
        host_config: Some(bollard::models::HostConfig {
            network_mode: Some("none".into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    docker.create_container(None, config).await.unwrap().id
}

async fn run_and_stop(docker: &Docker, image: &str) {
    let id = create(docker, image).await;
    docker.start_container(&id, None).await.unwrap();
    if image.starts_with("hello") {
        let options = LogsOptionsBuilder::new().stdout(true).follow(true).build();
        let mut lines = docker.logs(&id, Some(options)).boxed();
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next()).await;
        let line = line.unwrap().unwrap().unwrap().to_string();
        assert!(line.starts_with("listening on 0.0.0.0:8080"), "{line}");
    }
    let running = docker.inspect_container(&id, None).await.unwrap();
    assert_eq!(running.state.unwrap().running, Some(true), "{image}");
    docker.stop_container(&id, None).await.unwrap();
    let state = docker.inspect_container(&id, None).await.unwrap().state.unwrap();
    assert_eq!(state.exit_code, Some(0), "{image} does not end well on SIGTERM");
    docker.remove_container(&id, None).await.unwrap();
}
