//! The clock against a list that is searched whole.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{LeaseBook, LeaseClock, LeaseMark, LeaseRecord, Renewal};
use crate::base::limits::{LEASE_EXPIRED_PER_TICK, LEASE_RETRY_MS};
use crate::model::lease::LEASE_TTL_MAX_S;
use crate::model::refusal::Refusal;

#[derive(Debug, Clone)]
enum Step {
    Grant(i64, i64),
    Revoke(i64),
    Renew(i64),
    Wait(u64),
    Tick,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..6_i64, 1..900_i64).prop_map(|(id, ttl)| Step::Grant(id, ttl)),
        1 => (1..6_i64).prop_map(Step::Revoke),
        3 => (1..6_i64).prop_map(Step::Renew),
        4 => (0..400_000_u64).prop_map(Step::Wait),
        4 => Just(Step::Tick),
        1 => Just(Step::Restart),
    ]
}

/// Applies a mark to book and clock, as the state machine does.
fn apply(book: &mut LeaseBook, clock: &mut LeaseClock, mark: &LeaseMark) {
    if let Some(record) = book.mark(mark) {
        book.set(mark.id, Some(record));
        clock.marked(mark.id, record);
    }
}

proptest! {
    #[test]
    fn a_lease_is_due_when_its_time_is_over_and_never_before(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let (mut book, mut clock) = (LeaseBook::default(), LeaseClock::default());
        let (mut now, mut term) = (0, 1);
        clock.promote(term, now, &book);
        // When each lease's time is over, and when its end is proposed again.
        let mut truth: BTreeMap<i64, u64> = BTreeMap::new();
        let mut again: BTreeMap<i64, u64> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Grant(id, ttl) => {
                    if let Ok((granted, record)) = book.grant(id, ttl) {
                        book.set(id, Some(record));
                        clock.granted(id, record, now);
                        truth.insert(id, now + granted.ttl_s as u64 * 1_000);
                    } else {
                        prop_assert!(truth.contains_key(&id));
                    }
                }
                Step::Revoke(id) => {
                    book.set(id, None);
                    clock.revoked(id);
                    truth.remove(&id);
                    again.remove(&id);
                }
                Step::Renew(id) => {
                    let mut renewal = clock.renew(id, now);
                    if let Renewal::MarkFirst(mark) = renewal {
                        apply(&mut book, &mut clock, &mark);
                        prop_assert_eq!(book.get(id).unwrap().remaining_s, None);
                        renewal = clock.renew(id, now);
                    }
                    match (renewal, truth.get(&id).copied()) {
                        (Renewal::Gone, None) => {}
                        (Renewal::Ending, Some(ends)) => prop_assert!(ends <= now),
                        (Renewal::Renewed { ttl_s }, Some(ends)) => {
                            prop_assert!(ends > now);
                            truth.insert(id, now + ttl_s as u64 * 1_000);
                        }
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                Step::Wait(ms) => now += ms,
                Step::Tick => {
                    let due = clock.tick(now);
                    let over = truth.iter().filter(|(_, ends)| **ends <= now);
                    let expected: Vec<i64> = over
                        .map(|(id, _)| *id)
                        .filter(|id| again.get(id).is_none_or(|again| *again <= now))
                        .collect();
                    let mut found = due.expire.clone();
                    found.sort_unstable();
                    prop_assert_eq!(found, expected);
                    for id in due.expire {
                        again.insert(id, now + LEASE_RETRY_MS);
                    }
                    for mark in due.marks {
                        let left = mark.remaining_s.unwrap() as u64 * 1_000;
                        prop_assert!(now + left >= truth[&mark.id], "less than is left");
                        prop_assert!(now + left < truth[&mark.id] + 1_000);
                        apply(&mut book, &mut clock, &mark);
                    }
                }
                Step::Restart => {
                    term += 1;
                    clock.promote(term, now, &book);
                    again.clear();
                    for (id, ends) in &mut truth {
                        let record = book.get(*id).unwrap();
                        let left = record.remaining_s.unwrap_or(record.ttl_s) as u64 * 1_000;
                        prop_assert!(now + left >= *ends, "a new leader gives less");
                        *ends = now + left;
                    }
                }
            }
            for (id, ends) in &truth {
                prop_assert_eq!(clock.remaining_ms(*id, now), Some(ends.saturating_sub(now)));
            }
        }
    }
}

#[test]
fn the_book_refuses_what_etcd_refuses() {
    let mut book = LeaseBook::default();
    let (granted, record) = book.grant(1, -5).unwrap();
    assert_eq!(granted.ttl_s, 2, "raised to the minimum");
    book.set(1, Some(record));
    assert_eq!(book.grant(1, 60), Err(Refusal::LeaseExists));
    assert_eq!(book.grant(2, LEASE_TTL_MAX_S + 1), Err(Refusal::LeaseTtlTooLarge));
    assert!(book.grant(2, LEASE_TTL_MAX_S).is_ok());
}

#[test]
fn a_mark_of_an_older_epoch_is_void() {
    let mut book = LeaseBook::default();
    book.set(1, Some(LeaseRecord { ttl_s: 900, remaining_s: None, epoch: 0 }));
    let renewed = book.mark(&LeaseMark { id: 1, epoch: 0, remaining_s: None });
    book.set(1, renewed);
    assert_eq!(book.mark(&LeaseMark { id: 1, epoch: 0, remaining_s: Some(5) }), None);
}

#[test]
fn ends_are_limited_and_an_idle_clock_ends_nothing() {
    let leases = 1..=LEASE_EXPIRED_PER_TICK as i64 + 20;
    let record = LeaseRecord { ttl_s: 2, remaining_s: None, epoch: 0 };
    let book = LeaseBook::load(leases.map(|id| (id, record)));
    let mut clock = LeaseClock::default();
    assert_eq!(clock.tick(u64::MAX), super::Due::default());
    assert_eq!(clock.renew(1, 0), Renewal::NotLeading);
    clock.promote(1, 0, &book);
    assert_eq!(clock.tick(2_000).expire.len(), LEASE_EXPIRED_PER_TICK);
    assert_eq!(clock.tick(2_500).expire.len(), 20);
    assert!(clock.tick(2_600).expire.is_empty());
    assert_eq!(clock.tick(9_000).expire.len(), LEASE_EXPIRED_PER_TICK, "proposed again");
    clock.demote();
    assert!(clock.tick(u64::MAX).expire.is_empty());
}
