"""Several fleet secrets of one profile, over real sockets: used up, derived, bounded, suspended."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from contract import session_of
from inside import Gate, serving
from wires import DISCONNECT, GET, POST, coap, dotted, http, mqtt, observing, provision

from gateway.core.fleet_custody import FleetSecrets
from gateway.core.fleet_secret_store import Bounds
from gateway.core.fleet_secrets import derived_key
from gateway.core.model import Actor, FleetTicket, Organisation, Peer, Permission, Wire
from gateway.services import open_services

OPERATOR = Actor(
    peer=Peer(Wire.SHELL, "tester", actor="tester"),
    organisation=Organisation(id=1, uuid="", name="root", path="/1/"),
    permissions=frozenset(Permission),
)
AT_ONCE = 50
USES = 20


@pytest.fixture
def secrets(gate: Gate) -> FleetSecrets:
    return secrets_of(gate)


def secrets_of(gate: Gate) -> FleetSecrets:
    services = open_services(gate.gateway.store)
    services.close()  # no password is proven here
    return services.secrets


async def add(secrets: FleetSecrets, gate: Gate, label: str, **more: Any) -> FleetTicket:
    return await secrets.add(OPERATOR, await gate.profile("create"), label, **more)


def asking(ticket: FleetTicket, name: str, secret: str | None = None) -> bytes:
    body = {
        "deviceName": name,
        "provisionDeviceKey": ticket.key.reveal(),
        "provisionDeviceSecret": secret or ticket.secret.reveal(),
    }
    return json.dumps(body).encode()


async def token_of(gate: Gate, ticket: FleetTicket, name: str, wire: str = "http") -> str:
    answer = json.loads(await provision(gate.ports, wire, asking(ticket, name), success=True))
    assert answer["status"] == "SUCCESS", answer
    token: str = answer["credentialsValue"]
    return token


async def refused(gate: Gate, body: bytes, wire: str = "http") -> None:
    answer = json.loads(await provision(gate.ports, wire, body, success=False))
    assert answer["status"] in ("FAILURE", "NOT_FOUND")


async def test_several_secrets_are_used_at_once(gate: Gate, secrets: FleetSecrets) -> None:
    """The profile's own and two more, over three wires at the same time, and each remembers what
    it bore; a derived one admits a device by its own key, by no other, and not by itself."""
    plain = await add(secrets, gate, "b")
    group = await add(secrets, gate, "group", derived=True)
    (default,) = await secrets.listed(OPERATOR, label="default", profile=plain.profile)
    own = derived_key(group.secret, "g").reveal()
    bodies = {
        "http": asking(default, "d"),
        "mqtt5": asking(plain, "p"),
        "coap": asking(group, "g", own),
    }
    answers = await asyncio.gather(
        *(provision(gate.ports, wire, body, success=True) for wire, body in bodies.items())
    )
    assert {json.loads(answer)["status"] for answer in answers} == {"SUCCESS"}
    for ticket, name in ((default, "d"), (plain, "p"), (group, "g")):
        borne = await secrets.blast_radius(OPERATOR, ticket)
        assert [one.name for one in borne] == [name]
    await refused(gate, asking(group, "other", own))
    await refused(gate, asking(group, "g2"))
    assert [one.name for one in await secrets.blast_radius(OPERATOR, group)] == ["g"]


async def test_a_secret_is_used_up_exactly(gate: Gate, secrets: FleetSecrets) -> None:
    """Fifty devices ask at the same moment; as many as may are let in, and each has credentials."""
    ticket = await add(secrets, gate, "trial", bounds=Bounds(max_uses=USES))
    async with AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(http(gate.ports.http)) for _ in range(AT_ONCE)]
        replies = await asyncio.gather(
            *(
                line.ask("POST", "/api/v1/provision", asking(ticket, f"d{n}"))
                for n, line in enumerate(lines)
            )
        )
    answers = [json.loads(reply.body) for reply in replies]
    tokens = [one["credentialsValue"] for one in answers if one["status"] == "SUCCESS"]
    assert len(tokens) == len(set(tokens)) == USES
    assert await secrets.count_borne(OPERATOR, ticket) == USES


async def test_networks_and_revocation_over_the_wires(gate: Gate, secrets: FleetSecrets) -> None:
    """We come from 127.0.0.1: a secret for other networks refuses us, as one that was revoked."""
    here = await add(secrets, gate, "here", bounds=Bounds(networks=("127.0.0.0/8",)))
    there = await add(secrets, gate, "there", bounds=Bounds(networks=("198.51.100.0/24",)))
    for wire in ("http", "mqtt311", "coap"):
        await token_of(gate, here, f"{wire}-here", wire)
        await refused(gate, asking(there, f"{wire}-there"), wire)
    await secrets.revoke(OPERATOR, here)
    await refused(gate, asking(here, "late"))


async def test_quarantine_cuts_what_is_live(gate: Gate, secrets: FleetSecrets) -> None:
    """An MQTT session, a gateway's with the device behind it, a CoAP observation and a long poll
    end; each wire refuses the credentials then. With the release all are let in again."""
    ticket = await add(secrets, gate, "b")
    tokens = {name: await token_of(gate, ticket, name) for name in ("m", "c", "h")}
    gateway = json.loads(asking(ticket, "gw")) | {"gateway": True}
    answer = await provision(gate.ports, "http", json.dumps(gateway).encode(), success=True)
    tokens["gw"] = json.loads(answer)["credentialsValue"]
    sessions = gate.gateway.sessions
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(session_of(gate, tokens["m"]))
        behind = await stack.enter_async_context(session_of(gate, tokens["gw"]))
        await behind.deliver("v1/gateway/connect", b'{"device":"child"}')
        device = await stack.enter_async_context(observing(gate.ports.coap))
        observation = device.observe(f"api/v1/{tokens['c']}/attributes")
        await device.next(observation)
        web = await stack.enter_async_context(http(gate.ports.http))
        poll = asyncio.create_task(
            web.ask("GET", f"/api/v1/{tokens['h']}/attributes/updates?timeout=9000")
        )
        while len(sessions) < 5:
            await asyncio.sleep(0.01)
        assert await secrets.quarantine(OPERATOR, ticket) == 4
        for cut in (session, behind):
            packet = await cut.next()
            assert packet is not None
            assert (packet.kind, packet.body[0]) == (DISCONNECT, 0x98)
            assert await cut.next() is None
        assert dotted(await device.next(observation)) == "2.02"
        assert (await poll).status == 401
        while len(sessions):
            await asyncio.sleep(0.01)
        await shut_out(gate, tokens)
    await refused(gate, asking(ticket, "new"))
    await secrets.release(OPERATOR, ticket)
    for name in ("m", "gw"):
        async with session_of(gate, tokens[name]):
            pass
    async with http(gate.ports.http) as web, coap(gate.ports.coap) as device:
        assert (await web.ask("POST", f"/api/v1/{tokens['h']}/telemetry", b'{"t":1}')).status == 200
        answered = await device.ask(POST, f"api/v1/{tokens['c']}/telemetry", b'{"t":1}')
        assert dotted(answered).startswith("2.")
    await token_of(gate, ticket, "new")


async def shut_out(gate: Gate, tokens: dict[str, str]) -> None:
    """Their tokens are nobody's, whatever wire they come over."""
    async with http(gate.ports.http) as web:
        reply = await web.ask("POST", f"/api/v1/{tokens['h']}/telemetry", b'{"t":1}')
    assert reply.status == 401
    async with coap(gate.ports.coap) as device:
        answer = await device.ask(GET, f"api/v1/{tokens['c']}/attributes")
    assert dotted(answer) == "4.01"
    for name in ("m", "gw"):
        async with mqtt(gate.ports.mqtt, 5) as session:
            assert await session.connect("c", tokens[name]) != 0


async def test_another_process_hears_of_it(tmp_path: Path) -> None:
    """A quarantine that one gateway is told cuts the sessions at the other on the same database,
    and its next request with the secret is refused."""
    (tmp_path / "profiles").mkdir()
    async with serving(tmp_path) as one, serving(tmp_path) as other:
        secrets = secrets_of(one)
        ticket = await add(secrets, one, "b")
        token = await token_of(other, ticket, "d")
        async with session_of(other, token) as session:
            await secrets.quarantine(OPERATOR, ticket)
            packet = await session.next()
            assert packet is not None
            assert packet.kind == DISCONNECT
        await refused(other, asking(ticket, "new"))
