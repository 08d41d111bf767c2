//! Kernel modules: loaded by name, or because hardware that is there asks for them.
//!
//! Why the folder is re-read by the kernel's helper each time: it is started by the kernel
//! itself, once in a while, and shares nothing with the program that started the machine.
//! Invariant: a module that the kernel refuses is tried once and named, and stops nothing: a
//! machine with one odd card still starts.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::model::module_index::ModuleIndex;

/// Where a system keeps its modules.
const FOLDER: &str = "/modules";

/// The modules of this system.
#[derive(Debug)]
pub struct Modules {
    folder: PathBuf,
    index: ModuleIndex,
    tried: BTreeSet<String>,
    /// What asked before, so that a second look at the hardware is quick.
    asked: BTreeSet<String>,
}

impl Modules {
    /// Reads the list.
    pub fn open() -> io::Result<Self> {
        let folder = PathBuf::from(FOLDER);
        let text = fs::read_to_string(folder.join("index"))?;
        let index = ModuleIndex::parse(&text).map_err(io::Error::other)?;
        Ok(Self { folder, index, tried: BTreeSet::new(), asked: BTreeSet::new() })
    }

    /// Loads what a name or an alias means, with what that needs; answers the names of those
    /// that the kernel refused, each with its reason.
    pub fn load(&mut self, wanted: &str) -> Vec<String> {
        let asked_for = self.index.asked_for(wanted);
        let order: Vec<String> = asked_for
            .into_iter()
            .flat_map(|name| self.index.in_order(name))
            .map(str::to_owned)
            .collect();
        let mut refused = Vec::new();
        for name in order {
            if !self.tried.insert(name.clone()) {
                continue;
            }
            let path = self.folder.join(&self.index.modules[&name].path);
            if let Err(error) = insert(&path) {
                refused.push(format!("{name}: {error}"));
            }
        }
        refused
    }

    /// How many parts have asked for a module so far.
    pub fn parts_seen(&self) -> usize {
        self.asked.len()
    }

    /// Loads what the hardware asks for that is there now and was not there before.
    pub fn load_for_hardware(&mut self) -> Vec<String> {
        let mut found = BTreeSet::new();
        modaliases(Path::new("/sys/devices"), &mut found);
        let new: Vec<String> = found.difference(&self.asked).cloned().collect();
        self.asked.extend(new.iter().cloned());
        new.iter().flat_map(|alias| self.load(alias)).collect()
    }
}

/// What the kernel runs as `/sbin/modprobe` when it wants a module itself.
pub fn serve_modprobe(arguments: impl Iterator<Item = String>) -> io::Result<()> {
    let mut modules = Modules::open()?;
    let refused: Vec<String> = arguments
        .filter(|argument| !argument.starts_with('-'))
        .flat_map(|name| modules.load(&name))
        .collect();
    if refused.is_empty() { Ok(()) } else { Err(io::Error::other(refused.join("; "))) }
}

fn insert(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    match finit_module(&file, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        // Its hardware is not there after all.
        Err(Errno::ENODEV) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Everything below a folder of the kernel's view that says what it is.
fn modaliases(folder: &Path, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            modaliases(&path, found);
        } else if entry.file_name() == "modalias"
            && let Ok(text) = fs::read_to_string(&path)
            && !text.trim().is_empty()
        {
            found.insert(text.trim().to_owned());
        }
    }
}
