//! `holdfast certificate`: this host's certificates, and those for clients.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};

use crate::app::control_nodes::known;
use crate::cli::exit::Exit;
use crate::cli::install_tools::PathArgs;
use crate::cli::printer;
use crate::install::apply::read_config;
use crate::install::remote::HttpsRemote;
use crate::install::renewal::{Which, renew};
use crate::model::node_config::Paths;
use crate::pki::{self, Authority, CertificateInfo, check_client_name};
use crate::sys::{clock, files};

/// This host's certificates, which renew themselves, and certificates for clients.
#[derive(Debug, Args)]
pub struct CertificateArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the certificates of this host and how long they last.
    List {
        /// `json` prints one stable document.
        #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
        output: String,
        #[command(flatten)]
        paths: PathArgs,
    },
    /// Renew this node's certificate now, and on a master the administrator's.
    ///
    /// They renew themselves when two thirds of their time are over; this is for who does not
    /// want to wait. The node's key stays. The running node takes the new certificate into use
    /// within seconds; nothing is restarted and no connection is cut.
    Rotate {
        #[command(flatten)]
        paths: PathArgs,
    },
    /// For a client of the store's etcd port (2379), such as etcdctl or Patroni; on a master.
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
pub async fn run(args: CertificateArgs) -> anyhow::Result<Exit> {
    match args.action {
        Action::List { output, paths } => list(&paths.paths(), output == "json"),
        Action::Rotate { paths } => rotate(&paths.paths()).await,
        Action::EtcdClient { name, out, paths } => etcd_client(&name, &out, &paths.paths()),
    }
}

const ELSEWHERE: &str = "this verb runs on a node, as root; say with --config-dir where its \
                         configuration is";

fn list(paths: &Paths, json: bool) -> anyhow::Result<Exit> {
    let found = pki::certificates(&paths.pki()).context(ELSEWHERE)?;
    if found.is_empty() {
        printer::error(&format!("{} holds no certificate; {ELSEWHERE}", paths.pki().display()));
        return Ok(Exit::Usage);
    }
    if json {
        printer::document(&found);
        return Ok(Exit::Done);
    }
    let now = clock::now();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["NAME", "SUBJECT", "EXPIRES", "DAYS LEFT"]);
    for one in found {
        let days = one.days_left(now).to_string();
        let CertificateInfo { name, subject, not_after, .. } = one;
        table.add_row([name, subject, clock::to_seconds(not_after), days]);
    }
    printer::text(&table.to_string());
    Ok(Exit::Done)
}

async fn rotate(paths: &Paths) -> anyhow::Result<Exit> {
    let config = read_config(&paths.node_config()).context(ELSEWHERE)?;
    let servers = known(&config);
    let renewed = renew(&config, Which::All, &servers, &HttpsRemote, clock::now()).await?;
    for one in pki::certificates(&paths.pki())?.iter().filter(|one| renewed.contains(&one.name)) {
        let until = clock::to_seconds(one.not_after);
        printer::text(&format!("{}: renewed, until {until}", one.name));
    }
    Ok(Exit::Done)
}

fn etcd_client(name: &str, out: &Path, paths: &Paths) -> anyhow::Result<Exit> {
    if let Err(reason) = check_client_name(name) {
        printer::error(&reason);
        return Ok(Exit::Usage);
    }
    let authority = Authority::load(&paths.pki())
        .context("cannot read the cluster's authority; this verb runs on a master, as root")?;
    let (certificate, key) = authority.issue_etcd_client(name, clock::now())?;
    files::create_dir(out, 0o700)?;
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
