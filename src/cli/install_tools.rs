//! What `init`, `join`, `reset` and `preflight` share: directories, bundle, progress,
//! and which exit code an error is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::base::chain::chain;
use crate::bundle::{Bundle, TrustedKeys};
use crate::cli::exit::{Exit, VerbError};
use crate::cli::printer;
use crate::install::apply::{
    InstallError, Places, Progress, ProgressSink, Tools, admin_credentials, read_config,
};
use crate::install::bundle_source::OpenedBundle;
use crate::install::init::InstallReport;
use crate::install::ports::{BundleSource, Credentials, RemoteError};
use crate::install::remote::HttpsRemote;
use crate::logic::preflight::{Finding, Severity};
use crate::model::node_config::Paths;
use crate::playbook::Event;
use crate::sys::clock;
use crate::sys::services::ServiceManager;
use crate::sys::services::init_client::InitClient;
use crate::sys::systemd::Systemd;

/// Where things lie on this host.
#[derive(Clone, Debug, Args)]
pub(crate) struct PathArgs {
    /// Configuration and keys.
    #[arg(long, default_value = "/etc/holdfast")]
    config_dir: PathBuf,
    /// Store, registry, engine data and pod volumes.
    #[arg(long, default_value = "/var/lib/holdfast")]
    data_dir: PathBuf,
    /// Sockets and pid files.
    #[arg(long, default_value = "/run/holdfast")]
    run_dir: PathBuf,
}

impl PathArgs {
    /// The default places with another configuration directory.
    pub(crate) fn with_config(config_dir: &std::path::Path) -> Self {
        let Paths { config: _, data, run } = Paths::default();
        Self { config_dir: config_dir.to_owned(), data_dir: data, run_dir: run }
    }

    pub(crate) fn paths(&self) -> Paths {
        Paths {
            config: self.config_dir.clone(),
            data: self.data_dir.clone(),
            run: self.run_dir.clone(),
        }
    }

    /// The administrator's credentials of this node, and the API to ask: its own unless
    /// another is named. `place` says where the verb runs if this is none.
    pub(crate) fn administrator(
        &self,
        server: Option<SocketAddr>,
        place: &str,
    ) -> Result<(Credentials, SocketAddr), VerbError> {
        let elsewhere = |error: InstallError| {
            VerbError::Usage(format!(
                "{}; run this on {place}, or say with --config-dir where its configuration is",
                chain(&error)
            ))
        };
        let paths = self.paths();
        let own = admin_credentials(&paths).map_err(elsewhere)?;
        let config = read_config(&paths.node_config()).map_err(elsewhere)?;
        let own_api = SocketAddr::new(config.address, config.ports.api);
        Ok((own, server.unwrap_or(own_api)))
    }
}

/// Which bundle, and whose signature counts.
#[derive(Clone, Debug, Args)]
pub(crate) struct BundleFileArgs {
    /// The bundle file.
    #[arg(long)]
    bundle: PathBuf,
    /// Public keys that are trusted.
    #[arg(long, required = true)]
    trust: Vec<PathBuf>,
}

impl BundleFileArgs {
    /// Opens it, or says what is wrong and with which code to end: a file that is not
    /// there was named wrongly, any other one has failed its test.
    pub(crate) fn open(&self) -> Result<Arc<dyn BundleSource>, Exit> {
        if let Some(absent) = self.trust.iter().chain([&self.bundle]).find(|file| !file.exists()) {
            printer::error(&format!("there is no file {}", absent.display()));
            return Err(Exit::Usage);
        }
        self.opened().map_err(|error| {
            printer::error(&format!("{error:#}; nothing was written"));
            Exit::Failed
        })
    }

    fn opened(&self) -> anyhow::Result<Arc<dyn BundleSource>> {
        let bundle = Bundle::open(&self.bundle, &TrustedKeys::load(&self.trust)?)?;
        Ok(Arc::new(OpenedBundle::new(bundle)?))
    }
}

/// The host's manager: our own PID 1 where it runs, else systemd.
pub(crate) fn services() -> Arc<dyn ServiceManager> {
    if InitClient::is_present() { Arc::new(InitClient::default()) } else { Arc::new(Systemd) }
}

/// Everything an installation works with. The first Ctrl-C stops it between two steps.
pub(crate) fn tools(bundle: Arc<dyn BundleSource>) -> Tools {
    Tools {
        bundle,
        services: services(),
        remote: Arc::new(HttpsRemote),
        clock: Arc::new(clock::now),
        places: Places::default(),
        progress: progress(),
        cancel: CancellationToken::new(),
        check_host: true,
    }
}

/// Runs the work; an interrupt asks it to stop at the next step.
pub(crate) async fn interruptible<T>(
    cancel: CancellationToken,
    work: impl Future<Output = T>,
) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = work.as_mut() => return done,
        _ = tokio::signal::ctrl_c() => cancel.cancel(),
    }
    work.await
}

fn progress() -> ProgressSink {
    let bar: Mutex<Option<ProgressBar>> = Mutex::new(None);
    let interactive = std::io::IsTerminal::is_terminal(&std::io::stderr());
    Arc::new(move |progress| match progress {
        Progress::PhaseStarted(name) => printer::note(&format!("{name} ...")),
        Progress::PhaseDone(name) => {
            if let Some(bar) = bar.lock().ok().and_then(|mut bar| bar.take()) {
                bar.finish_and_clear();
            }
            printer::note(&format!("{name} done"));
        }
        Progress::PhaseSkipped(name) => printer::note(&format!("{name} was done before")),
        Progress::Bytes { phase, done, total } if interactive => {
            if let Ok(mut bar) = bar.lock() {
                bar.get_or_insert_with(|| bytes_bar(phase, total)).set_position(done);
            }
        }
        Progress::Bytes { .. } => {}
        Progress::Task(Event::Finished { report }) => {
            printer::note(&format!("  {:?}: {}", report.state, report.name));
        }
        Progress::Task(Event::Started { .. } | Event::Ran { .. }) => {}
    })
}

fn bytes_bar(phase: &str, total: u64) -> ProgressBar {
    let template = "{prefix} [{bar:30}] {bytes}/{total_bytes} {eta}";
    let style = ProgressStyle::with_template(template).expect("the template is constant");
    let bar = ProgressBar::new(total);
    bar.set_style(style);
    bar.set_prefix(phase.to_owned());
    bar
}

/// `https://10.0.0.1:6443`, `10.0.0.1:6443` or `10.0.0.1`.
pub(crate) fn parse_server(text: &str) -> Result<SocketAddr, String> {
    let plain = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
    let with_port = || plain.parse::<std::net::IpAddr>().map(|ip| SocketAddr::new(ip, 6443));
    plain
        .parse()
        .or_else(|_| with_port())
        .map_err(|_| format!("{text:?} is not an address such as https://10.0.0.1:6443"))
}

/// Prints the outcome and says with which code to end.
pub(crate) fn settle(result: Result<InstallReport, InstallError>, json: bool) -> Exit {
    let report = match result {
        Ok(report) => report,
        Err(error) => {
            printer::error(&chain(&error));
            return exit_of(&error);
        }
    };
    if json {
        printer::document(&report);
        return Exit::Done;
    }
    for warning in &report.warnings {
        printer::note(&format!("warning: {warning}"));
    }
    for finding in report.findings.iter().filter(|one| one.severity == Severity::Warning) {
        let Finding { code, what, place, fix, .. } = finding;
        printer::note(&format!("warning: {code} ({place}): {what}; {fix}"));
    }
    let state = if report.already_done { "was made before" } else { "is ready" };
    let mut lines = vec![
        format!("node {} of cluster {} {state}", report.node_name, report.cluster_name),
        format!("server       {}", report.server),
    ];
    if let Some(path) = &report.kubeconfig {
        lines.push(format!("kubeconfig   {}", path.display()));
    }
    if let Some(path) = &report.admin_password_file {
        lines.push(format!("password     {}", path.display()));
    }
    printer::text(&lines.join("\n"));
    Exit::Done
}

pub(crate) fn exit_of(error: &InstallError) -> Exit {
    match error {
        InstallError::Cluster(_)
        | InstallError::NoSuchNode { .. }
        | InstallError::NotControl { .. } => Exit::Usage,
        InstallError::Busy | InstallError::Interrupted | InstallError::NotReady { .. } => {
            Exit::TryAgain
        }
        InstallError::Remote(error) => remote_exit(error),
        InstallError::NobodyToAsk { .. } => Exit::Unreachable,
        InstallError::Bundle(_)
        | InstallError::OlderBundle { .. }
        | InstallError::Preflight(_)
        | InstallError::WasRemoved
        | InstallError::MustStay { .. }
        | InstallError::LastNode { .. }
        | InstallError::OtherInstallation { .. }
        | InstallError::File(_)
        | InstallError::Pki(_)
        | InstallError::Playbook(_)
        | InstallError::Undo(_)
        | InstallError::Images(_)
        | InstallError::Service(_)
        | InstallError::Damaged { .. }
        | InstallError::Password { .. } => Exit::Failed,
    }
}

/// The exit code of a call that failed.
pub(crate) fn remote_exit(error: &RemoteError) -> Exit {
    match error {
        RemoteError::Unreachable { .. } => Exit::Unreachable,
        RemoteError::Refused { reason, .. } if reason == "ServiceUnavailable" => Exit::TryAgain,
        RemoteError::Refused { .. }
        | RemoteError::Foreign { .. }
        | RemoteError::Garbled { .. }
        | RemoteError::Keys { .. } => Exit::Failed,
    }
}
