"""Listening sockets: families, shared ports, and peers' addresses."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest
import uvloop
from http_ground import shapes

from gateway.core.model import Wire
from gateway.transports import listening
from gateway.transports.http import HttpListener
from gateway.transports.listening import bind_tcp, listen_tcp, peer_name, port_of
from gateway.transports.mqtt import MqttListener
from gateway.wire.router import Gauge, Router


def http(host):
    router = Router([], Wire.HTTP, Gauge(1))
    return HttpListener(router, host=host, port=0, shapes=shapes(lambda code, message: b"{}"))


def mqtt(host):
    return MqttListener(None, host=host, port=0)


async def reach(port, *hosts):
    """Connect to each host, or raise OSError."""
    for host in hosts:
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        await writer.wait_closed()


async def serve(make, host, *hosts):
    listener = make(host)
    await listener.start()
    port = listener.port
    try:
        await reach(port, *hosts)
    finally:
        await listener.stop(1.0)
    with pytest.raises(OSError):
        await reach(port, hosts[0])


HOSTS = [
    ("0.0.0.0", ("127.0.0.1",)),
    ("::", ("127.0.0.1", "::1")),
    ("::1", ("::1",)),
    ("localhost", ("127.0.0.1",)),
]


@pytest.mark.parametrize(("host", "hosts"), HOSTS)
@pytest.mark.parametrize("make", [http, mqtt])
async def test_hosts(make, host, hosts):
    """`::` takes IPv4 and IPv6; the rest takes what it names."""
    await serve(make, host, *hosts)


@pytest.mark.parametrize("make", [http, mqtt])
def test_hosts_on_uvloop(make):
    """On uvloop, which has servers of its own, `::` takes both as well."""
    uvloop.run(serve(make, "::", "127.0.0.1", "::1"))


async def test_one_ipv6_address_is_not_ipv4():
    """`::1` leaves the same port of 127.0.0.1 to others."""
    (six,) = await bind_tcp("::1", 0, 5)
    with six:
        port = six.getsockname()[1]
        (four,) = await bind_tcp("127.0.0.1", port, 5)
        four.close()


@pytest.mark.parametrize("make", [http, mqtt])
@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
async def test_a_taken_port_is_an_error(make, host):
    """Two cannot listen on one port: the second is told at its start."""
    first = make(host)
    await first.start()
    second = make(host)
    second._want_port = first.port
    second._address = (host, first.port)
    with pytest.raises(OSError) as raised:
        await second.start()
    assert raised.value.errno == errno.EADDRINUSE
    await first.stop(1.0)


async def test_a_port_just_left_can_be_had_again():
    """A restart does not wait for the connections of the process before it."""
    servers = await listen_tcp(asyncio.Protocol, "127.0.0.1", 0, 5)
    port = port_of(servers)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    servers[0].close()
    (again,) = await bind_tcp("127.0.0.1", port, 5)
    again.close()
    writer.close()
    await writer.wait_closed()


def resolves_to(monkeypatch, *addresses):
    async def resolve(host, port, kind):
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, kind, 0, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(listening, "resolve", resolve)


async def test_a_name_with_several_addresses_has_one_port(monkeypatch):
    """Every address of a name is listened on, at the same port, also when it was picked."""
    resolves_to(monkeypatch, "127.0.0.1", "::1")
    servers = await listen_tcp(asyncio.Protocol, "some.name", 0, 5)
    await reach(port_of(servers), "127.0.0.1", "::1")
    for server in servers:
        server.close()


async def test_an_address_this_machine_lacks_is_passed_over(monkeypatch):
    """Of a name's addresses one that works is enough; with none, the reason is told."""
    resolves_to(monkeypatch, "192.0.2.1", "127.0.0.1")
    (only,) = await bind_tcp("some.name", 0, 5)
    assert only.getsockname()[0] == "127.0.0.1"
    only.close()
    resolves_to(monkeypatch, "192.0.2.1")
    with pytest.raises(OSError) as raised:
        await bind_tcp("some.name", 0, 5)
    assert raised.value.errno == errno.EADDRNOTAVAIL


async def test_a_half_taken_name_is_not_listened_on(monkeypatch):
    """When one address of a name is taken, the others are let go."""
    (taken,) = await bind_tcp("::1", 0, 5)
    port = taken.getsockname()[1]
    resolves_to(monkeypatch, "127.0.0.1", "::1")
    with taken, pytest.raises(OSError) as raised:
        await bind_tcp("some.name", port, 5)
    assert raised.value.errno == errno.EADDRINUSE
    with pytest.raises(OSError):
        await reach(port, "127.0.0.1")


def test_peer_names():
    """IPv6 goes in brackets, IPv4 stays IPv4 on any socket, and one already gone has none."""
    assert peer_name(("192.0.2.7", 5)) == "192.0.2.7:5"
    assert peer_name(("2001:db8::1", 5, 0, 0)) == "[2001:db8::1]:5"
    assert peer_name(("::ffff:192.0.2.7", 5, 0, 0)) == "192.0.2.7:5"
    assert peer_name(None) == "unknown"
