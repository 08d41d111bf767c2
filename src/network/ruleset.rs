//! The nftables table that balances Services.
//!
//! ```text
//! table ip holdfast {
//!   set hairpin  { pod . pod }                      pods of this node
//!   chain prerouting  (nat)    jump services
//!   chain output      (nat)    jump services, for the node's own programs
//!   chain services             daddr . proto . dport vmap { … : goto svc-… }
//!   chain svc-…                numgen random mod N vmap { 0: goto ep-…, … }
//!   chain ep-…                 dnat to address:port
//!   chain postrouting (nat)    saddr . daddr in @hairpin → snat to the node
//!   chain forward, local       daddr in the Service range → reject
//! }
//! ```
//! Why reject in filter chains: a packet still carrying a virtual address there was not
//! translated: no such port, or no ready endpoint; the client hears so at once.
//! Why snat by address and not masquerade: the host ends have link-local addresses and
//! `lo` has the DNS server's, and masquerade might choose one of them.
//! Invariant: one transaction replaces the whole table; connections that are already
//! translated live in the connection table and do not notice.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use nftables::batch::Batch;
use nftables::expr::{
    Expression, Meta, MetaKey, NamedExpression, NgMode, Numgen, Payload, PayloadField, Prefix,
    SetItem, Verdict,
};
use nftables::schema::{Chain, NfListObject, Nftables, Rule, Set, SetType, SetTypeValue, Table};
use nftables::stmt::{JumpTarget, Match, NAT, Operator, Reject, RejectType, Statement, VerdictMap};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook, RejectCode};

use crate::logic::balance::VirtualPort;
use crate::network::Plan;

/// The table's name; nothing else in the kernel's rules is ours.
const TABLE: &str = "holdfast";
/// The chain that both translating hooks share.
const LOOKUP: &str = "services";

/// `nft`'s names for the standard priorities.
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

fn text(value: impl ToString) -> Expression<'static> {
    Expression::String(Cow::Owned(value.to_string()))
}

fn field(protocol: &'static str, name: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: name.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

fn concat(parts: Vec<Expression<'static>>) -> Expression<'static> {
    Expression::Named(NamedExpression::Concat(parts))
}

fn range(range: Ipv4Net) -> Expression<'static> {
    let addr = Box::new(text(range.network()));
    Expression::Named(NamedExpression::Prefix(Prefix { addr, len: range.prefix_len().into() }))
}

fn l4proto() -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key: MetaKey::L4proto }))
}

fn goto(target: String) -> Expression<'static> {
    Expression::Verdict(Verdict::Goto(JumpTarget { target: target.into() }))
}

fn matches(
    op: Operator,
    left: Expression<'static>,
    right: Expression<'static>,
) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

fn table() -> NfListObject<'static> {
    NfListObject::Table(Table { family: NfFamily::IP, name: TABLE.into(), handle: None })
}

fn rule(
    chain: impl Into<Cow<'static, str>>,
    expr: Vec<Statement<'static>>,
) -> NfListObject<'static> {
    NfListObject::Rule(Rule {
        family: NfFamily::IP,
        table: TABLE.into(),
        chain: chain.into(),
        expr: expr.into(),
        ..Rule::default()
    })
}

fn plain_chain(name: String) -> NfListObject<'static> {
    NfListObject::Chain(Chain {
        family: NfFamily::IP,
        table: TABLE.into(),
        name: name.into(),
        ..Chain::default()
    })
}

fn base_chain(
    name: &'static str,
    kind: NfChainType,
    hook: NfHook,
    prio: i32,
) -> NfListObject<'static> {
    NfListObject::Chain(Chain {
        family: NfFamily::IP,
        table: TABLE.into(),
        name: name.into(),
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(prio),
        policy: Some(NfChainPolicy::Accept),
        ..Chain::default()
    })
}

fn service_chain(port: &VirtualPort) -> String {
    format!("svc-{}-{}-{}", port.address, port.transport.name(), port.port)
}

fn endpoint_chain(port: &VirtualPort, endpoint: (Ipv4Addr, u16)) -> String {
    let transport = port.transport.name();
    format!("ep-{}-{transport}-{}-{}-{}", port.address, port.port, endpoint.0, endpoint.1)
}

/// Takes the table away, whether there is one or not.
pub(super) fn removal() -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add(table());
    batch.delete(table());
    batch.to_nftables()
}

/// The whole table for these ports.
pub(super) fn render(plan: &Plan, ports: &[VirtualPort]) -> Nftables<'static> {
    let mut batch = Batch::new();
    // Adding first makes the deletion succeed where there is no table yet.
    batch.add(table());
    batch.delete(table());
    batch.add(table());
    for port in ports {
        add_service(&mut batch, port);
    }
    add_lookup(&mut batch, ports);
    add_hairpin(&mut batch, plan, ports);
    for (chain, hook) in [("prerouting", NfHook::Prerouting), ("output", NfHook::Output)] {
        batch.add(base_chain(chain, NfChainType::NAT, hook, DSTNAT));
        let target = JumpTarget { target: LOOKUP.into() };
        batch.add(rule(chain, vec![Statement::Jump(target)]));
    }
    for (chain, hook) in [("forward", NfHook::Forward), ("local", NfHook::Output)] {
        batch.add(base_chain(chain, NfChainType::Filter, hook, FILTER));
        add_rejection(&mut batch, chain, plan);
    }
    batch.to_nftables()
}

fn add_service(batch: &mut Batch<'static>, port: &VirtualPort) {
    for &(address, number) in &port.endpoints {
        let name = endpoint_chain(port, (address, number));
        batch.add(plain_chain(name.clone()));
        let nat = NAT {
            addr: Some(text(address)),
            family: None,
            port: Some(Expression::Number(number.into())),
            flags: None,
        };
        // `dnat` with a port needs the transport to be known in the same rule.
        let transport = matches(Operator::EQ, l4proto(), text(port.transport.name()));
        batch.add(rule(name, vec![transport, Statement::DNAT(Some(nat))]));
    }
    let name = service_chain(port);
    batch.add(plain_chain(name.clone()));
    let count = u32::try_from(port.endpoints.len()).unwrap_or(u32::MAX);
    let choice = Numgen { mode: NgMode::Random, ng_mod: count, offset: None };
    let targets = (0u32..)
        .zip(&port.endpoints)
        .map(|(index, &endpoint)| {
            let verdict = goto(endpoint_chain(port, endpoint));
            SetItem::Mapping(Expression::Number(index), verdict)
        })
        .collect();
    let pick = VerdictMap {
        key: Expression::Named(NamedExpression::Numgen(choice)),
        data: Expression::Named(NamedExpression::Set(targets)),
    };
    batch.add(rule(name, vec![Statement::VerdictMap(pick)]));
}

/// The one place where a virtual address is looked up; both hooks jump here.
fn add_lookup(batch: &mut Batch<'static>, ports: &[VirtualPort]) {
    batch.add(plain_chain(LOOKUP.into()));
    let elements: Vec<SetItem<'static>> = ports
        .iter()
        .map(|port| {
            let transport = text(port.transport.name());
            let number = Expression::Number(port.port.into());
            let key = concat(vec![text(port.address), transport, number]);
            SetItem::Mapping(key, goto(service_chain(port)))
        })
        .collect();
    // `nft` refuses an empty map.
    if !elements.is_empty() {
        let key = concat(vec![field("ip", "daddr"), l4proto(), field("th", "dport")]);
        let data = Expression::Named(NamedExpression::Set(elements));
        batch.add(rule(LOOKUP, vec![Statement::VerdictMap(VerdictMap { key, data })]));
    }
}

/// A pod that is balanced to itself would get a packet from its own address and drop
/// it; such packets get the node's address as source.
fn add_hairpin(batch: &mut Batch<'static>, plan: &Plan, ports: &[VirtualPort]) {
    let own: BTreeSet<Ipv4Addr> = ports
        .iter()
        .flat_map(|port| &port.endpoints)
        .map(|endpoint| endpoint.0)
        .filter(|address| plan.pod_range.contains(address))
        .collect();
    let elements: Vec<Expression<'static>> =
        own.into_iter().map(|address| concat(vec![text(address), text(address)])).collect();
    batch.add(NfListObject::Set(Box::new(Set {
        family: NfFamily::IP,
        table: TABLE.into(),
        name: "hairpin".into(),
        set_type: SetTypeValue::Concatenated(vec![SetType::Ipv4Addr, SetType::Ipv4Addr].into()),
        elem: (!elements.is_empty()).then(|| elements.into()),
        ..Set::default()
    })));
    batch.add(base_chain("postrouting", NfChainType::NAT, NfHook::Postrouting, SRCNAT));
    let pair = concat(vec![field("ip", "saddr"), field("ip", "daddr")]);
    let source = NAT { addr: Some(text(plan.node_address)), family: None, port: None, flags: None };
    batch.add(rule(
        "postrouting",
        vec![matches(Operator::EQ, pair, text("@hairpin")), Statement::SNAT(Some(source))],
    ));
}

fn add_rejection(batch: &mut Batch<'static>, chain: &'static str, plan: &Plan) {
    let virtual_address = || matches(Operator::EQ, field("ip", "daddr"), range(plan.services));
    // The DNS server's address is a real one on `lo`.
    let not_dns = || matches(Operator::NEQ, field("ip", "daddr"), text(plan.dns));
    let tcp = matches(Operator::EQ, l4proto(), text("tcp"));
    let reset = Reject::new(Some(RejectType::TCPReset), None);
    batch.add(rule(chain, vec![virtual_address(), not_dns(), tcp, Statement::Reject(Some(reset))]));
    let unreachable = Reject::new(Some(RejectType::ICMP), Some(RejectCode::PortUnreach));
    batch
        .add(rule(chain, vec![virtual_address(), not_dns(), Statement::Reject(Some(unreachable))]));
}
