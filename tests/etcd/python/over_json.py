"""The client `etcd3gw`, unmodified, over JSON: certificates' folder and port as arguments."""
import os
import sys

import etcd3gw

at = lambda name: os.path.join(sys.argv[1], name)
c = etcd3gw.client(host='127.0.0.1', port=int(sys.argv[2]), protocol='https', timeout=20,
                   ca_cert=at('ca.crt'), cert_cert=at('admin.crt'), cert_key=at('admin.key'),
                   api_path='/v3/')
assert c.put('j/a', '1') and c.get('j/a') == [b'1']
assert c.create('j/b', '2') and not c.create('j/b', '3')
assert c.replace('j/b', '2', '4') and c.get('j/b') == [b'4']
lease = c.lease(ttl=600)
c.put('j/l', 'x', lease)
assert lease.ttl() > 500 and lease.keys() == [b'j/l'] and lease.refresh() == 600
assert lease.revoke() and c.get('j/l') == []
events, cancel = c.watch('j/w')
c.put('j/w', 'seen')
event = next(events)
assert event['kv']['value'] == b'seen', event
cancel()
assert [kv['key'] for _, kv in c.get_prefix('j/', sort_order='descend')] == [b'j/w', b'j/b', b'j/a']
with c.lock(id='j-lock', ttl=60) as lock:
    assert lock.is_acquired()
assert c.delete_prefix('j/')
assert [m['name'] for m in c.members()] == ['a1']
assert c.status()['version'] == '3.7.0'
print('etcd3gw works')
