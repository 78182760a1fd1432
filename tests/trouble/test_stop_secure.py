"""SIGTERM and SIGHUP while secure sessions stand, and a store that is down during a handshake."""

from __future__ import annotations

import asyncio
import resource
import signal
import ssl
import time
from contextlib import AsyncExitStack
from pathlib import Path

import certs
import pytest
from house import Gatehouse, NewGatehouse
from lines import SECURE, Coaps, Https
from secured import FACTORY, LAB, Secured
from wires import GET, HOST


@pytest.fixture
def secured(new_gatehouse: NewGatehouse, tmp_path: Path) -> Secured:
    return Secured(new_gatehouse, tmp_path)


async def test_a_stop_takes_leave_of_secure_sessions(secured: Secured) -> None:
    """Sessions, associations, a poll, an observation and half a handshake: all are told or cut,
    and the process is gone with status 0 well within its grace."""
    identity = await secured.signed("stays")
    async with AsyncExitStack() as stack:
        lines = []
        for wire in SECURE:
            entering = secured.line(wire, identity)
            lines.append(device := await stack.enter_async_context(entering))
            await device.enter()
        web, _, association = lines
        assert isinstance(web, Https)
        assert isinstance(association, Coaps)
        poll = asyncio.create_task(web.web.ask("GET", "/api/v1/rpc?timeout=20000"))
        await association.device.ask(GET, "/api/v1/attributes", observe=0)
        half, other = await asyncio.open_connection(HOST, secured.house.ports.mqtts)
        other.write(b"\x16\x03\x01\x02\x00")
        await asyncio.sleep(0.1)
        began = time.monotonic()
        secured.house.signal(signal.SIGTERM)
        assert await asyncio.to_thread(secured.house.wait, 10) == 0
        assert time.monotonic() - began < 5
        async with asyncio.timeout(2):
            assert (await poll).status == 503
            for device in lines:
                await device.ended()
            assert await half.read() == b""
        other.close()
    assert "Traceback" not in secured.house.log()


async def shown(house: Gatehouse) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection(HOST, house.ports.mqtts, ssl=context)
    der: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return der


async def test_sighup_takes_up_a_new_certificate_at_once(secured: Secured, tmp_path: Path) -> None:
    """Newcomers see it; whoever is there goes on. A broken one is refused, and said so."""
    identity = await secured.signed("stays")
    async with AsyncExitStack() as stack:
        lines = []
        for wire in SECURE:
            lines.append(device := await stack.enter_async_context(secured.line(wire, identity)))
            await device.enter()
        fresh = LAB.server()
        fresh.files(tmp_path, "server")
        secured.house.signal(signal.SIGHUP)
        async with asyncio.timeout(2):
            while await shown(secured.house) != fresh.der:
                await asyncio.sleep(0.02)
        (tmp_path / "server.pem").write_text("nothing")
        secured.house.signal(signal.SIGHUP)
        async with asyncio.timeout(2):
            while "tls.reload_failed" not in secured.house.log():
                await asyncio.sleep(0.02)
        assert await shown(secured.house) == fresh.der
        for device in lines:
            await device.tell(n=1)


def limit_files(house: Gatehouse, size: int) -> None:
    """No file of the process may grow past `size` bytes; a write that would, fails (EFBIG)."""
    limits = size, resource.RLIM_INFINITY
    resource.prlimit(house.running.pid, resource.RLIMIT_FSIZE, limits)


DOWN = {"https": ("closed",), "mqtts": ("CONNACK 3",), "coaps": ("alert 80",)}
"""What a wire says to a newcomer whose birth cannot be written down."""


async def test_a_store_that_is_down_during_a_handshake(secured: Secured) -> None:
    """A factory's device is refused, not as a stranger but for now; one that was here before logs
    in; and when the store is back the newcomer is born as if nothing had been."""
    known = await secured.signed("known")
    assert await secured.answer("https", known) == "200"
    newcomers = {wire: FACTORY.issue(f"new-{wire}") for wire in SECURE}
    limit_files(secured.house, 4096)
    for wire, identity in newcomers.items():
        assert await secured.answer(wire, identity) in DOWN[wire]
    assert await secured.answer("https", known) == "200", secured.house.log()
    limit_files(secured.house, resource.RLIM_INFINITY)
    async with asyncio.timeout(5):
        while (await secured.house.ready())[0] != 200:
            await asyncio.sleep(0.1)
    for wire, identity in newcomers.items():
        assert await secured.answer(wire, identity) in ("200", "CONNACK 0", "2.01")
    assert len(secured.house.rows("SELECT id FROM device")) == 4
    secured.house.signal(signal.SIGTERM)
    assert await asyncio.to_thread(secured.house.wait, 10) == 0


async def test_a_renewal_that_cannot_be_written_down_is_not_given(secured: Secured) -> None:
    """No certificate is out that the store does not know: the device is told to come back."""
    identity = await secured.signed("renews")
    key = certs.new_key()
    async with secured.line("https", identity) as device:
        assert isinstance(device, Https)
        assert await device.enter() == "200"
        limit_files(secured.house, 4096)
        body = b'{"csr":"%s"}' % certs.base64_of(certs.csr(key)).encode()
        reply = await device.web.ask("POST", "/api/v1/certificate", body)
        assert (reply.status, reply.body) == (500, b"")
        limit_files(secured.house, resource.RLIM_INFINITY)
        async with asyncio.timeout(5):
            while (await secured.house.ready())[0] != 200:
                await asyncio.sleep(0.1)
        assert (await device.renew(certs.csr(key)))["status"] == "SUCCESS"
