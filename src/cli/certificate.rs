//! `holdfast certificate`: issues certificates for clients. Runs on a master, where the
//! cluster's authority lies.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::cli::exit::Exit;
use crate::cli::install_tools::PathArgs;
use crate::cli::printer;
use crate::pki::{Authority, check_client_name};
use crate::sys::{clock, files};

/// Certificates for clients, signed by the cluster's authority; runs on a master.
#[derive(Debug, Args)]
pub struct CertificateArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// For a client of the store's etcd port (2379), such as etcdctl or Patroni.
    ///
    /// It opens the whole store, unless etcd's users and roles are enabled in it; NAME is
    /// then its user. It opens nothing else of the cluster.
    EtcdClient {
        name: String,
        /// Folder that gets ca.crt, NAME.crt and NAME.key (mode 0600).
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        paths: PathArgs,
    },
}

/// Runs the verb.
pub fn run(args: CertificateArgs) -> anyhow::Result<Exit> {
    let Action::EtcdClient { name, out, paths } = args.action;
    if let Err(reason) = check_client_name(&name) {
        printer::error(&reason);
        return Ok(Exit::Usage);
    }
    let authority = Authority::load(&paths.paths().pki())
        .context("cannot read the cluster's authority; this verb runs on a master, as root")?;
    let (certificate, key) = authority.issue_etcd_client(&name, clock::now())?;
    files::create_dir(&out, 0o700)?;
    let file = |extension: &str| out.join(format!("{name}.{extension}"));
    files::write_atomic(&file("key"), key.as_bytes(), 0o600)?;
    files::write_atomic(&file("crt"), certificate.as_bytes(), 0o644)?;
    files::write_atomic(&out.join("ca.crt"), authority.certificate_pem().as_bytes(), 0o644)?;
    printer::text(&format!(
        "ETCDCTL_CACERT={}\nETCDCTL_CERT={}\nETCDCTL_KEY={}",
        out.join("ca.crt").display(),
        file("crt").display(),
        file("key").display()
    ));
    Ok(Exit::Done)
}
