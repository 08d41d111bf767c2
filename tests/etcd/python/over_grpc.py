"""The client `etcd3`, unmodified, over gRPC: certificates' folder and port as arguments."""
import os
import sys

import etcd3

at = lambda name: os.path.join(sys.argv[1], name)
c = etcd3.client(host='127.0.0.1', port=int(sys.argv[2]), ca_cert=at('ca.crt'),
                 cert_cert=at('admin.crt'), cert_key=at('admin.key'), timeout=20)
c.put('p/a', '1')
assert c.get('p/a')[0] == b'1'
events, cancel = c.watch_prefix('p/')
c.put('p/b', '2')
event = next(events)
assert (event.key, event.value) == (b'p/b', b'2'), event
cancel()
done, _ = c.transaction(compare=[c.transactions.value('p/a') == '1'],
                        success=[c.transactions.put('p/c', '3')], failure=[])
assert done and [v for v, _ in c.get_prefix('p/')] == [b'1', b'2', b'3']
assert c.replace('p/a', '1', '5') and not c.replace('p/a', '1', '6')
assert c.put_if_not_exists('p/d', 'x') and not c.put_if_not_exists('p/d', 'y')
assert c.delete('p/d') and not c.delete('p/d')
lease = c.lease(600)
c.put('p/l', 'x', lease)
assert lease.remaining_ttl > 500 and lease.keys == [b'p/l']
assert [response.TTL for response in lease.refresh()] == [600]
lease.revoke()
assert c.get('p/l')[0] is None
with c.lock('p-lock', ttl=60) as lock:
    assert lock.is_acquired()
assert c.delete_prefix('p/').deleted == 3
assert [m.name for m in c.members] == ['a1']
status = c.status()
assert status.version == '3.7.0' and status.leader.name == 'a1', status
assert list(c.list_alarms()) == []
revision = c.put('p/e', '1').header.revision
c.compact(revision)
try:
    list(c.watch_response('p/e', start_revision=1)[0])
    raise SystemExit('a compacted revision is watched')
except etcd3.exceptions.RevisionCompactedError as error:
    assert error.compacted_revision == revision
c.defragment()
with open(at('snapshot'), 'wb') as file:
    c.snapshot(file)
assert os.path.getsize(at('snapshot')) % 512 == 32
print('etcd3 works')
