//! Takes the node's network away again, for `holdfast reset`.
//!
//! Why by what the kernel has and not by the ledger: reset must also work after the
//! files are damaged. Invariants: only our two tables, links of our names,
//! routes of our protocol number and the DNS address are removed; repeating it is no
//! error. Not here: forwarding, which the installation's undo log restores.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::network::pod_net::is_host_link;
use crate::network::{NetworkError, policy_rules, ruleset, table};
use crate::sys::rtnl::{Rtnl, RtnlError};
use crate::sys::{files, nft, routes};

/// Removes everything of ours from the kernel. `nft` is the program that made the table:
/// where it was never installed there is none. `dns` is the address that stands on `lo`.
pub async fn clean_up(nft: &Path, dns: Option<Ipv4Addr>) -> Result<(), NetworkError> {
    if files::inspect(nft)?.is_some() {
        for name in [ruleset::TABLE, policy_rules::TABLE] {
            nft::apply(nft, &table::removal(name)).await?;
        }
    }
    links_and_routes(dns).await.map_err(NetworkError::Host)
}

async fn links_and_routes(dns: Option<Ipv4Addr>) -> Result<(), RtnlError> {
    let rtnl = Rtnl::open()?;
    for name in rtnl.link_names().await?.iter().filter(|name| is_host_link(name)) {
        rtnl.delete_link(name).await?;
    }
    routes::remove_routes().await?;
    if let Some(dns) = dns {
        rtnl.remove_address(rtnl.index("lo", "remove the DNS address").await?, dns).await?;
    }
    Ok(())
}
