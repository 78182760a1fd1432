"""An operator takes credentials back, or gives others: what lives by them ends in a second."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import certs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from datagrams import Refusal
from lines import GRANTED, SECURE, Coaps, Https, Line, Mqtts, identity_in
from plant import People, Plant, Within, beside
from wires import GET, http

from gateway.core.model import AccessToken, Certificate, PresharedKey, Secret
from gateway.core.pki.model import RevocationReason
from gateway.core.ports import KnownCredentials
from gateway.core.sessions import Slot

A_SECOND = 1.0


@pytest.fixture
async def people(plant_on_disk: Plant) -> AsyncIterator[People]:
    """An operator in another process, as far as the gateway can tell."""
    async with beside(plant_on_disk.gate) as opened:
        yield opened


async def all_ways_in(
    stack: AsyncExitStack, plant: Plant, identity: certs.Issued
) -> dict[str, Line]:
    """A device that is connected on every wire."""
    return {wire: await stack.enter_async_context(plant.entered(wire, identity)) for wire in SECURE}


async def ends(lines: dict[str, Line]) -> None:
    async with asyncio.timeout(A_SECOND):
        await asyncio.gather(*(line.ended() for line in lines.values()))


async def lives(lines: dict[str, Line]) -> None:
    for line in lines.values():
        await line.tell(still=1)


async def test_everything_of_a_revoked_device_ends_within_a_second(
    plant_on_disk: Plant, people: People
) -> None:
    """MQTTS session, DTLS association and idle HTTPS connection; its neighbour's live on."""
    plant = plant_on_disk
    doomed, spared = await plant.signed("doomed"), await plant.signed("spared")
    async with AsyncExitStack() as stack:
        ways = await all_ways_in(stack, plant, doomed)
        others = await all_ways_in(stack, plant, spared)
        assert await people.custody.revoke(await people.known("doomed"))
        await ends(ways)
        await lives(others)
    for wire in SECURE:
        assert await plant.answer(wire, doomed) != GRANTED[wire]
        assert await plant.answer(wire, spared) == GRANTED[wire]


async def test_a_poll_and_observations_of_a_revoked_device_end(
    plant_on_disk: Plant, people: People
) -> None:
    """Somebody who waits for something to happen hears that nothing will."""
    plant = plant_on_disk
    identity = await plant.signed("waits")
    async with (
        plant.entered("https", identity) as web,
        plant.entered("coaps", identity) as association,
    ):
        assert isinstance(web, Https)
        assert isinstance(association, Coaps)
        poll = asyncio.create_task(
            web.web.ask("GET", "/api/v1/attributes/updates?timeout=20000"), name="poll"
        )
        observing = association.device
        await observing.ask(GET, "/api/v1/attributes", observe=0)
        await observing.ask(GET, "/api/v1/rpc", observe=0)
        while not any(one.slot is Slot.POLL for one in plant.gate.gateway.sessions):
            await asyncio.sleep(0.01)
        assert await people.custody.revoke(await people.known("waits"))
        async with asyncio.timeout(A_SECOND):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)):
                await poll
            await association.ended()
    assert list(plant.gate.gateway.sessions) == []


async def test_a_poll_by_token_over_https_ends_too(plant_on_disk: Plant, people: People) -> None:
    """The connection is nobody's; the poll is the device's, and is answered 401."""
    plant = plant_on_disk
    token = await plant.gate.add("polls")
    async with plant.entered("https", token=token) as web:
        assert isinstance(web, Https)
        path = f"/api/v1/{token}/attributes/updates?timeout=20000"
        poll = asyncio.create_task(web.web.ask("GET", path))
        while not list(plant.gate.gateway.sessions):
            await asyncio.sleep(0.01)
        assert await people.custody.revoke(await people.known("polls"))
        async with asyncio.timeout(A_SECOND):
            assert (await poll).status == 401


async def test_a_revoked_pre_shared_key_ends_its_association(
    plant_on_disk: Plant, people: People
) -> None:
    """And opens none any more: its identity is unknown."""
    plant = plant_on_disk
    request = plant.gate.request("small", credentialsType="DTLS_PSK")
    async with plant.line("https") as device:
        value = (await device.provision(request))["credentialsValue"]
    psk = value["identity"], value["key"]
    async with plant.entered("coaps", psk=psk) as association:
        assert await people.custody.revoke(await people.known("small"))
        await ends({"coaps": association})
    with pytest.raises(Refusal) as refused:
        async with plant.line("coaps", psk=psk):
            pass
    assert refused.value.alert == 51


async def test_a_revoked_token_ends_its_session_over_tls(
    plant_on_disk: Plant, people: People
) -> None:
    """Not only certificates can be taken back."""
    plant = plant_on_disk
    token = await plant.gate.add("old")
    async with plant.entered("mqtts", token=token) as session:
        assert await people.custody.revoke(await people.known("old"))
        await ends({"mqtts": session})


async def test_a_certificate_is_revoked_by_its_number(plant_on_disk: Plant, people: People) -> None:
    """What an operator has is often the certificate, not the device's name."""
    plant = plant_on_disk
    identity = await plant.signed("numbered")
    async with AsyncExitStack() as stack:
        ways = await all_ways_in(stack, plant, identity)
        serial = identity.certificate.serial_number
        assert await people.custody.revoke_serial(serial, RevocationReason.KEY_COMPROMISE)
        await ends(ways)
    assert await plant.answer("mqtts", identity) == "CONNACK 5"


@pytest.mark.parametrize("kind", ["token", "certificate", "key"])
async def test_new_credentials_end_what_the_old_ones_opened(
    plant_on_disk: Plant, people: People, kind: str
) -> None:
    """Rotation by an operator: the old login is over on every wire, the new one works."""
    plant = plant_on_disk
    identity = await plant.signed("rotates")
    fresh = certs.self_signed("rotates")
    async with AsyncExitStack() as stack:
        ways = await all_ways_in(stack, plant, identity)
        known = await people.known("rotates")
        given: dict[str, Any] = {
            "token": AccessToken(Secret("a-token-of-20-letters")),
            "certificate": Certificate(fresh.text),
            "key": PresharedKey("rotates", Secret("ab" * 32)),
        }
        assert await people.registry.replace_credentials(known, given[kind])
        await ends(ways)
    logins: dict[str, dict[str, Any]] = {
        "token": {"token": "a-token-of-20-letters"},
        "certificate": {"identity": fresh},
        "key": {"psk": ("rotates", "ab" * 32)},
    }
    login = logins[kind]
    for wire in ("coaps",) if kind == "key" else SECURE:
        async with plant.entered(wire, **login) as device:
            await device.tell(n=1)


async def test_a_removed_device_is_cut_too(plant_on_disk: Plant, people: People) -> None:
    """Removal is the end of its credentials."""
    plant = plant_on_disk
    identity = await plant.signed("removed")
    async with AsyncExitStack() as stack:
        ways = await all_ways_in(stack, plant, identity)
        assert await people.registry.remove_device(await people.known("removed"))
        await ends(ways)
    for wire in SECURE:
        assert await plant.answer(wire, identity) != GRANTED[wire]


async def test_a_hundred_sessions_of_others_do_not_notice(
    plant_on_disk: Plant, people: People
) -> None:
    """One of many is revoked; the cut is the one session's."""
    plant = plant_on_disk
    async with AsyncExitStack() as stack:
        sessions = {}
        for number in range(30):
            token = await plant.gate.add(f"d{number}")
            entering = plant.entered("mqtts", token=token)
            sessions[number] = await stack.enter_async_context(entering)
        assert await people.custody.revoke(await people.known("d7"))
        await ends({"mqtts": sessions.pop(7)})
        for session in sessions.values():
            assert isinstance(session, Mqtts)
            assert await session.tell(n=1) == "PUBACK"


# ── lists and answers ─────────────────────────────────────────────────────────────────────────


async def crl_of(plant: Plant) -> x509.CertificateRevocationList:
    async with http(plant.ports.http) as web:
        reply = await web.ask("GET", "/crl")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/pkix-crl"
    return x509.load_der_x509_crl(reply.body)


async def status_of(plant: Plant, identity: certs.Issued) -> ocsp.OCSPResponse:
    issuer = x509.load_der_x509_certificate(identity.chain[1])
    builder = ocsp.OCSPRequestBuilder()
    builder = builder.add_certificate(identity.certificate, issuer, hashes.SHA256())
    body = builder.build().public_bytes(Encoding.DER)
    async with http(plant.ports.http) as web:
        reply = await web.ask("POST", "/ocsp", body)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/ocsp-response"
    return ocsp.load_der_ocsp_response(reply.body)


async def test_the_list_and_the_responder_tell_of_a_revocation_at_once(
    plant_on_disk: Plant, people: People
) -> None:
    """Within a second both name the certificate, with its reason; another's stays good."""
    plant = plant_on_disk
    bad, good = await plant.signed("bad"), await plant.signed("good")
    issuer = x509.load_der_x509_certificate(bad.chain[1])
    serial = bad.certificate.serial_number
    before = await crl_of(plant)
    assert before.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    assert before.get_revoked_certificate_by_serial_number(serial) is None
    assert (await status_of(plant, bad)).certificate_status is ocsp.OCSPCertStatus.GOOD
    revoked = await people.custody.revoke(
        await people.known("bad"), RevocationReason.KEY_COMPROMISE
    )
    assert revoked
    with Within(A_SECOND):
        while (await status_of(plant, bad)).certificate_status is ocsp.OCSPCertStatus.GOOD:
            await asyncio.sleep(0.01)
        while (
            entry := (after := await crl_of(plant)).get_revoked_certificate_by_serial_number(serial)
        ) is None:
            await asyncio.sleep(0.01)
    reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.key_compromise
    told = await status_of(plant, bad)
    assert told.revocation_reason is x509.ReasonFlags.key_compromise
    assert (await status_of(plant, good)).certificate_status is ocsp.OCSPCertStatus.GOOD
    numbers = [
        one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        for one in (before, after)
    ]
    assert numbers[0] < numbers[1]
    assert after.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]


async def test_a_renewed_certificate_is_told_superseded(plant: Plant) -> None:
    """Once the new one was used, the list says of the old one that it has a successor."""
    old = await plant.signed("renews")
    key = certs.new_key()
    async with plant.entered("https", old) as device:
        new = identity_in(await device.renew(certs.csr(key)), key)
    assert (await status_of(plant, old)).certificate_status is ocsp.OCSPCertStatus.GOOD
    async with plant.entered("coaps", new):
        pass
    await plant.told()
    told = await status_of(plant, old)
    assert told.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert told.revocation_reason is x509.ReasonFlags.superseded
    assert (await status_of(plant, new)).certificate_status is ocsp.OCSPCertStatus.GOOD


# ── what was given and not used yet ───────────────────────────────────────────────────────────


async def given(plant: Plant, identity: certs.Issued) -> certs.Issued:
    """What the device of `identity` was given in a renewal, and has not used."""
    key = certs.new_key()
    async with plant.entered("https", identity) as device:
        return identity_in(await device.renew(certs.csr(key)), key)


async def revoked(people: People, known: KnownCredentials) -> bool:
    return await people.custody.revoke(known)


async def replaced(people: People, known: KnownCredentials) -> bool:
    return await people.registry.replace_credentials(known) is not None


async def removed(people: People, known: KnownCredentials) -> bool:
    return await people.registry.remove_device(known)


@pytest.mark.parametrize("take_back", [revoked, replaced, removed])
async def test_what_was_not_used_yet_is_taken_back_too(
    plant_on_disk: Plant, people: People, take_back: Any
) -> None:
    """Whoever has a renewed certificate in the drawer cannot undo what an operator did with it;
    the list names both."""
    plant = plant_on_disk
    old = await plant.signed("drawer")
    pending = await given(plant, old)
    assert await take_back(people, await people.known("drawer"))
    await plant.told()
    for wire in SECURE:
        assert await plant.answer(wire, pending) != GRANTED[wire]
        assert await plant.answer(wire, old) != GRANTED[wire]
    listed = await crl_of(plant)
    for identity in (old, pending):
        serial = identity.certificate.serial_number
        assert listed.get_revoked_certificate_by_serial_number(serial) is not None


async def test_a_new_leaf_of_the_factory_takes_back_what_was_not_used_yet(plant: Plant) -> None:
    """The factory's newest certificate is the device's, and nothing that came before."""
    await plant.believe()
    pending = await given(plant, plant.factory.issue("both"))
    async with plant.entered("mqtts", plant.factory.issue("both")):
        pass
    await plant.told()
    for wire in SECURE:
        assert await plant.answer(wire, pending) != GRANTED[wire]


async def test_a_key_is_free_again_when_its_device_is_removed(
    plant_on_disk: Plant, people: People
) -> None:
    """A board that is sold on keeps its key; its next owner gives it another name."""
    plant = plant_on_disk
    identity = await plant.signed("first-owner")
    request = plant.gate.request("second-owner", csr=certs.csr(identity.key))
    async with plant.line("https") as device:
        assert (await device.provision(request))["status"] == "FAILURE"
        assert await people.registry.remove_device(await people.known("first-owner"))
        second = identity_in(await device.provision(request), identity.key)
    async with plant.entered("mqtts", second) as session:
        await session.tell(n=1)
