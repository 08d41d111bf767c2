//! Runs a file of commands with what they must print, and says where it is otherwise.
//!
//! ```text
//! # a remark
//! $ command     run once by /bin/sh; what it must print follows
//! ~ command     run again until it prints what follows
//! & command     started; waits until it has printed what follows, and lets it run
//! &+            waits until the one that runs has printed this as well
//! &.            ends it
//! > line        the command's standard input
//! ! line        a line on the standard error
//! [1]           the exit code; 0 where nothing is said
//! line          a line on the standard output; `\` before one that begins with a mark
//! ```
//! Invariant: all differences of a file are told, not only the first.
//! Not here: how lines are compared (`expected`).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::Failed;

use crate::expected::{Taken, agrees};
use crate::harness::{Outcome, PATIENCE, ensure, eventually, failed};

/// How a step's command is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Once,
    Until,
    Start,
    More,
    End,
}

#[derive(Debug)]
struct Step {
    line: usize,
    how: How,
    command: String,
    input: String,
    out: Vec<String>,
    err: Vec<String>,
    exit: i32,
}

fn parse(text: &str) -> Result<Vec<Step>, Failed> {
    let mut steps: Vec<Step> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let (mark, rest) = line.split_at_checked(2).unwrap_or((line, ""));
        let how = match mark {
            "$ " => Some(How::Once),
            "~ " => Some(How::Until),
            "& " => Some(How::Start),
            "&+" => Some(How::More),
            "&." => Some(How::End),
            _ => None,
        };
        if let Some(how) = how {
            let (out, err, input) = (Vec::new(), Vec::new(), String::new());
            let command = rest.to_owned();
            steps.push(Step { line: number + 1, how, command, input, out, err, exit: 0 });
            continue;
        }
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let step = steps.last_mut().ok_or_else(|| format!("line {}: no command", number + 1))?;
        let code = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(code) = code.and_then(|code| code.parse().ok()) {
            step.exit = code;
        } else if line == ">" || mark == "> " {
            step.input.push_str(rest);
            step.input.push('\n');
        } else if line == "!" || mark == "! " {
            step.err.push(rest.to_owned());
        } else {
            step.out.push(line.strip_prefix('\\').unwrap_or(line).to_owned());
        }
    }
    Ok(steps)
}

/// A command that runs beside the others.
#[derive(Debug)]
struct Beside {
    child: Child,
    seen: Arc<Mutex<Vec<String>>>,
    /// Lines that were expected before.
    past: usize,
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _already_dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Where the commands run.
#[derive(Debug)]
struct Shell<'a> {
    dir: &'a Path,
    taken: Taken,
    beside: Option<Beside>,
}

impl Shell<'_> {
    fn command(&self, step: &Step) -> Command {
        let mut command = Command::new("/bin/sh");
        // A shell that stays would outlive its killing with a child that holds the pipe.
        let exec = if step.how == How::Start { "exec " } else { "" };
        command.arg("-c").arg(format!("{exec}{}", step.command)).current_dir(self.dir);
        command.env("KUBECONFIG", self.dir.join("kubeconfig")).env("HOME", self.dir);
        command.envs(&self.taken).env("TERM", "dumb");
        command
    }

    /// Runs it once.
    fn run(&mut self, step: &Step) -> Outcome {
        let place = self.dir.join(".input");
        fs::write(&place, &step.input).map_err(|error| failed("input", error))?;
        let input = fs::File::open(&place).map_err(|error| failed("input", error))?;
        let answer = self.command(step).stdin(input).output();
        let answer = answer.map_err(|error| failed(&step.command, error))?;
        let (out, err) =
            (String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
        let fits = agrees(&step.out, &lines(&out), &mut self.taken)
            && agrees(&step.err, &lines(&err), &mut self.taken)
            && answer.status.code() == Some(step.exit);
        ensure(fits, || {
            let err: String = err.lines().map(|line| format!("! {line}\n")).collect();
            let code = answer.status.code().unwrap_or(-1);
            format!("{}--- but\n{out}{err}[{code}]\n", wanted(step))
        })
    }

    fn start(&mut self, step: &Step) -> Outcome {
        self.beside = None;
        let spawned = self.command(step).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| failed(&step.command, error))?;
        let out = child.stdout.take().ok_or("no stdout")?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        self.beside = Some(Beside { child, seen, past: 0 });
        self.more(step)
    }

    /// Waits for what the one beside must have printed by now.
    fn more(&mut self, step: &Step) -> Outcome {
        let beside = self.beside.as_mut().ok_or("nothing runs beside")?;
        let taken = &mut self.taken;
        let shown = || beside.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let past = beside.past;
        let end = eventually("it has printed that", PATIENCE, || {
            let seen = shown();
            let new: Vec<&str> = seen[past..].iter().map(String::as_str).collect();
            let end = (0..=new.len()).find(|end| agrees(&step.out, &new[..*end], taken));
            end.ok_or_else(|| format!("{}--- but\n{}\n", wanted(step), new.join("\n")).into())
        })?;
        beside.past += end;
        Ok(())
    }
}

fn wanted(step: &Step) -> String {
    let err: String = step.err.iter().map(|line| format!("! {line}\n")).collect();
    let out: String = step.out.iter().map(|line| format!("{line}\n")).collect();
    format!("line {}: {}\n{out}{err}[{}]\n", step.line, step.command, step.exit)
}

fn lines(text: &str) -> Vec<&str> {
    // Blank lines part sections and are told apart by nobody.
    text.lines().filter(|line| !line.trim().is_empty()).collect()
}

/// Runs the whole text in the folder; answers how many commands that were.
pub(crate) fn run(text: &str, dir: &Path) -> Result<usize, Failed> {
    let steps = parse(text)?;
    let mut shell = Shell { dir, taken: Taken::new(), beside: None };
    let mut problems = String::new();
    let trace = std::env::var_os("HOLDFAST_TRANSCRIPT_TIMES").is_some();
    for step in &steps {
        let begun = std::time::Instant::now();
        let done = match step.how {
            How::Once => shell.run(step),
            How::Until => eventually("it prints that", PATIENCE, || shell.run(step)),
            How::Start => shell.start(step),
            How::More => shell.more(step),
            How::End => {
                shell.beside = None;
                Ok(())
            }
        };
        if trace {
            let text = format!("{:>6} ms  {}\n", begun.elapsed().as_millis(), step.command);
            let _for_people = std::io::stderr().write_all(text.as_bytes());
        }
        if let Err(problem) = done {
            problems.push_str(problem.message().unwrap_or_default());
            problems.push('\n');
        }
    }
    ensure(problems.is_empty(), || problems)?;
    Ok(steps.iter().filter(|step| step.command.contains("kubectl ")).count())
}
