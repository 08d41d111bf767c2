//! Writing a status, for all controllers: only if something changed, never onto a newer
//! object than the one that was looked at.

use super::runner::{Act, ControllerError, Requeue};
use crate::client::typed::{Kind, Typed};
use crate::logic::availability::Availability;

/// Writes the status of `changed` unless it is what `held` has; answers whether it wrote.
pub(super) async fn write<K: Kind + PartialEq>(
    objects: &Typed<K>,
    held: &K,
    changed: &K,
) -> Result<bool, ControllerError> {
    if held == changed {
        return Ok(false);
    }
    match objects.put_status(changed).await {
        // Nobody is left who would read it.
        Err(error) if error.is_not_found() => Ok(false),
        written => written.act("write the status of", &held.key()).map(|()| true),
    }
}

/// When a pod that is only ready becomes available by the mere passing of time.
pub(super) fn recheck(availability: Availability) -> Requeue {
    match availability {
        Availability::ReadyFor { left } => Requeue::After(left),
        Availability::Unready | Availability::Available => Requeue::Done,
    }
}
