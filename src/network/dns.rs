//! The cluster's DNS server on this node, at the DNS address of the Service range.
//!
//! Why on every node: names must resolve while every other node is away. The address
//! stands on `lo`, so a pod's question never leaves its node.
//! Invariants: no question is ever forwarded; names outside the cluster's domain do not
//! exist, as there is nobody else to ask; before the first complete lists the answer is
//! SERVFAIL, never NXDOMAIN.
//! Not here: which names exist (logic/dns_records.rs).

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hickory_proto::op::{Edns, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server};
use hickory_server::zone_handler::MessageResponseBuilder;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio_util::sync::CancellationToken;

use crate::base::chain::chain;
use crate::logic::dns_records::{Answer, Asked, Data, Zone};
use crate::network::source::View;
use crate::network::{NetworkError, Plan};

/// How long clients may keep an answer, seconds.
const TTL_S: u32 = 5;
/// How soon listening is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// A TCP client that is silent for longer is cut off.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers waiting for one TCP client.
const TCP_BUFFER: usize = 16;
/// The largest UDP answer we send: fits an Ethernet frame, so it is never fragmented.
const UDP_MAX_BYTES: u16 = 1_232;

type SharedZone = Arc<ArcSwapOption<Zone>>;

#[derive(Debug)]
struct Handler {
    zone: SharedZone,
}

/// Serves until cancelled; listens again if the address was not there yet.
pub(super) async fn run(
    plan: Arc<Plan>,
    mut services: View<Service>,
    mut slices: View<EndpointSlice>,
    cancel: CancellationToken,
) {
    let zone: SharedZone = Arc::default();
    let address = SocketAddr::new(plan.dns.into(), 53);
    let mut server = None;
    loop {
        if let (Some(all), Some(parts)) = (services.current(), slices.current()) {
            let built = Zone::build(&plan.domain, plan.cluster_pods, plan.services, &all, &parts);
            zone.store(Some(Arc::new(built)));
        }
        if server.is_none() {
            match listen(address, zone.clone()).await {
                Ok(listening) => server = Some(listening),
                Err(error) => tracing::debug!(error = chain(&error), "DNS is not listening yet"),
            }
        }
        let retry = server.is_none();
        tokio::select! {
            () = cancel.cancelled() => break,
            () = services.changed() => {}
            () = slices.changed() => {}
            () = tokio::time::sleep(RETRY), if retry => {}
        }
    }
    if let Some(mut server) = server
        && let Err(error) = server.shutdown_gracefully().await
    {
        tracing::debug!(%error, "DNS did not stop cleanly");
    }
}

async fn listen(address: SocketAddr, zone: SharedZone) -> Result<Server<Handler>, NetworkError> {
    let failed = |source| NetworkError::Listen { address, source };
    let udp = tokio::net::UdpSocket::bind(address).await.map_err(failed)?;
    let tcp = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    let mut server = Server::new(Handler { zone });
    server.register_socket(udp);
    server.register_listener(tcp, TCP_IDLE, TCP_BUFFER);
    Ok(server)
}

/// What goes into the packet.
#[derive(Debug, Default)]
struct Reply {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    soa: Vec<Record>,
    additional: Vec<Record>,
}

impl Reply {
    fn code(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }
}

fn asked(kind: RecordType) -> Asked {
    match kind {
        RecordType::A => Asked::A,
        RecordType::SRV => Asked::Srv,
        RecordType::PTR => Asked::Ptr,
        RecordType::ANY => Asked::Any,
        _ => Asked::Other,
    }
}

/// `None` for a name that DNS cannot carry, such as a label of more than 63 bytes.
fn record(owner: &str, data: &Data) -> Option<Record> {
    let name = |text: &str| Name::from_str(text).ok();
    let rdata = match data {
        Data::A(address) => RData::A(A(*address)),
        Data::Srv { port, target } => RData::SRV(SRV::new(0, 100, *port, name(target)?)),
        Data::Ptr(target) => RData::PTR(PTR(name(target)?)),
        Data::Cname(target) => RData::CNAME(CNAME(name(target)?)),
    };
    Some(Record::from_rdata(name(owner)?, TTL_S, rdata))
}

/// The record that lets clients keep a "no" for [`TTL_S`].
fn start_of_authority(domain: &str) -> Option<Record> {
    let name = Name::from_str(domain).ok()?;
    let server = Name::from_str(&format!("ns.dns.{domain}")).ok()?;
    let contact = Name::from_str(&format!("hostmaster.{domain}")).ok()?;
    let soa = SOA::new(server, contact, 1, 7_200, 1_800, 86_400, TTL_S);
    Some(Record::from_rdata(name, TTL_S, RData::SOA(soa)))
}

fn reply(zone: Option<&Zone>, name: &str, kind: RecordType) -> Reply {
    let Some(zone) = zone else { return Reply::code(ResponseCode::ServFail) };
    let soa = || start_of_authority(zone.domain()).into_iter().collect();
    let convert = |found: &[(String, Data)]| {
        found.iter().filter_map(|(owner, data)| record(owner, data)).collect::<Vec<_>>()
    };
    match zone.answer(name, asked(kind)) {
        // Not REFUSED, which musl's resolver ignores: every container of such an image would
        // wait ten seconds for each name that is not the cluster's. Without a start of
        // authority nobody keeps this answer, and it does not claim to be authoritative.
        Answer::Refused => Reply::code(ResponseCode::NXDomain),
        Answer::NoSuchName => Reply {
            code: ResponseCode::NXDomain,
            authoritative: true,
            soa: soa(),
            ..Reply::default()
        },
        Answer::Records { answers, additional } => Reply {
            code: ResponseCode::NoError,
            authoritative: true,
            soa: if answers.is_empty() { soa() } else { Vec::new() },
            answers: convert(&answers),
            additional: convert(&additional),
        },
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let zone = self.zone.load_full();
        let reply = if request.metadata.op_code != OpCode::Query {
            Reply::code(ResponseCode::NotImp)
        } else {
            match request.request_info() {
                Ok(info) => {
                    let name = info.query.name().to_string();
                    reply(zone.as_deref(), &name, info.query.query_type())
                }
                Err(_) => Reply::code(ResponseCode::FormErr),
            }
        };
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        let mut edns = Edns::new();
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(theirs) = &request.edns {
            edns.set_max_payload(theirs.max_payload().clamp(512, UDP_MAX_BYTES));
            builder.edns(&edns);
        }
        let message = builder.build(metadata, &reply.answers, [], &reply.soa, &reply.additional);
        match response.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "cannot send a DNS answer");
                metadata.response_code = ResponseCode::ServFail;
                let counts = hickory_proto::op::HeaderCounts::default();
                hickory_proto::op::Header { metadata, counts }.into()
            }
        }
    }
}
