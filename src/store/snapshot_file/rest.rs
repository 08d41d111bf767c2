//! Leases, users and alarms in a snapshot: rows that name their table.
//!
//! ```text
//!  "lease"  id i64, little-endian   {"ttl_s": 60, "remaining_s": null, "epoch": 0}
//!  "auth"   (empty)                 {"enabled": true, "revision": 7, "users": …, "roles": …}
//!  "alarm"  (empty)                 [{"member": 2, "kind": "NoSpace"}]
//! ```
//! Why JSON: the file must be readable by releases whose state looks different.
//! Invariant: a table that this release does not know is refused and not left out, so that
//! a restore never silently lacks what was saved.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::SnapshotError;
use crate::store::state::StateRest;

const LEASE: &str = "lease";
const AUTH: &str = "auth";
const ALARM: &str = "alarm";

/// Table, key and value of each row, in the order of the file.
pub(super) fn extras(rest: &StateRest) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let mut rows: Vec<_> = rest
        .leases
        .iter()
        .map(|(id, record)| (LEASE, id.to_le_bytes().to_vec(), json(record)))
        .collect();
    rows.extend(rest.auth.as_ref().map(|auth| (AUTH, Vec::new(), json(auth))));
    if !rest.alarms.is_empty() {
        rows.push((ALARM, Vec::new(), json(&rest.alarms)));
    }
    rows
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("leases, users and alarms have only text keys")
}

/// Takes up one row.
pub(super) fn take_up(
    rest: &mut StateRest,
    table: &[u8],
    key: &[u8],
    value: &[u8],
) -> Result<(), SnapshotError> {
    let table = String::from_utf8_lossy(table);
    match &*table {
        LEASE => {
            let id = key.try_into().map(i64::from_le_bytes);
            let id = id.map_err(|_| damaged("a lease without an id".into()))?;
            rest.leases.insert(id, parse(LEASE, value)?);
        }
        AUTH => rest.auth = Some(parse(AUTH, value)?),
        ALARM => rest.alarms = parse(ALARM, value)?,
        _ => {
            let reason = format!("it holds a table {table:?}, which this release does not know");
            return Err(damaged(reason));
        }
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(table: &str, value: &[u8]) -> Result<T, SnapshotError> {
    serde_json::from_slice(value)
        .map_err(|error| damaged(format!("a row of {table} cannot be read: {error}")))
}

fn damaged(reason: String) -> SnapshotError {
    SnapshotError::Damaged { reason }
}
