//! One command line of `etcdctl` to our member and to a real etcd of the same release, and
//! whether the two answer alike.
//!
//! Left out of the comparison is what names a cluster: ids, addresses, terms, and the
//! client's own log lines.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::PATIENCE;
use crate::group::address;
use crate::real::Etcd;
use crate::served::{Served, etcdctl, program_in};

/// Where the programs of the releases are that ours is compared with.
pub(crate) const RELEASES: [&str; 2] = ["etcd/usr/bin", "etcd/3.5"];

/// How a command ended and what it printed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// One of the two clusters.
pub(crate) struct Side {
    name: &'static str,
    program: PathBuf,
    certificates: PathBuf,
    pub(crate) url: String,
    /// What names this cluster, and what stands for it in the comparison.
    names: Vec<(String, String)>,
    kept: HashMap<String, String>,
}

/// Digits behind each `marker` do not count.
fn masked(text: &str, marker: &str) -> String {
    let mut parts = text.split(marker);
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        whole += marker;
        whole += "#";
        whole += part.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    whole
}

/// The form alone: words with a digit, units of size and the widths of tables do not count.
pub(crate) fn shape(text: &str) -> String {
    let mut shaped = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '.') {
        let (body, end) = match word.char_indices().last() {
            Some((at, last)) if !last.is_ascii_alphanumeric() && last != '.' => word.split_at(at),
            _ => (word, ""),
        };
        let counts = body.bytes().any(|byte| byte.is_ascii_digit());
        let repeated = body.is_empty() && matches!(end, " " | "-") && shaped.ends_with(end);
        if !repeated {
            shaped += if counts { "#" } else { body };
            shaped += end;
        }
    }
    ["# MB", "# kB", "# GB"].iter().fold(shaped, |text, unit| text.replace(unit, "# B"))
}

impl Side {
    fn new(
        name: &'static str,
        program: PathBuf,
        served: &Served,
        url: String,
        (client, peer): (u16, u16),
    ) -> Self {
        let certificates = served.dir.path().to_owned();
        let mut names = Vec::new();
        for index in 0..3 {
            let at = address(index);
            names.push((format!("{at}:{client}"), format!("{{client{}}}", index + 1)));
            names.push((format!("{at}:{peer}"), format!("{{peer{}}}", index + 1)));
        }
        let kept = (0..3)
            .map(|index| (format!("peer{}", index + 1), format!("{}:{peer}", address(index))));
        let kept = kept.collect();
        Self { name, program, certificates, url, names, kept }
    }

    /// Keeps an id under a name; it reads the same on both sides from now on.
    fn keep(&mut self, name: &str, id: u64) {
        let placeholder = format!("{{{name}}}");
        // Some commands print an id in all its sixteen digits.
        for text in [format!("{id:016x}"), format!("{id:x}"), id.to_string()] {
            self.names.push((text, placeholder.clone()));
        }
        self.names.sort_by_key(|(raw, _)| std::cmp::Reverse(raw.len()));
        self.kept.insert(name.to_owned(), format!("{id:x}"));
    }

    /// Keeps a word under a name.
    pub(crate) fn keep_word(&mut self, name: &str, word: &str) {
        self.names.push((word.to_owned(), format!("{{{name}}}")));
        self.names.sort_by_key(|(raw, _)| std::cmp::Reverse(raw.len()));
        self.kept.insert(name.to_owned(), word.to_owned());
    }

    /// Under which name an id is kept.
    pub(crate) fn name_of(&self, id: u64) -> String {
        let id = format!("{id:x}");
        let found = self.kept.iter().find(|(_, kept)| **kept == id);
        found.unwrap_or_else(|| panic!("{id} is nobody's")).0.clone()
    }

    /// From now on commands go to all members, each at the first one's port.
    pub(crate) fn point_at_all(&mut self, members: usize) {
        let of = |index| self.url.replace("127.0.0.1", &address(index));
        self.url = (0..members).map(of).collect::<Vec<_>>().join(",");
    }

    /// The arguments of a line, with what was kept in the place of its name.
    fn filled(&self, word: &str) -> String {
        self.kept
            .iter()
            .fold(word.to_owned(), |word, (name, id)| word.replace(&format!("{{{name}}}"), id))
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let arguments: Vec<String> = arguments.iter().map(|word| self.filled(word)).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let made = etcdctl(&self.program, &self.certificates, &self.url, "admin", &arguments);
        let mut command = Command::from(made);
        command.kill_on_drop(true);
        command
    }

    async fn raw(&self, arguments: &[&str], input: &str) -> Told {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program that does not want it closes its end.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = tokio::time::timeout(PATIENCE * 3, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("{arguments:?} does not end")).unwrap();
        Told {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Without what names this cluster.
    pub(crate) fn anonymous(&self, text: &str) -> String {
        let lines = text.split_inclusive('\n').filter(|line| !line.starts_with("{\"level\""));
        let text: String = lines.collect();
        let names = self.names.iter();
        let mut text = names.fold(text, |text, (raw, placeholder)| text.replace(raw, placeholder));
        // Some commands fill an id up with blanks.
        while text.contains("  {") {
            text = text.replace("  {", " {");
        }
        let markers = ["\"raft_term\":", "\"RaftTerm\" : ", "remaining(", "\"ttl\":", "\"TTL\" : "];
        markers.iter().fold(text, |text, marker| masked(&text, marker))
    }

    pub(crate) async fn ask(&self, arguments: &[&str], input: &str) -> Told {
        let told = self.raw(arguments, input).await;
        Told { out: self.anonymous(&told.out), err: self.anonymous(&told.err), ..told }
    }

    /// Where a file of the certificates is.
    pub(crate) fn certificate(&self, name: &str) -> String {
        self.certificates.join(name).display().to_string()
    }

    /// The document of a command that prints JSON.
    pub(crate) async fn document(&self, arguments: &[&str]) -> Value {
        let told = self.raw(arguments, "").await;
        serde_json::from_str(&told.out).unwrap_or_else(|_| panic!("{arguments:?}: {told:?}"))
    }

    /// Learns the ids of the cluster and of its members.
    pub(crate) async fn meet(&mut self) {
        let listed = self.document(&["member", "list", "-w", "json"]).await;
        let id = |value: &Value| value.as_u64().unwrap();
        self.keep("cluster", id(&listed["header"]["cluster_id"]));
        for member in listed["members"].as_array().unwrap() {
            if let Some(name) = member["name"].as_str() {
                self.keep(name, id(&member["ID"]));
            }
        }
    }
}

/// Two clusters under the same commands.
pub(crate) struct Beside {
    pub(crate) served: Served,
    /// Ends with this.
    _etcd: Etcd,
    pub(crate) sides: [Side; 2],
    asked: usize,
    differences: Vec<String>,
}

/// The words of a line; quotes keep what they enclose together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

impl Beside {
    /// So many members each; `None` where the release's programs are missing.
    pub(crate) async fn start(release: &str, members: usize) -> Option<Self> {
        let (ctl, server) = (program_in(release, "etcdctl")?, program_in(release, "etcd")?);
        let served = Served::group(members).await;
        let etcd = Etcd::group(&server, served.dir.path(), members).await;
        let own = (served.port, served.peer_port);
        let ours = Side::new("ours", ctl.clone(), &served, served.url(), own);
        let ports = (etcd.ports.client, etcd.ports.peer);
        let theirs = Side::new("etcd", ctl, &served, etcd.url.clone(), ports);
        let mut sides = [ours, theirs];
        for side in &mut sides {
            side.meet().await;
        }
        Some(Self { served, _etcd: etcd, sides, asked: 0, differences: Vec::new() })
    }

    /// Both sides' answers to the same words.
    pub(crate) async fn both(&self, arguments: &[&str], input: &str) -> [Told; 2] {
        let [ours, theirs] = &self.sides;
        let (own, their) = tokio::join!(ours.ask(arguments, input), theirs.ask(arguments, input));
        [own, their]
    }

    /// Asks both and notes whether they differ.
    pub(crate) async fn same(&mut self, arguments: &[&str]) {
        let [own, their] = self.both(arguments, "").await;
        self.compare(&arguments.join(" "), own, their);
    }

    pub(crate) fn compare<T: PartialEq + std::fmt::Debug>(&mut self, line: &str, own: T, their: T) {
        self.asked += 1;
        if own != their {
            self.differences.push(format!("{line}\n  etcd: {their:?}\n  ours: {own:?}"));
        }
    }

    /// One line of a script: words, after `~ ` compared in their form alone, and before
    /// ` -> name N` with the N-th word of the answer kept as an id.
    async fn line(&mut self, line: &str, input: &str) {
        let (told_line, keeps) =
            line.split_once(" -> ").map_or((line, None), |(a, b)| (a, Some(b)));
        let (loose, told_line) = match told_line.strip_prefix("~ ") {
            Some(rest) => (true, rest),
            None => (false, told_line),
        };
        let words = words(told_line);
        let arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        if let Some((name, at)) = keeps.and_then(|keeps| keeps.split_once(' ')) {
            let at: usize = at.parse().unwrap();
            for side in &mut self.sides {
                let told = side.raw(&arguments, input).await;
                let id = told.out.split_whitespace().nth(at - 1);
                let id = id.and_then(|id| u64::from_str_radix(id, 16).ok());
                side.keep(name, id.unwrap_or_else(|| panic!("{}: {line}: {told:?}", side.name)));
            }
            return;
        }
        let [own, their] = self.both(&arguments, input).await;
        let form = |told: Told| Told { out: shape(&told.out), err: shape(&told.err), ..told };
        let (own, their) = if loose { (form(own), form(their)) } else { (own, their) };
        self.compare(line, own, their);
    }

    /// A script of such lines; those that begin with `<` are what the one before reads.
    pub(crate) async fn script(&mut self, script: &str) {
        let mut pending: Option<(&str, String)> = None;
        for line in script.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(text) = line.strip_prefix('<') {
                let (_, input) = pending.as_mut().expect("a line that reads this");
                input.push_str(text.strip_prefix(' ').unwrap_or(text));
                input.push('\n');
            } else if let Some((before, input)) = pending.replace((line, String::new())) {
                self.line(before, &input).await;
            }
        }
        if let Some((line, input)) = pending {
            self.line(line, &input).await;
        }
    }

    pub(crate) fn assert_alike(self) {
        let (many, all) = (self.differences.len(), self.asked);
        assert!(many == 0, "{many} of {all} answers differ:\n{}", self.differences.join("\n"));
    }
}

#[test]
fn words_are_taken_apart_and_forms_compared_as_meant() {
    assert_eq!(words("get '' --prefix 'a b'"), ["get", "", "--prefix", "a b"]);
    assert_eq!(shape("a 12.5ms |  20 kB | x-- 9f"), shape("a 7ms | 1.1 MB | x---- 12"));
    assert_ne!(shape("true 1"), shape("false 1"));
    assert_eq!(masked("\"t\":12,\"u\":3", "\"t\":"), "\"t\":#,\"u\":3");
}
