//! `holdfast store snapshot save|status|restore`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use futures::StreamExt;
use indicatif::HumanBytes;
use serde::Serialize;

use super::StoreVerbError;
use super::recover::{Node, confirm};
use crate::api::store_upkeep::SNAPSHOT_PATH;
use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::cli::connection::Connection;
use crate::cli::exit::{Exit, VerbError};
use crate::cli::install_tools::PathArgs;
use crate::cli::printer;
use crate::install::recover::{open_order, restore_order};
use crate::logic::recovery::REVISION_LEAP;
use crate::model::kv::Revision;
use crate::store::snapshot_file::{AnySnapshot, SnapshotHeader};
use crate::store::{Founding, OfflineError, SnapshotFormat, StoppedMember, found_member};
use crate::sys::clock;

/// Save, look at and restore snapshots.
#[derive(Debug, Args)]
pub(super) struct SnapshotArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Save the state of the running cluster, or of a stopped member.
    Save(SaveArgs),
    /// Check a snapshot and say what is in it.
    Status(StatusArgs),
    /// Begin a new cluster from a snapshot.
    ///
    /// On a control node that is alone in a cluster that `holdfast init` has just made, it
    /// gives that cluster the snapshot's content: objects, ConfigMaps, leases, users of etcd's
    /// protocol, everything but the nodes, tokens and the password, which stay the new
    /// cluster's. Other nodes join afterwards. With --data-dir it only makes the directory of
    /// a single member.
    ///
    /// The revision leaps ahead and everything before counts as compacted, so that every
    /// watch and every informer lists anew instead of missing what came after the snapshot.
    Restore(RestoreArgs),
}

#[derive(Debug, Args)]
struct SaveArgs {
    /// The file to write; it appears when it is complete
    #[arg(short, long = "output")]
    output: PathBuf,
    /// `holdfast`, or `etcd` for what `etcdctl snapshot` reads: without users and roles
    #[arg(long, value_parser = ["holdfast", "etcd"], default_value = "holdfast")]
    format: String,
    /// The directory of a stopped member, instead of the running cluster
    #[arg(long)]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
struct StatusArgs {
    file: PathBuf,
    /// `json` prints one stable document
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

#[derive(Debug, Args)]
struct RestoreArgs {
    file: PathBuf,
    /// How far the revision leaps ahead of the snapshot's
    #[arg(long, default_value_t = REVISION_LEAP)]
    bump_revision: Revision,
    /// Do not ask; the number of the generation that is made
    #[arg(long)]
    yes_generation: Option<u64>,
    /// Configuration and keys of this node
    #[arg(long, default_value = "/etc/holdfast")]
    config_dir: PathBuf,
    /// Make only this directory, which must not exist, and leave the node alone
    #[arg(long, requires = "name", requires = "address")]
    data_dir: Option<PathBuf>,
    /// With --data-dir: the member's name
    #[arg(long)]
    name: Option<String>,
    /// With --data-dir: HOST:PORT of its peer listener
    #[arg(long)]
    address: Option<String>,
    /// With --data-dir: the new cluster's id; drawn at random if absent
    #[arg(long)]
    cluster_id: Option<ClusterId>,
    /// With --data-dir: the member's id, which no member of the old cluster ever had
    #[arg(long, default_value_t = 2_001)]
    member_id: u64,
}

pub(super) async fn run(args: SnapshotArgs) -> Result<Exit, StoreVerbError> {
    match args.action {
        Action::Save(args) => save(args).await,
        Action::Status(args) => status(&args),
        Action::Restore(args) => restore(args).await,
    }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> StoreVerbError + '_ {
    move |source| StoreVerbError::File { path: path.to_owned(), source }
}

async fn save(args: SaveArgs) -> Result<Exit, StoreVerbError> {
    let directory = args.output.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".snapshot-")
        .tempfile_in(directory)
        .map_err(at(&args.output))?;
    match &args.data_dir {
        Some(stopped) => {
            let format = match &*args.format {
                "etcd" => SnapshotFormat::Etcd,
                _ => SnapshotFormat::Holdfast,
            };
            StoppedMember::open(stopped)?.write_snapshot(format, file.as_file_mut()).await?;
        }
        None => {
            let api = args.connection.api()?;
            let format = [("format", args.format.clone())];
            let answer = api.get_stream(SNAPSHOT_PATH, &format, "application/octet-stream").await;
            let mut pieces = answer.map_err(VerbError::from)?;
            while let Some(piece) = pieces.next().await {
                file.write_all(&piece.map_err(VerbError::from)?).map_err(at(&args.output))?;
            }
        }
    }
    // A stream that broke off is noticed here.
    let mut written = AnySnapshot::open(file.as_file_mut()).map_err(OfflineError::from)?;
    written.check().map_err(OfflineError::from)?;
    let header = written.header().clone();
    file.as_file().sync_all().map_err(at(&args.output))?;
    file.persist(&args.output).map_err(|error| at(&args.output)(error.error))?;
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(at(&args.output))?;
    printer::text(&format!(
        "saved {} with {} keys at revision {}",
        args.output.display(),
        header.keys,
        header.revision
    ));
    Ok(Exit::Done)
}

/// The stable document of `status -o json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen<'a> {
    /// `holdfast` or `etcd`.
    format: &'static str,
    hash: String,
    size_bytes: u64,
    leases: usize,
    users: usize,
    alarms: usize,
    #[serde(flatten)]
    header: &'a SnapshotHeader,
}

fn open(path: &Path) -> Result<AnySnapshot<File>, StoreVerbError> {
    let file = File::open(path).map_err(at(path))?;
    Ok(AnySnapshot::open(file).map_err(OfflineError::from)?)
}

fn status(args: &StatusArgs) -> Result<Exit, StoreVerbError> {
    let mut file = open(&args.file)?;
    file.check().map_err(OfflineError::from)?;
    let (header, format) = (file.header(), file.format());
    let (hash, rest) = (hex::encode(file.hash()), file.rest());
    let (leases, alarms) = (rest.leases.len(), rest.alarms.len());
    let users = rest.auth.as_ref().map_or(0, |auth| auth.users().count());
    if args.output == "json" {
        let size_bytes = file.bytes();
        printer::document(&Seen { format, hash, size_bytes, leases, users, alarms, header });
    } else {
        printer::text(&format!(
            "Format:     {format}\nHash:       {hash}\nRevision:   {}\nKeys:       {}\nBeside:     {leases} leases, {users} users, {alarms} alarms\nSize:       {}\nCluster:    {}\n\
             Generation: {}\nMember:     {}\nLog:        term {}, index {}\nWritten by: {}",
            header.revision,
            header.keys,
            HumanBytes(file.bytes()),
            header.cluster,
            header.generation,
            header.member,
            header.term,
            header.index,
            header.program
        ));
    }
    Ok(Exit::Done)
}

async fn restore(args: RestoreArgs) -> Result<Exit, StoreVerbError> {
    if args.bump_revision < 0 {
        return Err(StoreVerbError::Usage("the revision never goes back".into()));
    }
    match &args.data_dir {
        Some(path) => restore_directory(&args, path),
        None => restore_node(&args).await,
    }
}

fn restore_directory(args: &RestoreArgs, path: &Path) -> Result<Exit, StoreVerbError> {
    let mut file = open(&args.file)?;
    let cluster = args.cluster_id.unwrap_or_else(|| ClusterId(uuid::Uuid::new_v4()));
    if cluster == file.header().cluster {
        return Err(StoreVerbError::Usage("a restored cluster gets a new id".into()));
    }
    let founding = Founding {
        cluster,
        generation: Generation(1),
        member: MemberId(args.member_id),
        name: args.name.clone().unwrap_or_default(),
        address: args.address.clone().unwrap_or_default(),
        revision: file.header().revision + args.bump_revision,
        log_position: (1, 1),
    };
    let rest = file.rest().clone();
    let mut records = file.records().map_err(OfflineError::from)?;
    let keys = found_member(path, &founding, &rest, &mut records)?;
    printer::text(&format!(
        "{} holds cluster {cluster}, generation 1, member {}, with {keys} keys at revision {}",
        path.display(),
        founding.member,
        founding.revision
    ));
    Ok(Exit::Done)
}

async fn restore_node(args: &RestoreArgs) -> Result<Exit, StoreVerbError> {
    let paths = PathArgs::with_config(&args.config_dir);
    let node = Node::load(&paths)?;
    if let Some(order) = open_order(&node.paths)? {
        return node.carry_out(&order, "text").await;
    }
    let header = open(&args.file)?.header().clone();
    let own = node.own_summary().await?;
    let to = own.generation.0 + 1;
    printer::note(&format!(
        "This gives cluster {} the content of the snapshot of cluster {} (generation {}, revision \
         {}, {} keys).\nAll that cluster {} holds now, except its nodes, tokens and password, is \
         set aside.",
        own.cluster, header.cluster, header.generation, header.revision, header.keys, own.cluster
    ));
    confirm(to, args.yes_generation)?;
    let own = node.stop().await?;
    let leap = args.bump_revision;
    let order = restore_order(&node.paths, &args.file, leap, &own, clock::now());
    match order {
        Ok(order) => node.carry_out(&order, "text").await,
        Err(error) => {
            node.start().await?;
            Err(error.into())
        }
    }
}
