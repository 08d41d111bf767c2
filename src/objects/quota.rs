//! Charges new and grown objects to the quotas of their namespace.
//!
//! ```text
//! read quotas ─► charge (logic) ─► txn: if no quota of the namespace has changed since
//!                                       put object, put the charged quotas' status.used
//! ```
//! Why in the object's own transaction: through whichever master an object is made, its
//! charge and itself are one write; two of them cannot both take what is left, and neither
//! a crash nor a lost leader leaves one without the other.
//! Invariants: `used` covers every object that was charged; a quota that is made or changed
//! between the look and the write turns the write away, and it is tried anew.
//! Not here: the decision (`logic/quota`), counting what is gone (`controllers/quota`).

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::stored::{self, Found};
use super::{Address, Objects, key, refusal};
use crate::logic::quota::{self, Counted};
use crate::model::kinds::{self, Kind};
use crate::model::kv::{Compare, CompareOp, CompareTarget, Op, RangeRequest, prefix_end};
use crate::model::status::Status;
use crate::sys::clock;

/// Kinds that nobody bounds: they say what happened.
const UNBOUNDED: &[&str] = &["events"];
/// Namespaces share this many turns.
const TURNS: usize = 32;

/// Who charges next, by namespace: those of one server need not overtake each other.
#[derive(Debug)]
pub(super) struct Turns(Vec<Arc<Mutex<()>>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..TURNS).map(|_| Arc::default()).collect())
    }
}

impl Turns {
    async fn take(&self, namespace: &str) -> OwnedMutexGuard<()> {
        let sum: usize = namespace.bytes().map(usize::from).sum();
        self.0[sum % TURNS].clone().lock_owned().await
    }
}

/// What charging adds to a transaction.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) compare: Vec<Compare>,
    pub(super) ops: Vec<Op>,
    /// Held until the transaction is over; there if quotas are charged.
    pub(super) turn: Option<OwnedMutexGuard<()>>,
}

fn quotas_kind() -> &'static Kind {
    kinds::by_path("", "v1", "resourcequotas").expect("quotas are in the table of kinds")
}

impl Objects {
    /// The quotas of a namespace, and the revision that the list is of.
    async fn quotas(&self, namespace: &str, stale: bool) -> Result<(Vec<Found>, i64), Status> {
        let prefix = key::prefix(quotas_kind(), Some(namespace));
        let request = RangeRequest { serializable: stale, ..RangeRequest::prefix(prefix) };
        let answer = self.kv.range(request).await.map_err(refusal::of)?;
        let found = answer.kvs.iter().map(|kv| {
            Ok(Found { object: stored::decode(quotas_kind(), kv)?, revision: kv.mod_revision })
        });
        Ok((found.collect::<Result<_, Status>>()?, answer.revision))
    }

    /// Charges an object that is made (`old` is `None`) or changed. Must be called after a
    /// linearizable read of this request, which makes local reads new enough.
    pub(super) async fn plan_quota(
        &self,
        address: &Address,
        old: Option<&Value>,
        new: &Value,
        dry_run: bool,
    ) -> Result<Plan, Status> {
        let kind = address.kind;
        if !kind.namespaced || UNBOUNDED.contains(&kind.plural) {
            return Ok(Plan::default());
        }
        let counted = Counted { group: kind.group, plural: kind.plural };
        let now = clock::now();
        if old.is_some() && !quota::may_grow(&counted, old, new, now) {
            return Ok(Plan::default());
        }
        let namespace = &address.namespace;
        let (mut quotas, mut revision) = self.quotas(namespace, true).await?;
        let mut turn = None;
        let bounds = quotas
            .iter()
            .any(|found| quota::hard(&found.object).keys().any(|name| counted.handles(name)));
        if bounds {
            turn = Some(self.turns.take(namespace).await);
            (quotas, revision) = self.quotas(namespace, false).await?;
        }
        let objects: Vec<Value> = quotas.iter().map(|found| found.object.clone()).collect();
        let charges = quota::charge(&objects, &counted, old, new, now)
            .map_err(|why| Status::forbidden(kind.plural, kind.group, &address.name, &why))?;
        let mut plan =
            Plan { compare: vec![unchanged_since(namespace, revision)], ..Plan::default() };
        if dry_run || charges.is_empty() {
            return Ok(plan);
        }
        for charge in charges {
            let found = &quotas[charge.quota];
            let name = found.object["metadata"]["name"].as_str().unwrap_or_default();
            let place = Address::new(quotas_kind(), Some(namespace), name);
            let place = Bytes::from(key::object(&place));
            let mut next = found.object.clone();
            next["status"]["used"] = quota::to_json(&charge.used);
            plan.compare.push(Compare::mod_revision(place.clone(), found.revision));
            plan.ops.push(Op::put(place, stored::encode(quotas_kind(), &next)?));
        }
        plan.turn = turn;
        Ok(plan)
    }
}

/// No quota of the namespace was made or changed after this revision.
fn unchanged_since(namespace: &str, revision: i64) -> Compare {
    let start = key::prefix(quotas_kind(), Some(namespace));
    Compare {
        range_end: prefix_end(start.as_bytes()),
        key: start.into(),
        op: CompareOp::Less,
        target: CompareTarget::ModRevision(revision + 1),
    }
}
