//! `holdfast store recover` and `store summary`.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::StoreVerbError;
use crate::api::store_upkeep::SUMMARY_PATH;
use crate::base::chain::chain;
use crate::cli::exit::{Exit, VerbError};
use crate::cli::install_tools::{PathArgs, services};
use crate::cli::printer;
use crate::client::{HttpApi, HttpConfig};
use crate::install::apply::{NODE_SERVICE, read_config};
use crate::install::recover::{
    self, Order, RecoverError, SignedSummary, open_order, recovery_order,
};
use crate::logic::recovery::{Loss, NoPlan, Plan, plan};
use crate::model::node_config::{NodeConfig, Paths};
use crate::model::recovery::MemberSummary;
use crate::store::{OfflineError, StoppedMember};
use crate::sys::clock;
use crate::sys::files;
use crate::sys::services::ServiceManager;

/// How long a member may take to say what it has.
const ASK: Duration = Duration::from_secs(3);
/// How long the stopped service's files may stay in use.
const FREE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct SummaryArgs {
    #[command(flatten)]
    paths: PathArgs,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["plan", "apply"])))]
pub(super) struct RecoverArgs {
    /// Show what would be done; changes nothing
    #[arg(long)]
    plan: bool,
    /// Do it, on the host whose member has most
    #[arg(long)]
    apply: bool,
    /// What another survivor printed with `holdfast store summary`, where it cannot be
    /// reached from here
    #[arg(long)]
    survivor: Vec<PathBuf>,
    /// Do not ask; the number of the new generation, as the plan shows it
    #[arg(long)]
    yes_generation: Option<u64>,
    /// Why, for the record
    #[arg(long, default_value = "the majority was lost")]
    reason: String,
    #[command(flatten)]
    paths: PathArgs,
    /// `json` prints one stable document
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

/// This host's node, running or not.
pub(super) struct Node {
    pub(super) paths: Paths,
    config: NodeConfig,
    services: Arc<dyn ServiceManager>,
}

fn refused(error: crate::install::apply::InstallError) -> StoreVerbError {
    StoreVerbError::Recover(RecoverError::Install(error))
}

impl Node {
    pub(super) fn load(args: &PathArgs) -> Result<Self, StoreVerbError> {
        let config = read_config(&args.paths().node_config()).map_err(refused)?;
        if config.member_id.is_none() {
            return Err(StoreVerbError::Usage("this node has no member of the store".into()));
        }
        Ok(Self { paths: config.paths.clone(), config, services: services() })
    }

    /// What a running member says of itself.
    async fn ask(&self, server: String) -> Result<MemberSummary, VerbError> {
        let pki = self.paths.pki();
        let read = |name: &str| {
            files::read(&pki.join(name)).map_err(|error| VerbError::Failed(chain(&error)))
        };
        let api = HttpApi::new(HttpConfig {
            servers: vec![server],
            ca_pem: read("ca.crt")?,
            identity: Some((read("admin.crt")?, read("admin.key")?)),
            token: None,
        });
        let api = api.map_err(|error| VerbError::Failed(chain(&error)))?;
        let asked = tokio::time::timeout(ASK, api.get_raw(SUMMARY_PATH, &[], "application/json"));
        let document =
            asked.await.map_err(|_| VerbError::Failed("it does not answer".into()))??;
        serde_json::from_value(document)
            .map_err(|error| VerbError::Failed(format!("it answers something else: {error}")))
    }

    /// From the files if the member is stopped, else from the member.
    pub(super) async fn own_summary(&self) -> Result<MemberSummary, StoreVerbError> {
        match StoppedMember::open(&self.paths.store()) {
            Ok(member) => Ok(member.summary().await?),
            Err(OfflineError::Running { .. }) => {
                Ok(self.ask(format!("https://127.0.0.1:{}", self.config.ports.api)).await?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What the other members that `own` knows say; who is silent is named.
    async fn others(&self, own: &MemberSummary) -> (Vec<MemberSummary>, Vec<String>) {
        let others = own.members.iter().filter(|known| known.member != own.member);
        let asked = others.map(|known| async move {
            let host = known.address.rsplit_once(':').map_or(&*known.address, |(host, _)| host);
            let server = format!("https://{host}:{}", self.config.ports.api);
            self.ask(server).await.map_err(|error| format!("{}: {}", known.name, chain(&error)))
        });
        let (mut found, mut silent) = (Vec::new(), Vec::new());
        for answer in futures::future::join_all(asked).await {
            match answer {
                // A member that already lives elsewhere is no survivor of this group.
                Ok(summary) if summary.cluster == own.cluster => found.push(summary),
                Ok(summary) => silent.push(format!("{}: of another cluster", summary.name)),
                Err(reason) => silent.push(reason),
            }
        }
        (found, silent)
    }

    fn service_failed(error: crate::sys::services::ServiceError) -> StoreVerbError {
        StoreVerbError::Service(chain(&error))
    }

    /// Stops the node's service and says what its member has.
    pub(super) async fn stop(&self) -> Result<MemberSummary, StoreVerbError> {
        printer::note(&format!("stopping the service {NODE_SERVICE} ..."));
        self.services.stop(NODE_SERVICE).await.map_err(Self::service_failed)?;
        let started = Instant::now();
        loop {
            match StoppedMember::open(&self.paths.store()) {
                Ok(member) => return Ok(member.summary().await?),
                Err(OfflineError::Running { .. }) if started.elapsed() < FREE => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) async fn start(&self) -> Result<(), StoreVerbError> {
        self.services.start(NODE_SERVICE).await.map_err(Self::service_failed)
    }

    /// Carries out what was confirmed and starts the node again.
    pub(super) async fn carry_out(
        &self,
        order: &Order,
        output: &str,
    ) -> Result<Exit, StoreVerbError> {
        self.services.stop(NODE_SERVICE).await.map_err(Self::service_failed)?;
        let done = recover::carry_out(&self.paths, order, printer::note).await?;
        self.start().await?;
        if output == "json" {
            printer::document(&done);
        } else {
            printer::text(&format!(
                "Generation {} stands, with member {} alone. The old data is in {}.\nNow give the \
                 cluster its other control nodes back: for each of the old ones `holdfast node \
                 remove NAME`, then `holdfast reset` and `holdfast join` on its host or another.",
                done.generation,
                done.member,
                done.kept.display()
            ));
        }
        Ok(Exit::Done)
    }
}

pub(super) async fn summary(args: SummaryArgs) -> Result<Exit, StoreVerbError> {
    let node = Node::load(&args.paths)?;
    printer::document(&SignedSummary::sign(&node.paths, node.own_summary().await?)?);
    Ok(Exit::Done)
}

/// The stable document of `recover --plan -o json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    plan: &'a Plan,
    survivors: &'a [MemberSummary],
    silent: &'a [String],
}

pub(super) async fn run(args: RecoverArgs) -> Result<Exit, StoreVerbError> {
    let node = Node::load(&args.paths)?;
    if let Some(order) = open_order(&node.paths)? {
        if args.plan {
            printer::text("A recovery was begun here and not ended; --apply goes on with it.");
            return Ok(Exit::Attention);
        }
        printer::note("going on with the recovery that was begun");
        return node.carry_out(&order, &args.output).await;
    }
    let own = node.own_summary().await?;
    let (mut found, silent) = node.others(&own).await;
    for path in &args.survivor {
        found.push(read_survivor(path)?.verified(&node.paths)?);
    }
    found.insert(0, own.clone());
    let made = match plan(&found) {
        Ok(made) => made,
        Err(error @ NoPlan::Majority { .. }) => {
            printer::error(&error.to_string());
            return Ok(Exit::Failed);
        }
        Err(error) => return Err(StoreVerbError::Usage(error.to_string())),
    };
    if args.output == "json" && args.plan {
        printer::document(&Shown { plan: &made, survivors: &found, silent: &silent });
    } else if args.plan {
        printer::text(&render(&made, &found, &silent));
    } else {
        printer::note(&render(&made, &found, &silent));
    }
    if args.plan {
        return Ok(Exit::Done);
    }
    if made.chosen != own.member {
        let chosen = made.chosen;
        return Err(RecoverError::NotChosen { own: own.member, chosen }.into());
    }
    confirm(made.to_generation.0, args.yes_generation)?;
    let own = node.stop().await?;
    found[0] = own.clone();
    let order = plan(&found)
        .map_err(|error| StoreVerbError::Usage(error.to_string()))
        .and_then(|made| Ok(recovery_order(&node.paths, &made, &own, &args.reason, clock::now())?));
    match order {
        Ok(order) => node.carry_out(&order, &args.output).await,
        Err(error) => {
            node.start().await?;
            Err(error)
        }
    }
}

fn read_survivor(path: &PathBuf) -> Result<SignedSummary, StoreVerbError> {
    let bytes = std::fs::read(path)
        .map_err(|source| StoreVerbError::File { path: path.clone(), source })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        StoreVerbError::Usage(format!("{} is no summary of a member: {error}", path.display()))
    })
}

/// Has the number of the new generation typed, unless it was given.
pub(super) fn confirm(generation: u64, given: Option<u64>) -> Result<(), StoreVerbError> {
    let refuse = |text: String| Err(StoreVerbError::Usage(format!("{text}; nothing was done")));
    if let Some(given) = given {
        if given == generation {
            return Ok(());
        }
        return refuse(format!("the new generation is {generation}, not {given}"));
    }
    if !std::io::stdin().is_terminal() {
        return refuse(format!("not confirmed (give --yes-generation {generation})"));
    }
    printer::note(&format!("Type the number of the new generation ({generation}) to go on:"));
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if read.is_ok() && line.trim() == generation.to_string() {
        return Ok(());
    }
    refuse("not confirmed".to_owned())
}

fn render(plan: &Plan, found: &[MemberSummary], silent: &[String]) -> String {
    let mut text = String::from("Found:\n");
    for one in found {
        let mark = if one.member == plan.chosen { "*" } else { " " };
        text += &format!(
            "{mark} {} (member {}): generation {}, log to term {} index {}, committed {}, revision \
             {}, {} keys{}\n",
            one.name,
            one.member,
            one.generation,
            one.last.term,
            one.last.index,
            one.committed.index,
            one.revision,
            one.keys,
            if one.running { ", running" } else { "" }
        );
    }
    for reason in silent {
        text += &format!("  silent: {reason}\n");
    }
    for reason in &plan.ignored {
        text += &format!("  not counted: {reason}\n");
    }
    text += &format!(
        "\n{} (member {}) has most. Generation {} would begin with its data, under member id {}.\n",
        plan.chosen_name, plan.chosen, plan.to_generation, plan.new_member
    );
    text += match plan.loss {
        Loss::Nothing => "Lost: nothing that was acknowledged.\n",
        Loss::Unknown => {
            "May be lost: writes that the lost members acknowledged without a survivor. How many \
             is not known.\n"
        }
    };
    text += &format!(
        "Kept although not known to be committed: {} log entries.\nThe revision goes from {} to \
         {}; every watch and informer lists anew.\n",
        plan.unconfirmed_entries, plan.revision, plan.new_revision
    );
    for lost in &plan.lost {
        text += &format!("Lost: {} (member {}) at {}\n", lost.name, lost.member, lost.address);
    }
    if plan.lost_could_elect {
        text += "The lost members are a majority of the old generation: together they could go on \
                 without you until they hear of the new one. Make sure that they are off, or \
                 that their disks are destroyed.\n";
    }
    for other in &plan.rejoin {
        text += &format!("Must join again: {} (member {})\n", other.name, other.member);
    }
    text
}
