//! How a verb finds the cluster it talks to, and what it says names mean there.

use std::path::PathBuf;

use clap::Args;

use super::exit::VerbError;
use crate::client::discovery::{Catalogue, Served};
use crate::client::http::HttpSetupError;
use crate::client::kubeconfig::{self, Target};
use crate::client::{HttpApi, HttpConfig};
use crate::model::node_config::Paths;
use crate::sys::documents;

/// Which cluster.
#[derive(Args, Clone, Debug, Default)]
pub struct Connection {
    /// The kubeconfig; else $KUBECONFIG, else /etc/holdfast/admin.kubeconfig
    #[arg(long, global = true)]
    pub kubeconfig: Option<PathBuf>,
}

impl Connection {
    /// The flag, else `$KUBECONFIG`, else the administrator's file of this host.
    pub fn path(&self) -> PathBuf {
        let given = self.kubeconfig.clone();
        let from_environment = || documents::environment("KUBECONFIG").map(PathBuf::from);
        given.or_else(from_environment).unwrap_or_else(|| Paths::default().admin_kubeconfig())
    }

    fn setup<T>(&self, result: Result<T, HttpSetupError>) -> Result<T, VerbError> {
        result.map_err(|source| VerbError::Setup { kubeconfig: self.path(), source })
    }

    pub(super) fn target(&self) -> Result<Target, VerbError> {
        self.setup(kubeconfig::load(&self.path()).map_err(HttpSetupError::from))
    }

    fn client(&self, config: HttpConfig) -> Result<HttpApi, VerbError> {
        self.setup(HttpApi::new(config))
    }

    /// A client for the cluster; nothing is sent yet.
    pub fn api(&self) -> Result<HttpApi, VerbError> {
        self.client(self.target()?.http)
    }
}

/// Which cluster and namespace; flattened into every object verb.
#[derive(Args, Clone, Debug)]
pub struct ObjectScope {
    #[command(flatten)]
    pub connection: Connection,
    /// The namespace; else the kubeconfig's, else `default`
    #[arg(short, long)]
    pub namespace: Option<String>,
}

impl ObjectScope {
    /// A client that knows which kinds the cluster serves.
    pub(super) async fn connect(&self) -> Result<Client, VerbError> {
        let target = self.connection.target()?;
        let namespace = self.namespace.clone().or(target.namespace);
        let api = self.connection.client(target.http)?;
        let catalogue = Catalogue::fetch(&api).await?;
        Ok(Client { api, catalogue, namespace: namespace.unwrap_or_else(|| "default".into()) })
    }
}

/// A connected client with what it needs to understand names.
pub(super) struct Client {
    pub(super) api: HttpApi,
    pub(super) catalogue: Catalogue,
    pub(super) namespace: String,
}

impl Client {
    pub(super) fn resource(&self, name: &str) -> Result<&Served, VerbError> {
        self.catalogue.by_name(name).ok_or_else(|| {
            VerbError::Usage(format!("the server doesn't have a resource type \"{name}\""))
        })
    }

    /// `KIND NAME…`, `KIND/NAME…` or a category such as `all` to resources and names; no
    /// name means all.
    pub(super) fn targets(
        &self,
        kinds: &str,
        names: &[String],
    ) -> Result<Vec<(&Served, Option<String>)>, VerbError> {
        if kinds.contains('/') {
            let pairs = std::iter::once(kinds).chain(names.iter().map(String::as_str));
            return pairs
                .map(|pair| {
                    let (kind, name) = pair.split_once('/').ok_or_else(|| {
                        VerbError::Usage(format!("{pair:?} is not of the form KIND/NAME"))
                    })?;
                    Ok((self.resource(kind)?, Some(name.to_owned())))
                })
                .collect();
        }
        let mut targets = Vec::new();
        for kind in kinds.split(',') {
            let category = self.catalogue.category(kind);
            if !category.is_empty() && names.is_empty() {
                targets.extend(category.into_iter().map(|served| (served, None)));
                continue;
            }
            let served = self.resource(kind)?;
            if names.is_empty() {
                targets.push((served, None));
            }
            targets.extend(names.iter().map(|name| (served, Some(name.clone()))));
        }
        Ok(targets)
    }
}
