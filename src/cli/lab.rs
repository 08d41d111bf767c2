//! `holdfast lab`: several hosts on this machine, to try, test and break a cluster.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::exit::{Exit, require_files};
use super::printer;
use crate::base::chain::chain;
use crate::lab::{
    Bundle, Fault, HostState, Lab, LabError, LabStatus, Layout, LayoutError, Program, UpOptions,
    UpReport, down, hold_switch, run_daemon, up,
};

/// Lines of each log that are shown after a failure.
const LOG_LINES: usize = 25;

#[derive(Args, Debug)]
pub struct LabArgs {
    #[command(subcommand)]
    verb: LabVerb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Which lab.
#[derive(Args, Debug)]
struct Dir {
    /// The lab's directory
    #[arg(long, env = "HOLDFAST_LAB_DIR", value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum LabVerb {
    /// Bring a lab up; repeating it finishes what was begun
    Up {
        /// one: a single master; three: three masters in three centers
        #[arg(long)]
        layout: String,
        #[command(flatten)]
        dir: Dir,
        /// The bundle to install; without it the hosts stay bare
        #[arg(long, requires = "trust", value_name = "FILE")]
        bundle: Option<PathBuf>,
        /// The public key that the bundle must be signed for
        #[arg(long, value_name = "FILE")]
        trust: Option<PathBuf>,
        /// A manifest to deploy when all nodes are ready
        #[arg(long, requires = "bundle", value_name = "FILE")]
        sample: Option<PathBuf>,
        /// Put the bundle on the hosts, but install nothing
        #[arg(long, requires = "bundle")]
        bare: bool,
        /// Leave everything as it is when a step fails
        #[arg(long)]
        keep_on_failure: bool,
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Print export lines for a shell: eval "$(holdfast lab env --dir D)"
    Env {
        #[command(flatten)]
        dir: Dir,
    },
    /// Show what runs, and how many packets left the lab's own addresses
    Status {
        #[command(flatten)]
        dir: Dir,
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Kill, stop, wipe or start a host
    Fault {
        #[arg(value_enum)]
        fault: FaultName,
        node: String,
        #[command(flatten)]
        dir: Dir,
    },
    /// Run a command on a host, with this terminal
    Exec {
        node: String,
        #[command(flatten)]
        dir: Dir,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Take the lab down; leaves nothing, also after a crash
    Down {
        #[command(flatten)]
        dir: Dir,
    },
    #[command(hide = true)]
    Daemon {
        #[command(flatten)]
        dir: Dir,
    },
    #[command(hide = true)]
    Switch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FaultName {
    /// End everything in it at once, as a power cut does
    Kill,
    /// Freeze everything in it
    Stop,
    /// Kill it and take all that was on its disk; it stays down
    Wipe,
    /// Thaw a stopped host, boot a killed one
    Start,
}

/// Runs the verb. Blocks; must be called outside of any runtime.
pub fn run(args: LabArgs) -> anyhow::Result<Exit> {
    match args.verb {
        LabVerb::Up { layout, dir, bundle, trust, sample, bare, keep_on_failure, output } => {
            let layout: Layout = match layout.parse() {
                Ok(layout) => layout,
                Err(error @ (LayoutError::NotServed | LayoutError::Unknown(_))) => {
                    printer::error(&error.to_string());
                    return Ok(Exit::Usage);
                }
            };
            require_files(bundle.iter().chain(&trust).chain(&sample))?;
            let bundle = bundle.zip(trust).map(|(file, trust)| Bundle { file, trust });
            let program = Program::current()?;
            let options = UpOptions { layout, dir: dir.dir, bundle, sample, bare, program };
            bring_up(&options, keep_on_failure, output)
        }
        LabVerb::Env { dir } => {
            for (name, value) in open(&dir)?.env()? {
                printer::text(&format!("export {name}={}", quote(&value)));
            }
            Ok(Exit::Done)
        }
        LabVerb::Status { dir, output } => Ok(show_status(&open(&dir)?.status()?, output)),
        LabVerb::Fault { fault, node, dir } => {
            let fault = match fault {
                FaultName::Kill => Fault::Kill,
                FaultName::Stop => Fault::Stop,
                FaultName::Wipe => Fault::Wipe,
                FaultName::Start => Fault::Start,
            };
            open(&dir)?.fault(fault, &node)?;
            printer::text(&match fault {
                Fault::Kill => format!("{node} is dead: everything in it was killed"),
                Fault::Wipe => format!("{node} is dead and its disk is empty"),
                Fault::Stop => format!("{node} is frozen: nothing in it answers"),
                Fault::Start => format!("{node} runs; the cluster takes it back by itself"),
            });
            Ok(Exit::Done)
        }
        LabVerb::Exec { node, dir, command } => {
            let code = open(&dir)?.exec(&node, &command)?;
            Ok(Exit::Command(u8::try_from(code).unwrap_or(1)))
        }
        LabVerb::Down { dir } => take_down(&dir.dir),
        LabVerb::Daemon { dir } => {
            run_daemon(&dir.dir, Program::current()?)?;
            Ok(Exit::Done)
        }
        LabVerb::Switch => hold_switch(),
    }
}

fn open(dir: &Dir) -> Result<Lab, LabError> {
    Lab::open(&dir.dir, Program::current()?)
}

fn bring_up(options: &UpOptions, keep: bool, output: Output) -> anyhow::Result<Exit> {
    // One that was there before is not this command's to take down.
    let was_there = Lab::open(&options.dir, options.program.clone()).is_ok();
    match up(options, &printer::note) {
        Ok(report) => {
            show_report(&report, output);
            if options.bundle.is_some() && !options.bare && output == Output::Text {
                show_next_steps(&Lab::open(&options.dir, options.program.clone())?)?;
            }
            Ok(Exit::Done)
        }
        Err(error) if error.is_usage() => {
            printer::error(&chain(&error));
            Ok(Exit::Usage)
        }
        Err(error) => {
            printer::error(&format!("lab up failed: {}", chain(&error)));
            show_last_words(options);
            if was_there || keep {
                printer::note("everything is kept as it is; `holdfast lab down` removes it");
            } else if Lab::open(&options.dir, options.program.clone()).is_ok() {
                printer::note("taking the lab down; --keep-on-failure would leave it");
                down(&options.dir)?;
            }
            Ok(Exit::Failed)
        }
    }
}

fn show_last_words(options: &UpOptions) {
    let Ok(lab) = Lab::open(&options.dir, options.program.clone()) else { return };
    for tail in lab.last_words(LOG_LINES).unwrap_or_default() {
        printer::note(&format!("---- {}\n{}", tail.name, tail.text));
    }
}

fn show_report(report: &UpReport, output: Output) {
    if output == Output::Json {
        printer::document(report);
        return;
    }
    for step in &report.steps {
        printer::text(&format!("{:>8.1} s  {}", step.seconds, step.name));
    }
    printer::text(&format!(
        "{:>8.1} s  in all; the lab is in {}",
        report.total_seconds,
        report.dir.display()
    ));
}

/// What runs, and what to try with it.
fn show_next_steps(lab: &Lab) -> Result<(), LabError> {
    let env = lab.env()?;
    let value = |name: &str| {
        let found = env.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    let names: Vec<&str> = lab.hosts().iter().map(|host| host.name.as_str()).collect();
    let first = names.first().copied().unwrap_or_default();
    let dir = quote(value("HOLDFAST_LAB_DIR"));
    let program = std::env::current_exe().unwrap_or_else(|_| "holdfast".into());
    let program = program.display();
    printer::text(&format!(
        "\nRunning: {} master{} ({}). What to try next:\n\n\
         \x20 eval \"$({program} lab env --dir {dir})\"     sets KUBECONFIG and the rest\n\
         \x20 kubectl get pods -o wide                 (or: {program} get pods -o wide)\n\
         \x20 {program} status\n\n\
         \x20 the page:   {}   user admin, password {}\n\
         \x20 kubeconfig: {}\n\n\
         \x20 {program} lab fault kill {first} --dir {dir}     kills a master; `start` brings it back\n\
         \x20 {program} lab down --dir {dir}     takes all of it down",
        names.len(),
        if names.len() == 1 { "" } else { "s" },
        names.join(", "),
        value("HOLDFAST_ADMIN_URL"),
        value("HOLDFAST_ADMIN_PASSWORD"),
        value("KUBECONFIG"),
    ));
    Ok(())
}

fn show_status(status: &LabStatus, output: Output) -> Exit {
    if output == Output::Json {
        printer::document(status);
    } else {
        say_status(status);
    }
    if status.healthy { Exit::Done } else { Exit::Attention }
}

fn say_status(status: &LabStatus) {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "HOST",
        "CENTER",
        "ADDRESS",
        "STATE",
        "PROCESSES",
        "API",
        "REGISTRY",
        "SERVICES",
    ]);
    for host in &status.hosts {
        let port = |service: &str| {
            let ports = status.forwards.as_ref().and_then(|all| all.hosts.get(&host.name));
            let port = ports.and_then(|ports| ports.get(service));
            port.map_or("-".to_owned(), |port| format!("127.0.0.1:{port}"))
        };
        let state = match host.state {
            HostState::Running => "running",
            HostState::Stopped => "stopped",
            HostState::Down => "down",
        };
        let service = |one: &crate::lab::ServiceStatus| {
            format!("{} {}", one.name, if one.running { "runs" } else { "down" })
        };
        let services: Vec<String> = host.services.iter().map(service).collect();
        table.add_row([
            host.name.clone(),
            host.center.clone(),
            host.address.to_string(),
            state.to_owned(),
            host.processes.to_string(),
            port("api"),
            port("registry"),
            services.join(", "),
        ]);
    }
    printer::text(&table.to_string());
    let runs = |running: bool| if running { "running" } else { "gone" };
    printer::text(&format!("switch: {}", runs(status.switch_running)));
    printer::text(&format!("daemon: {}", runs(status.daemon_running)));
    if let Some(forwards) = &status.forwards {
        for (service, port) in &forwards.any {
            printer::text(&format!("{service}: 127.0.0.1:{port} (the first host that answers)"));
        }
    }
    match status.outbound_packets {
        Some(count) => printer::text(&format!("outbound packets: {count}")),
        None => printer::text("outbound packets: unknown, the switch is gone"),
    }
}

fn take_down(dir: &Path) -> anyhow::Result<Exit> {
    let existed = dir.exists();
    let report = down(dir)?;
    if existed || report.processes > 0 {
        printer::note(&format!("the lab is down; {} processes were ended", report.processes));
    } else {
        printer::note(&format!("there is no lab in {}; nothing to take down", dir.display()));
    }
    Ok(Exit::Done)
}

/// Single quotes for a POSIX shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_survive_a_shell() {
        assert_eq!(quote("/tmp/it's"), "'/tmp/it'\\''s'");
    }
}
