//! `holdfast lab`: several hosts on this machine, to try, test and break a cluster.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::exit::{Exit, require_files};
use super::printer;
use crate::base::chain::chain;
use crate::lab::{
    Bundle, Direction, Fault, HostState, Lab, LabError, LabStatus, Layout, LayoutError, LinkChange,
    Program, UpOptions, UpReport, Way, down, hold_switch, run_daemon, run_links, up,
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
        /// one: a single master; three: three masters in three centers of one site;
        /// two-site: centers a and b in one city and c in another, seven masters
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
    /// Kill, stop, wipe or start hosts, cut or slow the links between centers
    Fault {
        #[command(subcommand)]
        fault: FaultVerb,
    },
    /// Make every link between centers as it was at first
    Heal {
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
    Links {
        #[command(flatten)]
        dir: Dir,
    },
    #[command(hide = true)]
    Switch,
}

#[derive(Debug, Subcommand)]
enum FaultVerb {
    /// End everything in it at once, as a power cut does
    Kill(Victim),
    /// Freeze everything in it
    Stop(Victim),
    /// Kill it and take all that was on its disk; it stays down
    Wipe(Victim),
    /// Thaw a stopped host, boot a killed one
    Start(Victim),
    /// Let nothing pass between two centers
    Cut {
        from: String,
        to: String,
        /// Only what goes from the first to the second
        #[arg(long)]
        one_way: bool,
        #[command(flatten)]
        dir: Dir,
    },
    /// Change what a link between two centers does, also when it was cut; what is not
    /// given stays
    Link {
        from: String,
        to: String,
        /// Only what goes from the first to the second
        #[arg(long)]
        one_way: bool,
        /// Round trip, milliseconds
        #[arg(long, value_name = "MS", value_parser = amount)]
        delay: Option<f64>,
        /// Up to so much more or less than the delay, milliseconds
        #[arg(long, value_name = "MS", value_parser = amount)]
        jitter: Option<f64>,
        /// Packets that are lost, percent
        #[arg(long, value_name = "PERCENT", value_parser = percent)]
        loss: Option<f64>,
        /// Megabits a second; 0 takes the bound away
        #[arg(long, value_name = "MBIT", value_parser = amount)]
        rate: Option<f64>,
        #[command(flatten)]
        dir: Dir,
    },
}

#[derive(Args, Debug)]
struct Victim {
    /// A host, or a center for all of its hosts
    name: String,
    #[command(flatten)]
    dir: Dir,
}

fn amount(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if number.is_finite() && number >= 0.0 { Ok(number) } else { Err("must be 0 or more".into()) }
}

fn percent(text: &str) -> Result<f64, String> {
    amount(text).and_then(|number| {
        if number <= 100.0 { Ok(number) } else { Err("must be at most 100".into()) }
    })
}

/// Runs the verb. Blocks; must be called outside of any runtime.
pub fn run(args: LabArgs) -> anyhow::Result<Exit> {
    match args.verb {
        LabVerb::Up { layout, dir, bundle, trust, sample, bare, keep_on_failure, output } => {
            let layout: Layout = match layout.parse() {
                Ok(layout) => layout,
                Err(error @ LayoutError::Unknown(_)) => {
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
        LabVerb::Fault { fault } => make_fault(fault),
        LabVerb::Heal { dir } => {
            open(&dir)?.heal_links()?;
            printer::text("every link is as it was at first");
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
        LabVerb::Links { dir } => {
            run_links(&dir.dir, Program::current()?)?;
            Ok(Exit::Done)
        }
        LabVerb::Switch => hold_switch(),
    }
}

fn make_fault(fault: FaultVerb) -> anyhow::Result<Exit> {
    let said = match fault {
        FaultVerb::Kill(at) => format!("{} dead: everything was killed", strike(Fault::Kill, &at)?),
        FaultVerb::Wipe(at) => format!("{} dead and without a disk", strike(Fault::Wipe, &at)?),
        FaultVerb::Stop(at) => format!("{} frozen: nothing answers", strike(Fault::Stop, &at)?),
        FaultVerb::Start(at) => {
            format!("{} running; the cluster takes it back by itself", strike(Fault::Start, &at)?)
        }
        FaultVerb::Cut { from, to, one_way, dir } => {
            let change = LinkChange { cut: Some(true), ..LinkChange::default() };
            open(&dir)?.change_link(&from, &to, one_way, &change)?;
            let way = if one_way { "to" } else { "and" };
            let between = if one_way { "from" } else { "between" };
            format!("nothing passes {between} {from} {way} {to}")
        }
        FaultVerb::Link { from, to, one_way, delay, jitter, loss, rate, dir } => {
            let change = LinkChange {
                delay_ms: delay,
                jitter_ms: jitter,
                loss_percent: loss,
                rate_mbit: rate,
                cut: Some(false),
            };
            let lab = open(&dir)?;
            lab.change_link(&from, &to, one_way, &change)?;
            describe_link(&lab, &from, &to)?
        }
    };
    printer::text(&said);
    Ok(Exit::Done)
}

/// Does it, and names the hosts with their verb.
fn strike(fault: Fault, victim: &Victim) -> Result<String, LabError> {
    let hosts = open(&victim.dir)?.fault(fault, &victim.name)?;
    let verb = if hosts.len() == 1 { "is" } else { "are" };
    Ok(format!("{} {verb}", hosts.join(", ")))
}

/// Both directions.
fn describe_link(lab: &Lab, from: &str, to: &str) -> Result<String, LabError> {
    let ways = lab.ways()?.ways;
    let ends = [(from, to), (to, from)];
    let own = ways.iter().filter(|way| ends.contains(&(way.from.as_str(), way.to.as_str())));
    Ok(own.map(describe_way).collect::<Vec<_>>().join("\n"))
}

fn describe_way(way: &Way) -> String {
    let Direction { delay_ms, jitter_ms, loss_percent, rate_mbit, cut } = &way.direction;
    let rate = rate_mbit.map_or("any rate".to_owned(), |rate| format!("{rate} Mbit/s"));
    let passes = if *cut { "cut".to_owned() } else { format!("{loss_percent} % lost, {rate}") };
    format!("{} to {}: {delay_ms} ms ± {jitter_ms} ms, {passes}", way.from, way.to)
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
    if let Some(running) = status.links_running {
        printer::text(&format!("links between centers: {}", runs(running)));
        for way in &status.links {
            printer::text(&format!("  {}", describe_way(way)));
        }
    }
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
