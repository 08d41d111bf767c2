//! Cuts a watch's large answer into several, for clients that asked for it.
//!
//! Invariants: events keep their order; every piece but the last says that more follows;
//! an event alone is never cut, however large.

use prost::Message;

use super::messages::etcdserverpb::WatchResponse;
use crate::base::limits::STORE_REQUEST_MAX_BYTES;

/// Size above which an answer is cut, bytes: etcd's request limit and its overhead.
pub(super) const FRAGMENT_BYTES: usize = STORE_REQUEST_MAX_BYTES + 512 * 1024;

/// The answer in pieces below `limit` bytes each, as far as events allow.
pub(super) fn fragments(mut answer: WatchResponse, limit: usize) -> Vec<WatchResponse> {
    if answer.events.len() < 2 || answer.encoded_len() < limit {
        return vec![answer];
    }
    let events = std::mem::take(&mut answer.events);
    let envelope = answer.encoded_len();
    let mut pieces: Vec<WatchResponse> = Vec::new();
    let mut size = limit;
    for event in events {
        // Tag and length before the event itself: at most one and five bytes.
        let length = event.encoded_len() + 6;
        match pieces.last_mut() {
            Some(piece) if size + length < limit => {
                piece.events.push(event);
                size += length;
            }
            _ => {
                pieces.push(WatchResponse {
                    fragment: true,
                    events: vec![event],
                    ..answer.clone()
                });
                size = envelope + length;
            }
        }
    }
    if let Some(last) = pieces.last_mut() {
        last.fragment = false;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::etcd::messages::mvccpb::{Event, KeyValue};

    fn answer(sizes: &[usize]) -> WatchResponse {
        let event = |(at, size): (usize, &usize)| Event {
            kv: Some(KeyValue {
                key: format!("{at:04}").into(),
                value: vec![b'v'; *size].into(),
                ..KeyValue::default()
            }),
            ..Event::default()
        };
        WatchResponse {
            watch_id: 7,
            events: sizes.iter().enumerate().map(event).collect(),
            ..WatchResponse::default()
        }
    }

    #[test]
    fn pieces_hold_all_events_in_order_and_only_the_last_is_final() {
        let whole = answer(&[400; 20]);
        let pieces = fragments(whole.clone(), 1_000);
        assert!(pieces.len() > 5);
        assert!(pieces.iter().all(|piece| piece.watch_id == 7 && piece.encoded_len() <= 1_000));
        let (last, others) = pieces.split_last().unwrap();
        assert!(!last.fragment && others.iter().all(|piece| piece.fragment));
        let events: Vec<_> = pieces.iter().flat_map(|piece| piece.events.clone()).collect();
        assert_eq!(events, whole.events);
    }

    #[test]
    fn what_is_small_or_one_event_stays_whole() {
        assert_eq!(fragments(answer(&[10, 10]), 1_000).len(), 1);
        let one = fragments(answer(&[5_000]), 1_000);
        assert!(one.len() == 1 && !one[0].fragment);
        assert_eq!(fragments(answer(&[5_000, 5_000]), 1_000).len(), 2);
    }
}
