//! Watches: ordered, complete, each revision whole and once, progress never too early.

use holdfast::model::kv::{Event, EventKind, Revision, WatchRequest};

use super::Truth;
use crate::history::{Given, History, Watched};

/// What a watch must be given of a revision.
fn wanted(request: &WatchRequest, events: &[Event]) -> Vec<Event> {
    let within = |key: &[u8]| match &request.range_end[..] {
        [] => key == &request.key[..],
        [0] => key >= &request.key[..],
        end => key >= &request.key[..] && key < end,
    };
    let kinds = |kind: EventKind| match kind {
        EventKind::Put => !request.no_put,
        EventKind::Delete => !request.no_delete,
    };
    let matching = events.iter().filter(|event| within(&event.kv.key) && kinds(event.kind));
    matching
        .map(|event| Event {
            prev_kv: event.prev_kv.clone().filter(|_| request.prev_kv),
            ..event.clone()
        })
        .collect()
}

pub(crate) fn check(history: &History, truth: &Truth) -> Result<(), String> {
    for watched in &history.watched {
        check_one(watched, truth, history.compacted).map_err(|problem| {
            let Watched { place, request, from, given } = watched;
            let told: Vec<String> = given
                .iter()
                .map(|(_, applied, given)| match given {
                    Given::Events(revision, events) => format!("{}@{revision}", events.len()),
                    Given::Progress(revision) => format!("progress {revision} of {applied}"),
                    Given::Compacted(revision) => format!("compacted {revision}"),
                })
                .collect();
            format!("a watch at {place} from {from}, {request:?}: {problem}; it was given {told:?}")
        })?;
    }
    Ok(())
}

/// The next revision from `from` on, up to `to`, of which the watch wants something.
fn next_wanted(watched: &Watched, truth: &Truth, from: Revision, to: Revision) -> Option<Revision> {
    if to < from {
        return None;
    }
    let mut span = truth.events.range(from..=to);
    let found = span.find(|(_, events)| !wanted(&watched.request, events).is_empty());
    found.map(|(revision, _)| *revision)
}

/// The same events, but for what was before them where compaction took it away.
fn is_right(events: &[Event], right: &[Event], forgotten: bool) -> bool {
    let same = |(given, right): (&Event, &Event)| {
        let without = forgotten && given.prev_kv.is_none();
        given == right || (without && *given == Event { prev_kv: None, ..right.clone() })
    };
    events.len() == right.len() && events.iter().zip(right).all(same)
}

fn check_one(watched: &Watched, truth: &Truth, compacted: Revision) -> Result<(), String> {
    // Everything below has been given.
    let mut next = watched.from;
    // A watch of "what comes next" begins where its member had told everybody of what it had
    // applied, which may be a little behind what it had.
    let mut from_now = watched.request.start_revision == 0;
    let mut ended = false;
    for (_, applied, given) in &watched.given {
        if ended {
            return Err(format!("{given:?} came after the end"));
        }
        match given {
            Given::Events(revision, events) => {
                if std::mem::take(&mut from_now) {
                    next = next.min(*revision);
                }
                if *revision < next {
                    return Err(format!("revision {revision} came twice, late or unasked"));
                }
                if let Some(missed) = next_wanted(watched, truth, next, revision - 1) {
                    return Err(format!("revision {missed} was left out before {revision}"));
                }
                let whole = truth.events.get(revision);
                let whole = whole.ok_or_else(|| format!("revision {revision} never was"))?;
                let right = wanted(&watched.request, whole);
                if !is_right(events, &right, *revision <= compacted) {
                    return Err(format!("of {revision} it got {events:?}, right is {right:?}"));
                }
                if revision > applied {
                    return Err(format!("revision {revision} came before it was applied"));
                }
                next = revision + 1;
            }
            Given::Progress(revision) => {
                if revision > applied {
                    return Err(format!("progress {revision} while {applied} was the newest"));
                }
                if revision + 1 < watched.request.start_revision {
                    return Err(format!("progress {revision} before its beginning"));
                }
                if let Some(missed) = next_wanted(watched, truth, next, *revision) {
                    return Err(format!("progress {revision} before revision {missed} was given"));
                }
                next = next.max(revision + 1);
            }
            Given::Compacted(revision) => {
                if *revision <= next {
                    return Err(format!("lost to compaction {revision}, it stood at {next}"));
                }
                ended = true;
            }
        }
    }
    Ok(())
}
