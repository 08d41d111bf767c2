"""Patroni's class for etcd v3, unmodified, as two nodes use it: certificates' folder and port.

What a node does between two rounds of its loop: it registers, races for the lead, writes its
status, asks for a failover, keeps the history; and loses the lead when its lease ends.
"""
import logging
import sys
import time
import os

from patroni.dcs import get_dcs

# The client ends its own watch to start it anew, and complains of that end.
logging.basicConfig(level=logging.CRITICAL)
at = lambda name: os.path.join(sys.argv[1], name)
TTL = 20


def node(name):
    return get_dcs({
        'scope': 'demo', 'name': name, 'namespace': '/service/', 'ttl': TTL, 'loop_wait': 1,
        'retry_timeout': 10, 'postgresql': {'connect_address': '127.0.0.1:5432'},
        'etcd3': {'host': f'127.0.0.1:{sys.argv[2]}', 'protocol': 'https',
                  'cacert': at('ca.crt'), 'cert': at('admin.crt'), 'key': at('admin.key')}})


def until(what, check):
    end = time.time() + 90
    while not check():
        assert time.time() < end, what
        time.sleep(0.05)


a, b = node('a'), node('b')
assert a.get_cluster().is_unlocked() and not a.get_cluster().initialize
assert a.initialize(create_new=True) and not b.initialize(create_new=True)
assert a.initialize(create_new=False, sysid='7001')
until('both see the system', lambda: b.get_cluster().initialize == '7001')
assert a.touch_member({'role': 'replica', 'state': 'running', 'conn_url': 'postgres://a'})
assert b.touch_member({'role': 'replica', 'state': 'running', 'conn_url': 'postgres://b'})
until('both are members', lambda: {m.name for m in b.get_cluster().members} == {'a', 'b'})
assert a.attempt_to_acquire_leader() and not b.attempt_to_acquire_leader()
until('b sees the leader', lambda: b.get_cluster().leader and b.get_cluster().leader.name == 'a')
assert a.update_leader(a.get_cluster(), 123456789)
until('the position is seen', lambda: b.get_cluster().status.last_lsn == 123456789)
assert a.set_config_value('{"ttl": 20}') and a.set_history_value('[[1, 2, "x"]]')
until('the config is seen', lambda: b.get_cluster().config
      and b.get_cluster().config.data == {'ttl': 20})
until('the history is seen', lambda: b.get_cluster().history and b.get_cluster().history.lines)
# Synchronous replication's state, guarded by its version.
version = a.set_sync_state_value('{"leader": "a", "sync_standby": "b"}')
assert version
assert not b.set_sync_state_value('{}', version=str(int(version) - 1))
assert b.set_sync_state_value('{"leader": "a", "sync_standby": "b"}', version=version)
# A replica's watch wakes when the leader writes on.
until('all is quiet', lambda: not b.watch(None, 0.3))
assert a.update_leader(a.get_cluster(), 123456999)
assert b.watch(None, TTL / 2), 'the status wakes a replica'
assert b.manual_failover('a', 'b')
until('a sees the failover', lambda: a.get_cluster().failover
      and a.get_cluster().failover.candidate == 'b')
assert a.manual_failover('', '', version=a.get_cluster().failover.version)
# The leader gives up; the other one takes over.
assert a.delete_leader(a.get_cluster().leader)
until('b takes over', b.attempt_to_acquire_leader)
# b dies: its lease ends, its keys go, and a becomes the leader.
until('b leads', lambda: a.get_cluster().leader and a.get_cluster().leader.name == 'b')
before = time.time()


def a_leads():
    a.touch_member({'role': 'replica', 'state': 'running', 'conn_url': 'postgres://a'})
    return a.attempt_to_acquire_leader()


until('a takes over from the dead', a_leads)
print(f'taken over after {time.time() - before:.1f} s of at most {TTL}', file=sys.stderr)
until('the dead is no member', lambda: [m.name for m in a.get_cluster().members] == ['a'])
assert a.delete_cluster()
until('nothing is left', lambda: not a.get_cluster().members)
print('patroni works')
# Its watchers are threads that run for ever.
sys.stdout.flush()
os._exit(0)
