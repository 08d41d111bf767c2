//! Two Python clients, unmodified: `etcd3` over gRPC and `etcd3gw` over JSON.
//!
//! They run where `HOLDFAST_ETCD_PYTHON` names an interpreter that has both.

use std::process::Command;

use crate::served::{Served, output};

const OVER_GRPC: &str = r#"
import os, sys, etcd3
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
lease = c.lease(600)
c.put('p/l', 'x', lease)
assert lease.remaining_ttl > 500 and lease.keys == [b'p/l']
lease.revoke()
assert c.get('p/l')[0] is None
with c.lock('p-lock', ttl=60) as lock:
    assert lock.is_acquired()
assert c.delete_prefix('p/').deleted == 3
assert [m.name for m in c.members] == ['a1']
assert c.status().version == '3.7.0'
print('grpc works')
"#;

const OVER_JSON: &str = r#"
import os, sys, etcd3gw
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
event = None
events, cancel = c.watch('j/w')
c.put('j/w', 'seen')
event = next(events)
assert event['kv']['value'] == b'seen', event
cancel()
with c.lock(id='j-lock', ttl=60) as lock:
    assert lock.is_acquired()
assert c.delete_prefix('j/')
assert [m['name'] for m in c.members()] == ['a1']
print('json works')
"#;

#[tokio::test(flavor = "multi_thread")]
async fn python_clients_work_over_grpc_and_json() {
    let Some(python) = std::env::var_os("HOLDFAST_ETCD_PYTHON") else {
        println!("SKIPPED HOLDFAST_ETCD_PYTHON names no interpreter with etcd3 and etcd3gw");
        return;
    };
    let served = Served::start().await;
    for (script, says) in [(OVER_GRPC, "grpc works"), (OVER_JSON, "json works")] {
        let mut command = Command::new(&python);
        // These would replace the authority that the script names.
        command.env_remove("REQUESTS_CA_BUNDLE").env_remove("CURL_CA_BUNDLE");
        command.env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python");
        command.arg("-c").arg(script).arg(served.dir.path()).arg(served.port.to_string());
        let output = output(command).await;
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.contains(says), "{told}{}", String::from_utf8_lossy(&output.stderr));
    }
}
