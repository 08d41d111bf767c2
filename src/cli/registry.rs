//! `holdfast registry`: brings images into the cluster, and shows what is there.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::base::chain::chain;
use crate::bundle::{Bundle, TrustedKeys};
use crate::cli::bundle::progress::TerminalProgress;
use crate::cli::connection::Connection;
use crate::cli::exit::{Exit, require_files};
use crate::cli::install_tools::PathArgs;
use crate::cli::printer;
use crate::client::oci::{OciClient, OciError};
use crate::client::oci_import::{self, OciImportError};
use crate::install::ports::Release;
use crate::install::release;

/// The port of a node's registry unless the address says another.
const PORT: u16 = 5000;

#[derive(Debug, Args)]
pub struct RegistryArgs {
    #[command(subcommand)]
    verb: RegistryVerb,
}

/// Which registry, and as whom.
#[derive(Debug, Args)]
struct Which {
    /// The registry; else port 5000 of the kubeconfig's servers.
    #[arg(long, env = "HOLDFAST_REGISTRY", value_name = "HOST:PORT")]
    registry: Option<String>,
    #[command(flatten)]
    paths: PathArgs,
    /// Whose client certificate is shown; else $KUBECONFIG, else the administrator's file.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// `json` prints one stable document.
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

#[derive(Debug, Subcommand)]
enum RegistryVerb {
    /// Bring the images of a bundle into the registry; moves only what is missing.
    ///
    /// On a node, a bundle that is older than the node's own release is refused.
    Import {
        /// The bundle file.
        #[arg(long)]
        bundle: PathBuf,
        /// Public keys that are trusted.
        #[arg(long, required = true)]
        trust: Vec<PathBuf>,
        #[command(flatten)]
        which: Which,
    },
    /// All images: tags, digest, size, and the nodes that hold them.
    List {
        #[command(flatten)]
        which: Which,
    },
}

/// Runs the verb.
pub async fn run(args: RegistryArgs) -> anyhow::Result<Exit> {
    match args.verb {
        RegistryVerb::Import { bundle, trust, which } => {
            require_files(trust.iter().chain([&bundle]))?;
            let bundle = Arc::new(Bundle::open(&bundle, &TrustedKeys::load(&trust)?)?);
            let offered = Release { version: bundle.version().into(), serial: bundle.serial() };
            release::check(&which.paths.paths(), &offered)?;
            import(&bundle, &which).await
        }
        RegistryVerb::List { which } => list(&which).await,
    }
}

/// The first of the candidates that answers, or why none does.
async fn connect(which: &Which) -> anyhow::Result<Result<OciClient, OciError>> {
    let connection = Connection { kubeconfig: which.kubeconfig.clone() };
    let path = connection.path();
    let target = connection.target()?;
    let candidates = match &which.registry {
        Some(registry) => vec![registry.clone()],
        None => target.http.servers.iter().filter_map(|server| beside(server)).collect(),
    };
    let mut failure = OciError::Unreachable {
        registry: path.display().to_string(),
        reason: "the kubeconfig names no server".into(),
    };
    for registry in candidates {
        let client = OciClient::new(&registry, target.http.clone())?;
        match client.check().await {
            Ok(()) => return Ok(Ok(client)),
            Err(error) => failure = error,
        }
    }
    Ok(Err(failure))
}

/// The registry on the host of an API server's URL.
fn beside(server: &str) -> Option<String> {
    let url = reqwest::Url::parse(server).ok()?;
    Some(format!("{}:{PORT}", url.host_str()?))
}

fn refused(error: &OciError) -> Exit {
    printer::error(&chain(error));
    match error {
        OciError::Unreachable { .. } => Exit::Unreachable,
        OciError::Refused { status: 429 | 503, .. } => Exit::TryAgain,
        OciError::Refused { .. } | OciError::Garbled { .. } => Exit::Failed,
    }
}

async fn import(bundle: &Arc<Bundle>, which: &Which) -> anyhow::Result<Exit> {
    let progress = TerminalProgress::new();
    tokio::task::block_in_place(|| bundle.verify_all(&progress))?;
    let registry = match connect(which).await? {
        Ok(registry) => registry,
        Err(error) => return Ok(refused(&error)),
    };
    let report = match oci_import::import(bundle, &registry, &progress).await {
        Ok(report) => report,
        Err(OciImportError::Registry(error)) => return Ok(refused(&error)),
        Err(error) => return Err(error.into()),
    };
    if which.output == "json" {
        printer::document(&report);
    } else {
        printer::text(&format!(
            "{} images changed, {} unchanged; {} blobs ({}) moved, {} were there",
            report.images_changed,
            report.images_unchanged,
            report.blobs_moved,
            indicatif::HumanBytes(report.bytes_moved),
            report.blobs_present,
        ));
    }
    Ok(Exit::Done)
}

async fn list(which: &Which) -> anyhow::Result<Exit> {
    let registry = match connect(which).await? {
        Ok(registry) => registry,
        Err(error) => return Ok(refused(&error)),
    };
    let answer = match registry.inventory().await {
        Ok(answer) => answer,
        Err(error) => return Ok(refused(&error)),
    };
    if which.output == "json" {
        printer::document(&answer);
        return Ok(Exit::Done);
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["REPOSITORY", "TAGS", "DIGEST", "SIZE", "NODES"]);
    for image in answer["images"].as_array().into_iter().flatten() {
        table.add_row(row(image));
    }
    printer::text(&table.to_string());
    Ok(Exit::Done)
}

fn row(image: &Value) -> [String; 5] {
    let text = |field: &str| image[field].as_str().unwrap_or_default().to_owned();
    let joined = |field: &str| {
        let all = image[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        let all = all.collect::<Vec<_>>().join(",");
        if all.is_empty() { "<none>".to_owned() } else { all }
    };
    let size = indicatif::HumanBytes(image["sizeBytes"].as_u64().unwrap_or_default());
    [text("repository"), joined("tags"), text("digest"), size.to_string(), joined("nodes")]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_registry_stands_beside_the_api() {
        assert_eq!(beside("https://10.0.0.1:6443").as_deref(), Some("10.0.0.1:5000"));
        assert_eq!(beside("https://[fd00::1]:6443").as_deref(), Some("[fd00::1]:5000"));
        assert_eq!(beside("nonsense"), None);
    }

    #[test]
    fn an_image_without_tags_is_shown_as_such() {
        let image = json!({"repository": "a/b", "digest": "sha256:1", "tags": [],
                           "sizeBytes": 2048, "nodes": ["a1", "b1"]});
        let [repository, tags, _, size, nodes] = row(&image);
        assert_eq!((repository.as_str(), tags.as_str()), ("a/b", "<none>"));
        assert_eq!((size.as_str(), nodes.as_str()), ("2.00 KiB", "a1,b1"));
    }
}
