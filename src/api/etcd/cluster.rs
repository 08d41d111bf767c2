//! The Cluster service: who the members are, and changing it.
//!
//! Members are named by URLs in the protocol and by `host:port` in the store; peers speak
//! TLS only, so the scheme is always `https`.

use std::sync::Arc;

use http::Uri;
use tonic::{Request, Response, Status};

use super::backend::Backend;
use super::errors::{refused, status};
use super::messages::etcdserverpb as pb;
use super::messages::etcdserverpb::cluster_server::Cluster;
use crate::base::ids::MemberId;
use crate::model::refusal::Refusal;
use crate::store::admin_api::ClusterMember;

/// The service over the store.
#[derive(Debug)]
pub(super) struct ClusterService(pub(super) Arc<Backend>);

/// The one peer address that a list of URLs must name.
fn address_of(urls: &[String]) -> Result<String, Status> {
    let bad = || refused(Refusal::MemberBadUrls);
    let [url] = urls else { return Err(bad()) };
    let url: Uri = url.parse().map_err(|_| bad())?;
    let plain = matches!(url.path(), "" | "/") && url.query().is_none();
    let authority = url.authority().ok_or_else(bad)?;
    if url.scheme_str() != Some("https") || !plain || authority.port().is_none() {
        return Err(bad());
    }
    Ok(authority.to_string())
}

impl Backend {
    /// What is said of the group is of no revision.
    fn group_header(&self) -> Option<pb::ResponseHeader> {
        self.header_at(0)
    }

    fn member(&self, member: ClusterMember) -> pb::Member {
        let host = member.address.rsplit_once(':').map_or("", |(host, _)| host);
        let client = format!("https://{host}:{}", self.client_port);
        pb::Member {
            id: member.id.0,
            // Who never started has no name and serves nobody yet.
            client_ur_ls: if member.name.is_empty() { Vec::new() } else { vec![client] },
            peer_ur_ls: vec![format!("https://{}", member.address)],
            name: member.name,
            is_learner: member.is_learner,
        }
    }

    async fn members(&self, linearizable: bool) -> Result<Vec<pb::Member>, Status> {
        let members = self.store.cluster.members(linearizable).await.map_err(status)?;
        Ok(members.into_iter().map(|member| self.member(member)).collect())
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let address = address_of(&request.peer_ur_ls)?;
        let cluster = &self.0.store.cluster;
        let added = cluster.member_add(&caller, &address, request.is_learner).await;
        Ok(Response::new(pb::MemberAddResponse {
            member: Some(self.0.member(added.map_err(status)?)),
            members: self.0.members(false).await?,
            header: self.0.group_header(),
        }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let id = MemberId(request.into_inner().id);
        self.0.store.cluster.member_remove(&caller, id).await.map_err(status)?;
        let members = self.0.members(false).await?;
        Ok(Response::new(pb::MemberRemoveResponse { header: self.0.group_header(), members }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let (id, address) = (MemberId(request.id), address_of(&request.peer_ur_ls)?);
        self.0.store.cluster.member_update(&caller, id, &address).await.map_err(status)?;
        let members = self.0.members(false).await?;
        Ok(Response::new(pb::MemberUpdateResponse { header: self.0.group_header(), members }))
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        self.0.known_caller(&request).await?;
        let members = self.0.members(request.into_inner().linearizable).await?;
        Ok(Response::new(pb::MemberListResponse { header: self.0.group_header(), members }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let id = MemberId(request.into_inner().id);
        self.0.store.cluster.member_promote(&caller, id).await.map_err(status)?;
        let members = self.0.members(false).await?;
        Ok(Response::new(pb::MemberPromoteResponse { header: self.0.group_header(), members }))
    }
}

#[cfg(test)]
mod tests {
    use super::address_of;

    #[test]
    fn a_member_is_one_https_url_with_a_port() {
        let of = |urls: &[&str]| {
            let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
            address_of(&urls).ok()
        };
        assert_eq!(of(&["https://10.0.0.1:2380"]).as_deref(), Some("10.0.0.1:2380"));
        assert_eq!(of(&["https://[fd00::1]:2380/"]).as_deref(), Some("[fd00::1]:2380"));
        for bad in ["http://10.0.0.1:2380", "https://10.0.0.1", "10.0.0.1:2380", "https://a:1/x"] {
            assert_eq!(of(&[bad]), None, "{bad}");
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["https://a:1", "https://b:1"]), None);
    }
}
