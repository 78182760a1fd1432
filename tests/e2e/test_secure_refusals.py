"""What must not get in: by name, on each wire that can meet it, with its event and no device.

`CHAINS` and `REQUESTS` are the refusal table of the product.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import certs
import pytest
from cryptography import x509
from lines import SECURE, Coaps, Https, in_blocks
from plant import Plant, Within, beside
from wires import POST, coap, dotted, http, mqtt, provision

from gateway.core.model import EventKind

REFUSED = {"https": "401", "mqtts": "CONNACK 5", "mqtts5": "CONNACK 135"}
ALERTS = {
    "bad_signature": 42,
    "bad_chain": 42,
    "chain_unreadable": 42,
    "oversized_chain": 42,
    "path_too_long": 42,
    "wrong_usage": 42,
    "credentials_revoked": 44,
    "expired_leaf": 45,
    "cn_mismatch": 46,
    "cn_missing": 46,
    "not_yet_valid": 46,
    "unknown_certificate": 46,
    "weak_key": 46,
    "unknown_ca": 48,
}
"""What CoAPS says for each reason (RFC 5246, section 7.2.2)."""


def refusal(wire: str, reason: str) -> str:
    """What a wire answers to a chain that is refused."""
    return f"alert {ALERTS[reason]}" if wire == "coaps" else REFUSED[wire]


async def is_refused_everywhere(plant: Plant, identity: certs.Issued, reason: str) -> None:
    """On each wire its answer and one event more; there is no device of it."""
    devices = await plant.devices()
    for wire in (*SECURE, "mqtts5"):
        before = await plant.refusals()
        name, version = wire.removesuffix("5"), 5 if wire == "mqtts5" else 4
        assert await plant.answer(name, identity, version=version) == refusal(wire, reason)
        after = await plant.refusals()
        assert after == [*before, reason], wire
        assert (await plant.events())[-1].peer.wire == name
    assert await plant.devices() == devices


# ── chains ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", certs.BOGUS)
async def test_a_bogus_chain_is_refused(plant: Plant, name: str) -> None:
    """Each chain that nobody should believe, for its reason."""
    make, reason = certs.BOGUS[name]
    await plant.believe()
    await is_refused_everywhere(plant, make(plant.factory), reason)


async def test_cn_mismatch(plant: Plant) -> None:
    """A common name in which the profile's pattern finds nothing."""
    await plant.believe(pattern="^SN-([0-9]+)$")
    await is_refused_everywhere(plant, plant.factory.issue("SN-12x"), "cn_mismatch")


async def test_cn_missing(plant: Plant) -> None:
    """A leaf without a common name."""
    await plant.believe()
    await is_refused_everywhere(plant, certs.without_cn(plant.factory), "cn_missing")


async def test_regex_bomb(plant: Plant) -> None:
    """A pattern and a name that would keep a backtracking engine busy for years."""
    await plant.believe(pattern="^((a+)+)+b$")
    with Within(3):
        await is_refused_everywhere(plant, plant.factory.issue("a" * 64), "cn_mismatch")


@pytest.mark.parametrize("pattern", ["((a{1000}){1000})", "(a)\\\\1", "(?=a)(a)", "a", "("])
async def test_regex_bomb_in_a_profile(plant: Plant, pattern: str) -> None:
    """A pattern that is too large, or RE2 has not, is refused when the profile is loaded."""
    folder = plant.gate.gateway.config.profiles_dir
    folder.mkdir(exist_ok=True)
    (folder / "root.pem").write_text(plant.factory.pem)
    (folder / "bomb.toml").write_text(
        'provision_type = "X509_CERTIFICATE_CHAIN"\n[chain]\n'
        f'certificate = {{ file = "root.pem" }}\npattern = "{pattern}"\n'
    )
    await plant.gate.gateway._reload()
    (error,) = plant.gate.gateway.profile_errors
    assert "bomb.toml" in str(error)
    assert "pattern" in str(error)
    await is_refused_everywhere(plant, plant.factory.issue("a"), "unknown_ca")


async def test_oversized_chain_in_bytes(new_plant: Any) -> None:
    """More bytes than a chain may have: nobody reads it, and one event says how often it was."""
    async with new_plant(memory=False) as plant:
        await plant.believe()
        blob = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.2"), bytes(9000))
        leaf, *others = (
            plant.factory.issue(f"heavy-{number}", extensions=((blob, False),))
            for number in range(4)
        )
        heavy = certs.Issued(leaf.certificate, leaf.key, tuple(one.der for one in others))
        told = [await plant.answer(wire, heavy) for wire in SECURE]
        assert told == ["closed", "closed", f"alert {ALERTS['oversized_chain']}"]
        assert await plant.devices() == set()
    assert sorted(await handshake_events(plant)) == [
        ("oversized_chain", wire) for wire in sorted(SECURE)
    ]


async def handshake_events(plant: Plant) -> list[tuple[str, str]]:
    """Reason and wire of what secure wires reported, once the gateway has stopped."""
    async with beside(plant.gate) as people:
        events = await people.registry.events(limit=1000)
    return [(one.reason, one.peer.wire.value) for one in events if one.kind is EventKind.HANDSHAKE]


# ── what was revoked ──────────────────────────────────────────────────────────────────────────


async def test_revoked_then_reconnect(plant_on_disk: Plant) -> None:
    """A factory's device and one of ours: after the revocation no wire lets them in again."""
    plant = plant_on_disk
    await plant.believe()
    made, ours = plant.factory.issue("made"), await plant.signed("ours")
    async with plant.entered("mqtts", made):
        pass
    async with beside(plant.gate) as people:
        for name in ("made", "ours"):
            assert await people.custody.revoke(await people.known(name))
    await plant.told()
    for identity in (made, ours):
        for wire in SECURE:
            assert await plant.answer(wire, identity) == refusal(wire, "credentials_revoked")
    assert await plant.refusals() == ["credentials_revoked"] * 6
    # A fresh certificate of the factory does not undo what the operator did.
    again = plant.factory.issue("made")
    assert await plant.answer("mqtts", again) == "CONNACK 5"
    assert await plant.devices() == {"made", "ours"}


# ── signing requests ──────────────────────────────────────────────────────────────────────────

UNREADABLE = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"


def with_extensions() -> str:
    """A request that wants to be an authority for somebody else's name."""
    wanted = x509.BasicConstraints(ca=True, path_length=None), True
    named = certs.alternative_names(["gateway.example"]), False
    return certs.csr(extensions=(wanted, named))


REQUESTS: dict[str, Any] = {
    "bad_signature": certs.csr_signed_by_another,
    "weak_key": lambda: certs.csr("RSA-1024"),
    "weak_key_p192": lambda: certs.csr("P-192"),
    "weak_key_p521": lambda: certs.csr("P-521"),
    "csr_extra_extensions": with_extensions,
    "csr_unreadable": lambda: UNREADABLE,
}
FAILURE = {"errorMsg": "Failed to provision device!", "status": "FAILURE"}


async def said(plant: Plant, wire: str, path: str, body: dict[str, Any], **login: Any) -> str:
    """What a wire answers to a request: its own number, if it has one, and the status."""
    raw = json.dumps(body).encode()
    async with plant.line(wire, **login) if wire in SECURE else plain(plant, wire) as device:
        if wire in ("http", "https"):
            web = device if wire == "http" else device.web
            reply = await web.ask("POST", f"/api/v1/{path}", raw)
            number, told = f"{reply.status} ", reply.body
        elif wire in ("coap", "coaps"):
            asker = device if wire == "coap" else device.device
            answer = await asker.ask(POST, f"/api/v1/{path}", raw)
            number, told = f"{dotted(answer)} ", bytes(answer.payload)
        elif wire == "mqtts":
            return str((await device.provision(body))["status"])
        else:
            number, told = "", await provision(plant.ports, "mqtt311", raw)
    answered = json.loads(told)
    assert answered == FAILURE, answered
    return number + str(answered["status"])


def plain(plant: Plant, wire: str) -> Any:
    if wire == "coap":
        return coap(plant.ports.coap)
    return http(plant.ports.http) if wire == "http" else mqtt(plant.ports.mqtt)


ANSWERS = {
    "http": "200 FAILURE",
    "mqtt": "FAILURE",
    "coap": "4.00 FAILURE",
    "https": "200 FAILURE",
    "mqtts": "FAILURE",
    "coaps": "4.00 FAILURE",
}
"""What each wire says to a signing request that is refused, whatever the reason."""


async def asks_in_vain(plant: Plant, csr: str, reason: str) -> None:
    """On every wire the same words, one event more, no device."""
    devices = await plant.devices()
    for wire, answer in ANSWERS.items():
        before = await plant.refusals()
        request = plant.gate.request(f"asks-{wire}", csr=csr)
        assert await said(plant, wire, "provision", request) == answer
        assert await plant.refusals() == [*before, reason]
        last = (await plant.events())[-1]
        assert (last.subject, last.peer.wire) == (f"asks-{wire}", wire)
    assert await plant.devices() == devices


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_bogus_request_is_refused(plant: Plant, name: str) -> None:
    """Each signing request that must not be signed, for its reason."""
    reason = "weak_key" if name.startswith("weak_key") else name
    await asks_in_vain(plant, REQUESTS[name](), reason)


async def test_reused_key(plant: Plant) -> None:
    """The key of another device, whose certificate was signed here."""
    first = await plant.signed("first")
    await asks_in_vain(plant, certs.csr(first.key), "reused_key")


async def test_a_key_cannot_be_reused_in_a_race(plant: Plant) -> None:
    """Twenty devices ask for one key at once on every wire: one is born."""
    csr = certs.csr(certs.new_key())

    async def ask(number: int) -> str:
        wire = ("http", "mqtt", "coap")[number % 3]
        request = json.dumps(plant.gate.request(f"racer-{number}", csr=csr)).encode()
        if wire == "coap":
            async with coap(plant.ports.coap) as device:
                told = await in_blocks(device, "/api/v1/provision", request)
        else:
            told = await provision(plant.ports, "mqtt311" if wire == "mqtt" else wire, request)
        return str(json.loads(told)["status"])

    told = await asyncio.gather(*map(ask, range(20)))
    assert sorted(told) == ["FAILURE"] * 19 + ["SUCCESS"]
    assert len(await plant.devices()) == 1


@pytest.mark.parametrize("wire", SECURE)
async def test_a_bogus_request_is_refused_in_a_renewal(plant: Plant, wire: str) -> None:
    """Under its own session too; the device goes on with the certificate it has."""
    identity, other = await plant.signed("renews"), await plant.signed("other")
    bogus = {name: make() for name, make in REQUESTS.items()}
    bogus["reused_key"] = certs.csr(other.key)
    for csr in bogus.values():
        async with plant.entered(wire, identity) as device:
            assert await device.renew(csr) == FAILURE
            await device.tell(n=1)
    told = [name if "weak" not in name else "weak_key" for name in bogus]
    assert await plant.refusals() == told
    known = await plant.gate.registry.device("renews")
    assert known is not None
    assert [one.subject for one in (await plant.events())[-len(told) :]] == ["renews"] * len(told)


@pytest.mark.parametrize("wire", SECURE)
async def test_a_renewal_without_a_request_is_no_renewal(plant: Plant, wire: str) -> None:
    """Neither an empty body nor other members: 400, 4.00, a closed session."""
    identity = await plant.signed("confused")
    async with plant.entered(wire, identity) as device:
        if isinstance(device, Https):
            told = [
                (await device.web.ask("POST", "/api/v1/certificate", body)).status
                for body in (b"", b"{}", b'{"csr":1}', b"[]")
            ]
            assert told == [400] * 4
        elif isinstance(device, Coaps):
            for body in (b"", b"{}", b'{"csr":1}', b"[]"):
                answer = await device.device.ask(POST, "/api/v1/certificate", body)
                assert dotted(answer) == "4.00"
        else:
            device.session.publish("v1/devices/me/certificate/request/1", b"{}", 1)
            assert (0, 0) in await device.session.outcome()
    assert await plant.answer(wire, identity) in ("200", "CONNACK 0", "2.01")
