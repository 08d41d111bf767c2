//! Which kernel modules a system has, what each needs, and which hardware asks for which.
//!
//! Why our own list and not kmod's files: Debian makes those on the host after unpacking;
//! the build of a bundle makes this one from the modules themselves, and the first program
//! of the system reads it where no other program is.
//!
//! ```text
//!  module ahci kernel/drivers/ata/ahci.ko libahci,libata
//!  alias pci:v*d*sv*sd*bc01sc06i01* ahci
//! ```
//! Invariants: names have no `-`; what a module needs stands in the list too (the build sees
//! to that); text and list say the same.
//! Not here: reading module files (`bundle/build/system`), loading them (`sys/modules.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// One module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Its file below the modules' folder.
    pub path: String,
    /// Modules that must be there first, by name.
    pub needs: Vec<String>,
    /// Patterns of what it serves: hardware, file systems, algorithms.
    pub aliases: Vec<String>,
    /// Names or aliases of what should be there first if the system has it.
    pub wishes: Vec<String>,
}

/// All modules of a system, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleIndex {
    pub modules: BTreeMap<String, Module>,
}

/// A module's name as the kernel knows it: file names may have `-` where it has `_`.
pub fn module_name(text: &str) -> String {
    text.replace('-', "_")
}

impl ModuleIndex {
    /// The list as text, one fact a line.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (name, module) in &self.modules {
            let listed = |names: &[String]| match names {
                [] => "-".to_owned(),
                names => names.join(","),
            };
            let (needs, wishes) = (listed(&module.needs), listed(&module.wishes));
            let _never_fails = writeln!(text, "module {name} {} {needs} {wishes}", module.path);
            for alias in &module.aliases {
                let _never_fails = writeln!(text, "alias {alias} {name}");
            }
        }
        text
    }

    /// Reads what [`to_text`](Self::to_text) wrote; the first line that it cannot read is
    /// the error.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut index = Self::default();
        for line in text.lines() {
            let wrong = || format!("the list of modules has a line that says nothing: {line:?}");
            let names = |text: &str| match text {
                "-" => Vec::new(),
                text => text.split(',').map(str::to_owned).collect(),
            };
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["module", name, path, needs, wishes] => {
                    let module = Module {
                        path: path.to_owned(),
                        needs: names(needs),
                        wishes: names(wishes),
                        aliases: Vec::new(),
                    };
                    index.modules.insert(name.to_owned(), module);
                }
                ["alias", pattern, name] => {
                    let module = index.modules.get_mut(name).ok_or_else(wrong)?;
                    module.aliases.push(pattern.to_owned());
                }
                _ => return Err(wrong()),
            }
        }
        Ok(index)
    }

    /// The modules that a name or an alias asks for, in the order of the list.
    pub fn asked_for(&self, wanted: &str) -> Vec<&str> {
        let name = module_name(wanted);
        if let Some((name, _)) = self.modules.get_key_value(&name) {
            return vec![name];
        }
        let serves =
            |module: &Module| module.aliases.iter().any(|pattern| matches(pattern, wanted));
        self.modules
            .iter()
            .filter(|(_, module)| serves(module))
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// A module and all that it needs, in the order in which they are to be loaded; what is
    /// only wished for and not there is left out.
    pub fn in_order(&self, name: &str) -> Vec<&str> {
        let mut order = Vec::new();
        self.visit(name, &mut BTreeSet::new(), &mut order);
        order
    }

    fn visit<'a>(&'a self, name: &str, seen: &mut BTreeSet<&'a str>, order: &mut Vec<&'a str>) {
        let Some((name, module)) = self.modules.get_key_value(&module_name(name)) else { return };
        if !seen.insert(name) {
            return;
        }
        for wish in &module.wishes {
            for first in self.asked_for(wish) {
                self.visit(first, seen, order);
            }
        }
        for need in &module.needs {
            self.visit(need, seen, order);
        }
        order.push(name);
    }

    /// The part of the list that these modules and their needs make up.
    pub fn closure<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let wanted: BTreeSet<&str> =
            names.into_iter().flat_map(|name| self.in_order(name)).collect();
        let modules = self.modules.iter().filter(|(name, _)| wanted.contains(name.as_str()));
        Self { modules: modules.map(|(name, module)| (name.clone(), module.clone())).collect() }
    }
}

/// Whether a shell pattern of the kernel's kind (`*`, `?`, `[0-9a]`) fits the whole text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut read) = (0, 0);
    // Where to go on when what follows the last star does not fit.
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at + 1, read));
            at += 1;
        } else if let Some(width) = fits(&pattern[at..], text[read]) {
            at += width;
            read += 1;
        } else if let Some((after, from)) = star {
            star = Some((after, from + 1));
            (at, read) = (after, from + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// How many bytes of the pattern stand for this one byte of the text.
fn fits(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => {
            let end = pattern.iter().position(|byte| *byte == b']')?;
            let mut class = &pattern[1..end];
            while let Some((first, rest)) = class.split_first() {
                let (last, rest) = match rest {
                    [b'-', last, rest @ ..] => (last, rest),
                    _ => (first, rest),
                };
                if (*first..=*last).contains(&byte) {
                    return Some(end + 1);
                }
                class = rest;
            }
            None
        }
        other => (*other == byte).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> ModuleIndex {
        ModuleIndex::parse(
            "module ahci k/ahci.ko libahci,libata -\n\
             alias pci:v*d*sv*sd*bc01sc06i01* ahci\n\
             module crc32c_generic k/crc32c-generic.ko - -\n\
             alias crypto-crc32c crc32c_generic\n\
             module ext4 k/ext4.ko jbd2 crypto-crc32c,nowhere\n\
             alias fs-ext4 ext4\n\
             module jbd2 k/jbd2.ko - -\n\
             module libahci k/libahci.ko libata -\n\
             module libata k/libata.ko - -\n",
        )
        .unwrap()
    }

    #[test]
    fn the_kernels_patterns_are_understood() {
        assert!(matches("pci:v00008086d*sv*sd*bc01*", "pci:v00008086d00002922sv1sd2bc01sc06"));
        assert!(!matches("pci:v00008086d*sv*sd*bc02*", "pci:v00008086d00002922sv1sd2bc01sc06"));
        assert!(matches("usb:v1234p5678d01[0-4a]*dc*", "usb:v1234p5678d0123dc00"));
        assert!(!matches("usb:v1234p5678d01[0-14a]?dc*", "usb:v1234p5678d0123dc00"));
        assert!(matches("*a*b", "xaabab") && !matches("*a*b", "xaabaa"));
        assert!(matches("a", "a") && !matches("a", "ab") && !matches("ab", "a"));
        assert!(matches("", "") && matches("**", "x") && !matches("[", "["));
    }

    #[test]
    fn what_a_module_needs_comes_before_it() {
        let index = index();
        assert_eq!(index.in_order("ahci"), ["libata", "libahci", "ahci"]);
        assert_eq!(index.in_order("ext4"), ["crc32c_generic", "jbd2", "ext4"]);
        assert_eq!(index.asked_for("pci:v1d2sv3sd4bc01sc06i01"), ["ahci"]);
        assert_eq!(index.asked_for("crc32c-generic"), ["crc32c_generic"]);
        assert!(index.asked_for("pci:v1d2sv3sd4bc09sc06i01").is_empty());
    }

    #[test]
    fn the_text_reads_back_and_a_part_is_closed() {
        let index = index();
        assert_eq!(ModuleIndex::parse(&index.to_text()).unwrap(), index);
        let part = index.closure(["ext4"]);
        let names: Vec<_> = part.modules.keys().map(String::as_str).collect();
        assert_eq!(names, ["crc32c_generic", "ext4", "jbd2"]);
        for wrong in ["module a b", "alias x nobody", "x"] {
            assert!(ModuleIndex::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn modules_that_wish_for_each_other_end() {
        let circle = "module a a.ko b -\nmodule b b.ko a -\n";
        assert_eq!(ModuleIndex::parse(circle).unwrap().in_order("a"), ["b", "a"]);
    }
}
