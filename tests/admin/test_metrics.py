"""Who may read the metrics."""

from __future__ import annotations

import pytest

from gateway.admin.metrics import MetricsApi
from gateway.core.model import Peer, Wire
from gateway.wire.call import Status
from gateway.wire.router import Gauge, Router


async def ask(address, **options):
    async def text():
        return b"up 1\n"

    router = Router(MetricsApi(text, **options).routes(), Wire.HTTP, Gauge(10))
    _, reply = await router.answer("GET /metrics", b"", Peer(Wire.HTTP, address))
    return reply


@pytest.mark.parametrize(
    "address", ["127.0.0.1:5", "[::1]:5", "10.1.2.3:5", "[fd00::1]:5", "[::ffff:192.168.0.9]:5"]
)
async def test_our_own_networks_read_them(address):
    """This machine and private networks, in IPv4, IPv6 and mapped."""
    reply = await ask(address)
    assert reply.status is Status.OK
    assert reply.body == b"up 1\n"


@pytest.mark.parametrize("address", ["192.0.2.7:5", "[2001:db8::1]:5", "[::ffff:8.8.8.8]:5", "?"])
async def test_to_strangers_there_is_nothing(address):
    """The answer is that of an address where nothing is served."""
    reply = await ask(address)
    assert reply.status is Status.NOT_FOUND
    assert reply.body == b""


async def test_the_networks_can_be_chosen():
    """With a list of one's own, that alone counts; with an empty one nobody reads them."""
    assert (await ask("192.0.2.7:5", networks=["192.0.2.0/24"])).status is Status.OK
    assert (await ask("127.0.0.1:5", networks=["192.0.2.0/24"])).status is Status.NOT_FOUND
    assert (await ask("127.0.0.1:5", networks=[])).status is Status.NOT_FOUND


def test_what_is_no_network_is_refused():
    """A mistake is told at the start."""
    with pytest.raises(ValueError, match="nonsense"):
        MetricsApi(lambda: None, networks=["nonsense"])
