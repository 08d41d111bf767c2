//! The command line: one file per verb, output and exit codes only.

pub mod access;
pub mod apply;
pub mod audit;
pub mod bundle;
pub mod certificate;
pub mod config;
pub mod connection;
pub mod delete;
pub mod describe;
pub mod dr;
pub mod exit;
mod first_program;
pub mod get;
pub mod host_init;
pub mod init;
mod install_tools;
pub mod join;
pub mod lab;
mod logging;
pub mod logs;
pub mod media;
pub mod node;
pub mod preflight;
pub mod printer;
pub mod probe;
pub mod registry;
pub mod reset;
pub mod run_engine;
pub mod secrets;
pub mod serve;
pub mod status;
pub mod store;
pub mod token;

#[cfg(test)]
mod doc_tests;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::exit::Exit;

/// Bare hosts to a container cloud that survives the loss of a center.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Bundle(bundle::BundleArgs),
    Media(media::MediaArgs),
    Config(config::ConfigArgs),
    Preflight(preflight::PreflightArgs),
    Init(init::InitArgs),
    Join(join::JoinArgs),
    Reset(reset::ResetArgs),
    Token(token::TokenArgs),
    #[command(visible_alias = "cert")]
    Certificate(certificate::CertificateArgs),
    Access(access::AccessArgs),
    Audit(audit::AuditArgs),
    Node(node::NodeArgs),
    Serve(serve::ServeArgs),
    Status(status::StatusArgs),
    Dr(dr::DrArgs),
    Secrets(secrets::SecretsArgs),
    Store(store::StoreArgs),
    Get(get::GetArgs),
    Describe(describe::DescribeArgs),
    Apply(apply::ApplyArgs),
    Delete(delete::DeleteArgs),
    Logs(logs::LogsArgs),
    /// The images in the cluster's registry.
    Registry(registry::RegistryArgs),
    /// Several hosts on this machine, to try, test and break a cluster.
    Lab(lab::LabArgs),
    #[command(hide = true)]
    HostInit,
    #[command(hide = true)]
    RunEngine(run_engine::RunEngineArgs),
    #[command(hide = true)]
    Probe(probe::ProbeArgs),
}

/// Runs the verb that the command line names.
pub fn main() -> ExitCode {
    if let Some(code) = first_program::by_name() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) => {
            // clap prints help and version to stdout and mistakes to stderr itself.
            let _terminal_gone = refusal.print();
            let code = if refusal.use_stderr() { Exit::Usage } else { Exit::Done };
            return code.into();
        }
    };
    dispatch(cli.verb)
}

fn dispatch(verb: Verb) -> ExitCode {
    crate::sys::tls::install_crypto();
    match verb {
        Verb::Bundle(args) => ended(bundle::run(args, &mut printer::stdout()).map(|()| Exit::Done)),
        Verb::Media(args) => ended(media::run(args, &mut printer::stdout())),
        Verb::Config(args) => config::run(args).into(),
        Verb::Preflight(args) => preflight::run(args).into(),
        Verb::Init(args) => ended(blocking(init::run(args))),
        Verb::Join(args) => ended(blocking(join::run(args))),
        Verb::Reset(args) => ended(blocking(reset::run(args))),
        Verb::Token(args) => ended(blocking(token::run(args))),
        Verb::Certificate(args) => ended(blocking(certificate::run(args))),
        Verb::Access(args) => blocking(access::run(args)).into(),
        Verb::Audit(args) => blocking(audit::run(args)).into(),
        Verb::Node(args) => blocking(node::run(args)).into(),
        Verb::Serve(args) => blocking(serve::run(args)).into(),
        Verb::Status(args) => blocking(status::run(args)).into(),
        Verb::Dr(args) => ended(blocking(dr::run(args))),
        Verb::Secrets(args) => ended(blocking(secrets::run(args))),
        Verb::Store(args) => blocking(store::run(args)).into(),
        Verb::Get(args) => blocking(get::run(args)).into(),
        Verb::Describe(args) => blocking(describe::run(args)).into(),
        Verb::Apply(args) => blocking(apply::run(args)).into(),
        Verb::Delete(args) => blocking(delete::run(args)).into(),
        Verb::Logs(args) => blocking(logs::run(args)).into(),
        Verb::Registry(args) => ended(blocking(registry::run(args))),
        Verb::Lab(args) => ended(lab::run(args)),
        Verb::HostInit => ended(host_init::run()),
        Verb::RunEngine(args) => ended(run_engine::run(&args)),
        Verb::Probe(args) => match blocking(probe::run(args)) {
            Ok(code) => Exit::Command(code).into(),
            Err(reason) => {
                printer::error(&reason);
                Exit::Failed.into()
            }
        },
    }
}

/// Runs a verb that waits for others on a runtime of its own.
fn blocking<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("threads and an event queue can be made").block_on(work)
}

/// The verb's own exit code, or 1 with what went wrong.
fn ended(result: anyhow::Result<Exit>) -> ExitCode {
    let exit = result.unwrap_or_else(|error| {
        printer::error(&format!("{error:#}"));
        exit::code_of(&error)
    });
    exit.into()
}
