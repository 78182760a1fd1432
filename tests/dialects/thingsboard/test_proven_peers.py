"""Peers whose certificate or key the handshake of a secure wire proved (sections 7.2, 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import certs
import pytest

from gateway.core.access import Access
from gateway.core.model import (
    AttributeScope,
    Certificate,
    Identity,
    Peer,
    ProfileTransport,
    ProvisionType,
    Wire,
)
from gateway.core.pki.model import ChainRule
from gateway.wire.call import Admitted, Hello, Rejected, Status

if TYPE_CHECKING:
    from conftest import House

PEER = Peer(Wire.MQTTS, "192.0.2.7:50123")
OWN = certs.self_signed("d")
ROOT = certs.Authority("Factory")
SECURE = (Wire.HTTPS, Wire.COAPS)


def hello(made: certs.Issued, client_id: str = "c", username: str | None = "u") -> Hello:
    return Hello(client_id, username, b"p", PEER, 5, made.chain)


async def pinned(house: House, name: str = "d", made: certs.Issued = OWN) -> Identity:
    """A device whose credentials are a certificate, as the handshake finds it."""
    await house.add(name)
    known = await house.known(name)
    assert await house.registry.replace_credentials(known, Certificate(made.text))
    found = await house.parts["identities"].by_chain(made.chain, PEER)
    assert isinstance(found, Identity)
    return found


# ── HTTP and CoAP ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wire", SECURE)
async def test_paths_without_a_token(house: House, wire: Wire) -> None:
    """With a certificate the token's segment is left out of every path (section 10)."""
    identity = await pinned(house)

    async def ask(address: str, body: str = "", **query: str) -> Status:
        _, reply = await house.ask(wire, address, body, query, identity=identity)
        return reply.status

    assert await ask("POST /api/v1/telemetry", '{"a":1}') is Status.OK
    assert await house.readings() == {"a": 1}
    assert await ask("POST /api/v1/attributes", '{"b":2}') is Status.OK
    assert await house.attributes(AttributeScope.CLIENT) == {"b": 2}
    assert await ask("GET /api/v1/attributes", clientKeys="b") is Status.OK
    assert await ask("POST /api/v1/rpc/1", "{}") is Status.OK
    assert await ask("POST /api/v1/rpc", '{"method":"m","params":{}}') is Status.OK
    assert await ask("POST /api/v1/claim") is Status.OK
    package = "GET /fw" if wire is Wire.COAPS else "GET /api/v1/firmware"
    assert await ask(package, title="t", version="1") is Status.NOT_FOUND


async def test_long_polls_without_a_token(house: House) -> None:
    """Over HTTP alone."""
    identity = await pinned(house)
    for address in ("GET /api/v1/attributes/updates", "GET /api/v1/rpc"):
        _, reply = await house.ask(Wire.HTTPS, address, b"", {"timeout": "1"}, identity=identity)
        assert reply.status is Status.TIMEOUT


async def test_observations_without_a_token(house: House, watcher: Any) -> None:
    """Over CoAP alone; they hear what changes."""
    identity, seen = await pinned(house), watcher()
    _, reply = await house.ask(
        Wire.COAPS, "GET /api/v1/attributes", observer=seen, identity=identity
    )
    assert reply.on_end is not None
    await house.share(a=1)
    await house.settle()
    assert [one.body for one in seen.notified] == [b'{"a":1}']


async def test_what_is_no_feature_is_told_so(house: House) -> None:
    """The first segment is not taken for a token: 4.00, not 4.01."""
    identity = await pinned(house)
    for address in ("GET /api/v1/telemetry", "POST /api/v1/nothing/of/that"):
        _, reply = await house.ask(Wire.COAPS, address, identity=identity)
        assert reply.status is Status.BAD_REQUEST


@pytest.mark.parametrize("wire", SECURE)
async def test_nobody_without_a_token_is_nobody(house: House, wire: Wire) -> None:
    """Who showed no certificate must name a token, as on the plain wire."""
    await pinned(house)
    for address in ("POST /api/v1/telemetry", "POST /api/v1/nobody/telemetry"):
        _, reply = await house.ask(wire, address, '{"a":1}')
        assert reply.status is Status.UNAUTHENTICATED


@pytest.mark.parametrize("wire", SECURE)
async def test_a_token_in_the_path_must_be_the_same_devices(house: House, wire: Wire) -> None:
    """Else the certificate of one would send in the name of another."""
    identity = await pinned(house)
    token = await house.add("other")
    for one in (token, "nobody"):
        _, reply = await house.ask(wire, f"POST /api/v1/{one}/telemetry", "{}", identity=identity)
        assert reply.status is Status.UNAUTHENTICATED
    its_own = Identity(identity.id, (await house.device("other")).id)
    _, reply = await house.ask(wire, f"POST /api/v1/{token}/telemetry", "{}", identity=its_own)
    assert reply.status is Status.OK


@pytest.mark.parametrize("wire", SECURE)
async def test_a_certificate_that_was_replaced_is_nobodys(house: House, wire: Wire) -> None:
    """The device is looked up for each call: what was proven may count no more."""
    identity = await pinned(house)
    await house.registry.replace_credentials(await house.known())
    _, reply = await house.ask(wire, "POST /api/v1/telemetry", "{}", identity=identity)
    assert reply.status is Status.UNAUTHENTICATED


async def test_a_certificate_may_end_while_its_connection_is_open(house: House) -> None:
    """From then on each call is 401."""
    identity = await pinned(house)
    house.begin(access=Access(house.store, house.clock))
    for until, status in ((0, Status.OK), (house.clock(), Status.OK)):
        lasting = Identity(identity.id, identity.device_id, until)
        _, reply = await house.ask(
            Wire.HTTPS, "POST /api/v1/telemetry", '{"a":1}', identity=lasting
        )
        assert reply.status is status
    house.clock.now += 1
    _, reply = await house.ask(Wire.HTTPS, "POST /api/v1/telemetry", "{}", identity=lasting)
    assert reply.status is Status.UNAUTHENTICATED


async def test_a_profile_for_mqtt_alone_is_not_served_over_coaps(house: House) -> None:
    """5.00, as on the plain wire; HTTP never checks it (section 7.3)."""
    await house.profile(transport=ProfileTransport.MQTT)
    identity = await pinned(house)
    _, reply = await house.ask(Wire.COAPS, "POST /api/v1/telemetry", "{}", identity=identity)
    assert reply.status is Status.INTERNAL
    _, reply = await house.ask(Wire.HTTPS, "POST /api/v1/telemetry", "{}", identity=identity)
    assert reply.status is Status.OK


# ── MQTT ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_certificate_opens_a_session(house: House) -> None:
    """User name and password are ignored (section 7.2)."""
    await pinned(house)
    client = await house.enter(hello(OWN))
    assert (await client.publish("v1/devices/me/telemetry", '{"a":1}')).status is Status.OK
    assert await house.readings() == {"a": 1}


async def test_a_certificate_that_is_nobodys_is_refused(house: House) -> None:
    """5, or 0x87 with the reason; a good token beside it does not help (section 7.3)."""
    token = await house.add()
    rejected = await house.dialect.connect(hello(certs.self_signed("x"), username=token))
    assert isinstance(rejected, Rejected)
    assert (rejected.code_v3, rejected.code_v5) == (5, 0x87)
    assert rejected.reason == "the certificate is refused: unknown ca"


async def test_an_issuer_that_is_a_devices_certificate_makes_nobody_that_device(
    house: House,
) -> None:
    """The leaf alone is looked up, where ThingsBoard walks up the chain."""
    await pinned(house, made=ROOT)
    assert isinstance(await house.dialect.connect(hello(ROOT.issue("x"))), Rejected)


async def test_a_session_may_provision_beside_its_certificate(house: House) -> None:
    """The name `provision` goes before all else (section 4.1)."""
    for one in (hello(OWN, client_id="provision"), hello(OWN, username="provision")):
        admitted = await house.dialect.connect(one)
        assert isinstance(admitted, Admitted)
        assert admitted.name == "provision"


async def test_a_profile_for_coap_alone_is_not_served_over_mqtts(house: House) -> None:
    """3, or 0x88, as on the plain wire."""
    await house.profile(transport=ProfileTransport.COAP)
    await pinned(house)
    rejected = await house.dialect.connect(hello(OWN))
    assert isinstance(rejected, Rejected)
    assert (rejected.code_v3, rejected.code_v5) == (3, 0x88)


async def test_the_factorys_certificate_makes_a_device(house: House) -> None:
    """Connecting is enough (section 2.8); a name the factory does not give is refused."""
    rule = ChainRule(certificate=ROOT.pem, pattern="^(m-[0-9]+)$", create=True)
    await house.profile(provision_type=ProvisionType.X509_CERTIFICATE_CHAIN, chain=rule)
    client = await house.enter(hello(ROOT.issue("m-1")))
    assert client.admitted.device is not None
    assert client.admitted.device.name == "m-1"
    rejected = await house.dialect.connect(hello(ROOT.issue("x")))
    assert isinstance(rejected, Rejected)
    assert rejected.reason == "the certificate is refused: cn mismatch"


async def test_revoked_credentials_end_the_session(house: House) -> None:
    """As new ones do: 0x98, and no way back in."""
    await pinned(house)
    client = await house.enter(hello(OWN))
    await house.registry.replace_credentials(await house.known())
    await house.feed.look()
    assert client.link.closed == 0x98
    assert isinstance(await house.dialect.connect(hello(OWN)), Rejected)


async def test_a_session_ends_with_its_certificate(house: House) -> None:
    """It is admitted for as long as the certificate holds, not for as long as it pings."""
    await pinned(house)
    admitted = await house.dialect.connect(hello(OWN))
    assert isinstance(admitted, Admitted)
    left_ms = OWN.certificate.not_valid_after_utc.timestamp() * 1000 - house.clock()
    assert admitted.lasts_s == left_ms / 1000
