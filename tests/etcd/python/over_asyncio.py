"""The client `aetcd`, unmodified: certificates' folder and port as arguments.

It speaks without TLS only, so a small tunnel stands before the member, as stunnel would.
"""
import asyncio
import os
import ssl
import sys

import aetcd

at = lambda name: os.path.join(sys.argv[1], name)


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, asyncio.CancelledError):
        pass
    writer.close()


async def tunnel(reader, writer):
    tls = ssl.create_default_context(cafile=at('ca.crt'))
    tls.load_cert_chain(at('admin.crt'), at('admin.key'))
    tls.set_alpn_protocols(['h2'])
    far = await asyncio.open_connection('127.0.0.1', int(sys.argv[2]), ssl=tls)
    try:
        await asyncio.gather(pump(reader, far[1]), pump(far[0], writer))
    except asyncio.CancelledError:
        far[1].close()


async def main():
    server = await asyncio.start_server(tunnel, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    async with aetcd.Client(host='127.0.0.1', port=port, timeout=20) as c:
        await c.put(b's/a', b'1')
        got = await c.get(b's/a')
        assert (got.value, got.version) == (b'1', 1), got
        watch = await c.watch_prefix(b's/')
        await c.put(b's/b', b'2')
        async for event in watch:
            assert (event.kv.key, event.kv.value) == (b's/b', b'2'), event
            break
        await watch.cancel()
        done, _ = await c.transaction(
            compare=[c.transactions.value(b's/a') == b'1'],
            success=[c.transactions.put(b's/c', b'3')], failure=[])
        assert done
        assert [kv.value for kv in await c.get_prefix(b's/')] == [b'1', b'2', b'3']
        assert await c.replace(b's/a', b'1', b'9') and not await c.replace(b's/a', b'1', b'8')
        lease = await c.lease(600)
        await c.put(b's/l', b'x', lease=lease)
        assert await lease.remaining_ttl() > 500 and await lease.keys() == [b's/l']
        await lease.refresh()
        await lease.revoke()
        assert await c.get(b's/l') is None
        async with c.lock(b's-lock') as lock:
            assert await lock.is_acquired()
        deleted = await c.delete_prefix(b's/')
        assert deleted.deleted == 3, deleted
        members = [member async for member in c.members()]
        assert [member.name for member in members] == ['a1'], members
        status = await c.status()
        assert status.version == '3.7.0', status
    server.close()
    print('aetcd works')


asyncio.run(asyncio.wait_for(main(), 60))
