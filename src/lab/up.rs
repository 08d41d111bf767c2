//! Brings a lab up: hosts, then the product on them by its own install path.
//!
//! Why every step is an "ensure": a `lab up` that was killed is finished by running it
//! again, and on a lab that runs it changes nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::{LabError, files};
use super::record::{LabDir, Record};
use super::{Lab, Layout, Program, provision, require_root, sample};
use crate::bundle::{self, TrustedKeys};
use crate::sys::cgroup::Group;
use crate::sys::tree;

/// What kind of lab is wanted.
#[derive(Clone, Debug)]
pub struct UpOptions {
    pub layout: Layout,
    pub dir: PathBuf,
    /// Without one the hosts are bare; a lab that has one keeps it.
    pub bundle: Option<Bundle>,
    /// A manifest to deploy once all nodes are ready.
    pub sample: Option<PathBuf>,
    /// The hosts see the bundle, but nothing is installed; a lab that began bare stays so.
    pub bare: bool,
    pub program: Program,
}

/// The product, as one file.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub file: PathBuf,
    /// The public key that it must be signed for.
    pub trust: PathBuf,
}

/// What was done and how long it took.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpReport {
    pub dir: PathBuf,
    pub steps: Vec<Step>,
    pub total_seconds: f64,
}

/// One step of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub name: String,
    pub seconds: f64,
}

/// Runs steps one after the other, says so, and remembers how long each took.
pub(super) struct Steps<'a> {
    say: &'a dyn Fn(&str),
    begun: Instant,
    done: Vec<Step>,
}

impl<'a> Steps<'a> {
    pub(super) fn run<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<T, LabError>,
    ) -> Result<T, LabError> {
        (self.say)(&format!("{name} …"));
        let begun = Instant::now();
        let result = work();
        let seconds = begun.elapsed().as_secs_f64();
        let outcome = if result.is_ok() { "done" } else { "failed" };
        (self.say)(&format!("{name}: {outcome} in {seconds:.1} s"));
        self.done.push(Step { name: name.to_owned(), seconds });
        result
    }
}

/// Brings the lab up; on failure everything stays as it is, for the caller to look at or
/// to take down. `say` gets one line for each step's begin and end.
pub fn up(options: &UpOptions, say: &dyn Fn(&str)) -> Result<UpReport, LabError> {
    // Before anything else: a wrong bundle must not be found out by the third host.
    if let Some(Bundle { file, trust }) = &options.bundle {
        let trusted = TrustedKeys::load(&[trust]).map_err(LabError::Key)?;
        bundle::Bundle::open(file, &trusted).map_err(LabError::Bundle)?;
    }
    require_root()?;
    let mut steps = Steps { say, begun: Instant::now(), done: Vec::new() };
    let lab = steps.run("prepare the lab", || prepare(options))?;
    steps.run("make the switch", || lab.ensure_switch())?;
    if lab.is_routed() {
        steps.run("lay the links between the centers", || lab.ensure_links())?;
    }
    steps.run("boot the hosts", || boot_all(&lab))?;
    steps.run("open the ways in", || lab.ensure_daemon())?;
    if lab.record.bundle.is_some() && !lab.record.bare {
        provision::install(&lab, &mut steps)?;
        if let Some(sample) = &options.sample {
            steps.run("deploy the sample", || sample::deploy(&lab, sample))?;
        }
    }
    let total = steps.begun.elapsed();
    Ok(UpReport { dir: lab.dir().to_owned(), steps: steps.done, total_seconds: seconds(total) })
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// Makes the directory and the record, or opens the lab that is there.
fn prepare(options: &UpOptions) -> Result<Lab, LabError> {
    let absolute = |path: &Path| path.canonicalize().map_err(files("find the bundle and its key"));
    let bundle = match &options.bundle {
        Some(bundle) => Some((absolute(&bundle.file)?, absolute(&bundle.trust)?)),
        None => None,
    };
    let made_dir = tree::make_dir(&options.dir).map_err(files("make the lab's directory"))?;
    let dir = LabDir::open(&options.dir)?;
    let record = match dir.read()? {
        Some(found) if found.layout != options.layout => {
            let path = dir.path().to_owned();
            return Err(LabError::OtherLayout { dir: path, found: found.layout });
        }
        // After a reboot of the machine the groups are gone, and their place may be.
        Some(found) if !found.group.exists() => {
            Record { group: Group::plan(&dir.group_name())?, ..found }
        }
        Some(found) => found,
        None => {
            // Left by one that was killed while it wrote its first record.
            tree::remove(&tree::beside(&dir.record_path()))
                .map_err(files("remove a torn record"))?;
            let there = tree::list(dir.path()).map_err(files("read the lab's directory"))?;
            if !there.is_empty() {
                return Err(LabError::Foreign { dir: dir.path().to_owned() });
            }
            Record::new(options.layout, Group::plan(&dir.group_name())?, made_dir)
        }
    };
    let record = match bundle {
        Some((bundle, trust)) => Record { bundle: Some(bundle), trust: Some(trust), ..record },
        None => record,
    };
    let record = Record { bare: record.bare || options.bare, ..record };
    dir.write(&record)?;
    if !dir.program().exists() {
        tree::copy_program(&options.program.file, &dir.program())
            .map_err(files("copy the program into the lab"))?;
    }
    Ok(Lab { dir, record, program: options.program.clone() })
}

fn boot_all(lab: &Lab) -> Result<(), LabError> {
    lab.each_host().try_for_each(|host| {
        if host.group().is_frozen() {
            host.group().freeze(false)?;
        }
        host.ensure_booted()
    })
}
