//! What the state holds beside keys: leases, users with their roles, alarms.
//!
//! Why apart from the keys: there is little of it, it goes into a snapshot and a new store
//! as a whole, and a key is attached to its lease only where that lease is known.
//! Invariant: together with the live keys it is all that clients can ask for, so a store
//! that is made from both lacks nothing but history.
//! Not here: which key is attached to which lease; the keys' records say that.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadableTable, WriteTransaction};

use super::disk_view::{DiskView, LEASES, META};
use super::{StateError, access};
use crate::base::ids::MemberId;
use crate::logic::auth::AuthState;
use crate::logic::lease::LeaseRecord;
use crate::model::lease::LeaseId;
use crate::store::admin_api::Alarm;
use crate::store::codec::{decode, encode};

/// Leases, users with their roles, alarms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateRest {
    pub leases: BTreeMap<LeaseId, LeaseRecord>,
    /// None where nobody ever changed them.
    pub auth: Option<AuthState>,
    pub alarms: BTreeSet<Alarm>,
}

impl StateRest {
    /// The alarms as those of the one member of a new store. An alarm of a member that is
    /// gone would never clear by itself.
    pub(crate) fn alarms_of(&self, member: MemberId) -> BTreeSet<Alarm> {
        self.alarms.iter().map(|alarm| Alarm { member, ..*alarm }).collect()
    }

    /// Writes all of it into an empty state.
    pub(super) fn write(&self, txn: &WriteTransaction) -> Result<(), StateError> {
        let mut leases = txn.open_table(LEASES).map_err(access("open a table of"))?;
        for (id, record) in &self.leases {
            leases.insert(id, &encode(record)[..]).map_err(access("write"))?;
        }
        let mut meta = txn.open_table(META).map_err(access("open a table of"))?;
        if let Some(auth) = &self.auth {
            meta.insert("auth", &encode(auth)[..]).map_err(access("write"))?;
        }
        meta.insert("alarms", &encode(&self.alarms)[..]).map_err(access("write"))?;
        Ok(())
    }
}

impl DiskView {
    /// All of it as of the view's moment.
    pub(crate) fn rest(&self) -> Result<StateRest, StateError> {
        let mut leases = BTreeMap::new();
        for row in self.leases.iter().map_err(access("read"))? {
            let (id, bytes) = row.map_err(access("read"))?;
            let record = decode(bytes.value())
                .map_err(|source| StateError::Decode { what: "a lease", source })?;
            leases.insert(id.value(), record);
        }
        let alarms = self.mark("alarms")?.unwrap_or_default();
        Ok(StateRest { leases, auth: self.mark("auth")?, alarms })
    }
}
