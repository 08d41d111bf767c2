//! Linearizability of whole transactions and reads.
//!
//! Revisions order all writes, so the order need not be searched for: a write stands at
//! the revision it made, a read between the revision it names and the next. What is left
//! to check is that this order (1) gives every answer, word for word, by a model that runs
//! it, and (2) agrees with real time: nothing stands before what was answered before it was
//! asked. An answered history that passes has this order as its witness; one that fails has
//! none, since any other order contradicts the revisions.
//!
//! Writes of unknown outcome and ends of leases are found by what they changed. Where
//! several would explain a revision each is tried in turn, as Wing and Gong's search does.
//!
//! Why no library: stateright's tester tries all orders of whole histories, which is out of
//! reach for thousands of operations, and has no place for unknown outcomes. On small
//! histories it is asked for its opinion (`tests`).

use std::collections::{BTreeMap, BTreeSet};

use holdfast::model::kv::{Event, EventKind, OpResponse, Revision, TxnResponse};

use super::Truth;
use crate::history::{Answer, Asked, End, History, Question};
use crate::model::Model;

fn wrote(answer: &TxnResponse) -> bool {
    answer.responses.iter().any(|response| match response {
        OpResponse::Put { .. } => true,
        OpResponse::DeleteRange { deleted, .. } => *deleted > 0,
        OpResponse::Txn(nested) => wrote(nested),
        OpResponse::Range(_) => false,
    })
}

/// The write that an answered question made, by its revision.
fn writer(asked: &Asked) -> Option<Revision> {
    match &asked.end {
        End::Answered(Answer::Txn(answer)) if wrote(answer) => Some(answer.revision),
        _ => None,
    }
}

/// Checks everything and answers what happened in each revision.
pub(crate) fn check(history: &History, newest: Revision) -> Result<Truth, String> {
    real_time(history)?;
    refusals(history)?;
    let truth = replay(history, newest)?;
    for asked in &history.asked {
        reads(asked, &truth.model)?;
    }
    Ok(truth)
}

fn is_linearizable(asked: &Asked) -> bool {
    !matches!(&asked.question, Question::Range(request) if request.serializable)
}

/// Nothing stands before what was answered before it was asked. In the order of revisions
/// (a write before the reads at its revision) no question may have been asked after the
/// answer of a later one.
fn real_time(history: &History) -> Result<(), String> {
    let mut order: Vec<(Revision, bool, &Asked)> = Vec::new();
    for asked in history.asked.iter().filter(|asked| is_linearizable(asked)) {
        if let End::Answered(answer) = &asked.end {
            order.push((answer.revision(), writer(asked).is_none(), asked));
        }
    }
    order.sort_by_key(|(revision, reads, asked)| (*revision, *reads, asked.begun));
    let mut latest: Option<&Asked> = None;
    for group in order.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        for (_, _, asked) in group {
            let ended = asked.ended.unwrap_or(asked.begun);
            if let Some(before) = latest.filter(|before| before.begun > ended) {
                return Err(format!(
                    "answered in the wrong order: {asked:?} was over before this was asked, \
                     which stands before it: {before:?}"
                ));
            }
        }
        let newest = group.last().map(|(_, _, asked)| *asked);
        latest = latest.into_iter().chain(newest).max_by_key(|asked| asked.begun);
    }
    Ok(())
}

/// A refusal that can be judged by what was known when the question was asked.
fn refusals(history: &History) -> Result<(), String> {
    use holdfast::store::StoreError;
    for asked in &history.asked {
        match (&asked.question, &asked.end) {
            (Question::Range(request), End::Refused(StoreError::Future { requested, .. }))
                if !request.serializable
                    && history.seen_at(*requested).is_some_and(|seen| seen < asked.begun) =>
            {
                return Err(format!("called future, and was seen before: {asked:?}"));
            }
            (_, End::Refused(StoreError::Compacted { requested, .. }))
                if *requested >= history.compacted =>
            {
                return Err(format!("called compacted, and nobody asked for it: {asked:?}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A write whose fate was not told.
fn open_writes(history: &History) -> Vec<&Asked> {
    let open =
        |asked: &&Asked| matches!((&asked.question, &asked.end), (Question::Txn(_), End::Unknown));
    history.asked.iter().filter(open).collect()
}

/// What may have made a revision that nobody was answered.
#[derive(Clone, Copy)]
enum Cause {
    Open(usize),
    LeaseEnd(i64),
}

struct Replay<'h> {
    history: &'h History,
    writers: BTreeMap<Revision, &'h Asked>,
    open: Vec<&'h Asked>,
    used: BTreeSet<usize>,
    model: Model,
}

fn replay(history: &History, newest: Revision) -> Result<Truth, String> {
    let mut writers = BTreeMap::new();
    for asked in &history.asked {
        let Some(revision) = writer(asked) else { continue };
        if let Some(other) = writers.insert(revision, asked) {
            return Err(format!("two writes made revision {revision}: {asked:?} and {other:?}"));
        }
    }
    if let Some((revision, asked)) = writers.range(newest + 1..).next() {
        return Err(format!("the acknowledged revision {revision} is lost: {asked:?}"));
    }
    let open = open_writes(history);
    let model = Model::new();
    let mut run = Replay { history, writers, open, used: BTreeSet::new(), model };
    // Revisions at which there was a choice, with what was not tried yet.
    let mut choices: Vec<(Revision, Vec<Cause>, Cause)> = Vec::new();
    let mut first_failure = None;
    let mut revision = 2;
    while revision <= newest {
        let failure = match run.step(revision) {
            Ok(None) => None,
            Ok(Some(mut causes)) => match causes.pop() {
                Some(cause) => {
                    run.take(cause, revision);
                    choices.push((revision, causes, cause));
                    None
                }
                None => Some(run.unexplained(revision)),
            },
            Err(failure) => Some(failure),
        };
        let Some(failure) = failure else {
            revision += 1;
            continue;
        };
        first_failure.get_or_insert(failure);
        // Back to the last choice that has something else to offer.
        loop {
            let Some((at, mut rest, taken)) = choices.pop() else {
                return Err(first_failure.unwrap_or_default());
            };
            if let Cause::Open(number) = taken {
                run.used.remove(&number);
            }
            let Some(cause) = rest.pop() else { continue };
            run.model.rewind(at - 1);
            run.take(cause, at);
            choices.push((at, rest, cause));
            revision = at + 1;
            break;
        }
    }
    let ended = choices.into_iter().filter_map(|(revision, _, cause)| match cause {
        Cause::LeaseEnd(lease) => Some((revision, lease)),
        Cause::Open(_) => None,
    });
    Ok(Truth { model: run.model, events: history.archive.clone(), ended: ended.collect() })
}

impl Replay<'_> {
    fn events(&self, revision: Revision) -> Result<&[Event], String> {
        let known = self.history.archive.get(&revision);
        known.map(Vec::as_slice).ok_or_else(|| format!("nobody ever saw revision {revision}"))
    }

    /// Makes a revision that somebody was answered; otherwise says what may have made it.
    fn step(&mut self, revision: Revision) -> Result<Option<Vec<Cause>>, String> {
        let events = self.events(revision)?.to_vec();
        let Some(asked) = self.writers.get(&revision) else {
            return Ok(Some(self.causes(revision)?));
        };
        let (Question::Txn(request), End::Answered(Answer::Txn(answer))) =
            (&asked.question, &asked.end)
        else {
            return Ok(None);
        };
        let ran = self.model.run(request, revision - 1);
        let ran = ran.ok_or_else(|| format!("should have been refused: {asked:?}"))?;
        if ran.answer != *answer {
            return Err(format!("wrong answer to {asked:?}; right is {:?}", ran.answer));
        }
        if ran.events != events {
            return Err(format!(
                "revision {revision} was {events:?}, but {asked:?} makes {:?}",
                ran.events
            ));
        }
        self.model.commit(&events);
        Ok(None)
    }

    fn causes(&self, revision: Revision) -> Result<Vec<Cause>, String> {
        let events = self.events(revision)?;
        let mut causes = Vec::new();
        let seen = self.history.seen_at(revision);
        for (number, asked) in self.open.iter().enumerate() {
            let early = seen.is_none_or(|seen| asked.begun < seen);
            let Question::Txn(request) = &asked.question else { continue };
            if early
                && !self.used.contains(&number)
                && self.model.run(request, revision - 1).is_some_and(|ran| ran.events == events)
            {
                causes.push(Cause::Open(number));
            }
        }
        if let Some(lease) = lease_end(events) {
            let mut keys: Vec<_> = events.iter().map(|event| event.kv.key.clone()).collect();
            keys.sort();
            if keys == self.model.attached(lease, revision - 1) {
                // Tried last: a lease is called ended only where nothing else fits.
                causes.insert(0, Cause::LeaseEnd(lease));
            }
        }
        Ok(causes)
    }

    fn take(&mut self, cause: Cause, revision: Revision) {
        if let Cause::Open(number) = cause {
            self.used.insert(number);
        }
        let events = self.history.archive[&revision].clone();
        self.model.commit(&events);
    }

    fn unexplained(&self, revision: Revision) -> String {
        let events = &self.history.archive[&revision];
        format!("nothing that was asked explains revision {revision}: {events:?}")
    }
}

/// The one lease whose keys were all that was deleted.
fn lease_end(events: &[Event]) -> Option<i64> {
    let lease = events.first()?.prev_kv.as_ref()?.lease;
    let of_it = |event: &Event| {
        event.kind == EventKind::Delete
            && event.prev_kv.as_ref().is_some_and(|old| old.lease == lease)
    };
    (lease != 0 && events.iter().all(of_it)).then_some(lease)
}

/// Whatever wrote nothing, against the state that it names.
fn reads(asked: &Asked, model: &Model) -> Result<(), String> {
    let End::Answered(answer) = &asked.end else { return Ok(()) };
    let at = answer.revision();
    if at > model.revision {
        return Err(format!("answered at a revision that never was: {asked:?}"));
    }
    let right = match (&asked.question, answer) {
        (Question::Range(request), Answer::Range(_)) => Answer::Range(model.range(request, at)),
        (Question::Txn(request), Answer::Txn(answer)) if !wrote(answer) => {
            let ran = model.run(request, at);
            let ran = ran.ok_or_else(|| format!("should have been refused: {asked:?}"))?;
            if !ran.events.is_empty() {
                return Err(format!("answered and not done: {asked:?}"));
            }
            Answer::Txn(ran.answer)
        }
        _ => return Ok(()),
    };
    if right != *answer {
        return Err(format!("wrong answer to {asked:?}; right is {right:?}"));
    }
    Ok(())
}
