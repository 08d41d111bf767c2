//! Leases: none ends before its time, none that lives is called gone.
//!
//! A lease ends in the revision that deletes its keys. That revision was there at the
//! latest when anybody was first told of it or a later one; if that was before the holder's
//! last answered keepalive (or its grant) was *sent* plus the time to live, and nobody had
//! asked for the end, the lease ended early. A lease that is over and not ended yet is
//! allowed. Of a lease whose grant nobody heard answered, no keys and no keepalives are
//! known, so nothing is said of it.

use super::Truth;
use crate::history::{Held, History, Moment};

/// How long the lease must live at least if it is alive at `when`, as its holder can know.
fn until_ms(held: &Held, when: Moment) -> u64 {
    let renewed = held.renewed.iter().filter(|sent| **sent < when);
    let from = renewed.map(|sent| sent.ms).max().unwrap_or(held.granted.ms);
    from + held.ttl_s.unsigned_abs() * 1_000
}

pub(crate) fn check(history: &History, truth: &Truth) -> Result<(), String> {
    for (revision, lease) in &truth.ended {
        let held = history.leases.get(lease);
        let held = held.ok_or_else(|| format!("keys hang on lease {lease}, which nobody holds"))?;
        let Some(seen) = history.seen_at(*revision) else { continue };
        if held.revoked.is_some_and(|revoked| revoked < seen) {
            continue;
        }
        let until = until_ms(held, seen);
        if held.is_certain && seen.ms < until {
            return Err(format!(
                "lease {lease} ended at revision {revision}, seen at {} ms, before {until} ms: \
                 {held:?}",
                seen.ms
            ));
        }
        // What was renewed after its end was seen was renewed in vain.
        if let Some(sent) = held.renewed.iter().find(|sent| **sent > seen) {
            return Err(format!("lease {lease} ended at {revision} and was renewed at {sent:?}"));
        }
    }
    for (lease, held) in &history.leases {
        for (sent, told) in &held.told_gone {
            let until = until_ms(held, *sent);
            let revoked = held.revoked.is_some_and(|revoked| revoked < *told);
            if held.is_certain && !revoked && told.ms < until {
                return Err(format!(
                    "lease {lease} was called gone at {} ms, before {until} ms: {held:?}",
                    told.ms
                ));
            }
        }
    }
    Ok(())
}
