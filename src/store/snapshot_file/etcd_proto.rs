//! The two messages of etcd's database that a snapshot needs: `mvccpb.KeyValue` and
//! `leasepb.Lease`.
//!
//! Why by hand: three kinds of fields, read from a file whose content is not trusted.
//! Sources: etcd's `mvcc/mvccpb/kv.proto`, `lease/leasepb/lease.proto`.
//! Not here: writing `KeyValue`, which the hash of the history needs as well
//! (`store/state`).

use bytes::Bytes;

use crate::base::limits::LEASE_TTL_MIN_S;
use crate::logic::lease::LeaseRecord;
use crate::model::kv::KeyValue;
use crate::model::lease::LeaseId;

/// A field's content.
enum Field<'a> {
    Number(i64),
    Bytes(&'a [u8]),
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Calls `each` with the number of every field and its content; `None` if it is garbage.
fn fields<'a>(mut bytes: &'a [u8], mut each: impl FnMut(u64, Field<'a>)) -> Option<()> {
    while !bytes.is_empty() {
        let tag = read_varint(&mut bytes)?;
        let content = match tag & 7 {
            0 => Field::Number(read_varint(&mut bytes)?.cast_signed()),
            2 => {
                let length = usize::try_from(read_varint(&mut bytes)?).ok()?;
                let content = bytes.get(..length)?;
                bytes = &bytes[length..];
                Field::Bytes(content)
            }
            _ => return None,
        };
        each(tag >> 3, content);
    }
    Some(())
}

pub(super) fn parse_record(bytes: &[u8]) -> Option<KeyValue> {
    let mut kv = KeyValue::default();
    fields(bytes, |field, content| match (field, content) {
        (1, Field::Bytes(key)) => kv.key = Bytes::copy_from_slice(key),
        (2, Field::Number(number)) => kv.create_revision = number,
        (3, Field::Number(number)) => kv.mod_revision = number,
        (4, Field::Number(number)) => kv.version = number,
        (5, Field::Bytes(value)) => kv.value = Bytes::copy_from_slice(value),
        (6, Field::Number(number)) => kv.lease = number,
        _ => {}
    })?;
    Some(kv)
}

pub(super) fn lease_message(id: LeaseId, record: &LeaseRecord) -> Vec<u8> {
    let mut out = Vec::new();
    let numbers = [(1, id), (2, record.ttl_s), (3, record.remaining_s.unwrap_or(0))];
    for (field, number) in numbers {
        // Fields that are zero are left out, as everywhere in protobuf 3.
        if number != 0 {
            out.push(field << 3);
            varint(&mut out, number.cast_unsigned());
        }
    }
    out
}

pub(super) fn parse_lease(bytes: &[u8]) -> Option<(LeaseId, LeaseRecord)> {
    let (mut id, mut ttl_s, mut left_s) = (0, 0, 0);
    fields(bytes, |field, content| match (field, content) {
        (1, Field::Number(number)) => id = number,
        (2, Field::Number(number)) => ttl_s = number,
        (3, Field::Number(number)) => left_s = number,
        _ => {}
    })?;
    let ttl_s = ttl_s.max(LEASE_TTL_MIN_S);
    let remaining_s = (0 < left_s && left_s < ttl_s).then_some(left_s);
    (id != 0).then_some((id, LeaseRecord { ttl_s, remaining_s, epoch: 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::state::row_value;

    #[test]
    fn a_record_becomes_the_message_and_back() {
        for (revision, lease) in [(2, 0), (300, 7), (i64::MAX, -1)] {
            let kv = KeyValue {
                key: "k".into(),
                value: vec![b'v'; 300].into(),
                create_revision: 2,
                mod_revision: revision,
                version: 3,
                lease,
            };
            assert_eq!(parse_record(&row_value(&kv)), Some(kv));
        }
        assert_eq!(parse_record(&[0x0a, 0x05, b'x']), None);
    }

    #[test]
    fn a_lease_becomes_the_message_and_back() {
        for (ttl_s, remaining_s) in [(60, None), (9_000_000_000, Some(7))] {
            let record = LeaseRecord { ttl_s, remaining_s, epoch: 0 };
            assert_eq!(parse_lease(&lease_message(i64::MAX, &record)), Some((i64::MAX, record)));
        }
        assert_eq!(parse_lease(&[0x10]), None);
    }
}
