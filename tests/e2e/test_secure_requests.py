"""Devices that ask for certificates and keys: at their birth, and again later, on every wire."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import certs
import pytest
from cryptography import x509
from datagrams import Psk, Refusal
from lines import SECURE, identity_in, in_blocks
from plant import Plant
from wires import coap, provision

secure_wires = pytest.mark.parametrize("wire", SECURE)
every_wire = pytest.mark.parametrize("wire", ["http", "mqtt311", "mqtt5", "coap", *SECURE])


async def asked(plant: Plant, wire: str, request: Any) -> dict[str, Any]:
    """A provisioning request of somebody who shows no certificate."""
    if wire in SECURE:
        async with plant.line(wire) as device:
            answer: dict[str, Any] = await device.provision(request)
        return answer
    body = json.dumps(request).encode()
    if wire == "coap":
        async with coap(plant.ports.coap) as device:
            told = await in_blocks(device, "/api/v1/provision", body)
    else:
        told = await provision(plant.ports, wire, body)
    found: dict[str, Any] = json.loads(told)
    return found


# ── birth with a signing request ──────────────────────────────────────────────────────────────


@every_wire
async def test_a_device_is_born_with_its_own_key(plant: Plant, wire: str) -> None:
    """A CSR in the provisioning call: the answer's certificate is for its key and opens every
    secure wire; the key never left the device."""
    key = certs.new_key()
    request = plant.gate.request("born", csr=certs.csr(key, "whatever it says"))
    identity = identity_in(await asked(plant, wire, request), key)
    assert identity.certificate.public_key() == key.public_key()
    assert identity.certificate.subject.rfc4514_string() == "CN=born"
    for secure in SECURE:
        async with plant.entered(secure, identity) as device:
            await device.tell(**{secure: True})
    assert await plant.gate.readings("born") == dict.fromkeys(SECURE, True)


@pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519", "RSA-2048"])
async def test_each_kind_of_key_is_certified_and_logs_in(plant: Plant, kind: str) -> None:
    """The key policy's four kinds; DTLS clients of this OpenSSL do Ed25519 too."""
    key = certs.new_key(kind)
    request = plant.gate.request("born", csr=certs.csr(key))
    identity = identity_in(await asked(plant, "http", request), key)
    for wire in SECURE:
        async with plant.entered(wire, identity):
            pass


@secure_wires
async def test_a_request_in_base64_is_answered_in_base64(plant: Plant, wire: str) -> None:
    """Without PEM in the request there is none in the answer."""
    key = certs.new_key()
    request = plant.gate.request("born", csr=certs.base64_of(certs.csr(key)))
    answer = await asked(plant, wire, request)
    assert list(answer) == ["credentialsValue", "credentialsType", "status", "certificateChain"]
    async with plant.entered(wire, identity_in(answer, key)):
        pass


async def test_the_chain_of_an_answer_leads_to_the_root(plant: Plant) -> None:
    """Leaf, issuers, and the root by `/ca`: each signed the one before."""
    identity = await plant.signed("born")
    authorities = plant.gate.gateway.authorities
    root = (await authorities.chain())[-1]
    path = [*map(x509.load_der_x509_certificate, (*identity.chain, root))]
    assert len(path) == 3
    for lower, upper in pairwise(path):
        lower.verify_directly_issued_by(upper)


async def test_a_waiting_device_is_claimed_with_a_request(plant: Plant) -> None:
    """CHECK_PRE_PROVISIONED_DEVICES with a CSR: its token is gone, its certificate logs in."""
    token = await plant.gate.add("waits")
    identity = await plant.signed("waits", profile="check")
    async with plant.entered("mqtts", identity) as device:
        await device.tell(n=1)
    async with plant.line("https", token=token) as device:
        assert await device.enter() == "401"


# ── renewal ───────────────────────────────────────────────────────────────────────────────────


async def works(plant: Plant, wire: str, identity: certs.Issued) -> bool:
    return await plant.answer(wire, identity) in ("200", "CONNACK 0", "2.01")


@secure_wires
async def test_a_renewed_certificate_counts_from_its_first_use(plant: Plant, wire: str) -> None:
    """Overlap: the old one works until the new one was used, and then no more."""
    old = await plant.signed("renews")
    key = certs.new_key()
    async with plant.entered(wire, old) as device:
        new = identity_in(await device.renew(certs.csr(key)), key)
        await device.tell(n=1)
    for each in SECURE:
        assert await works(plant, each, old)
    assert await works(plant, wire, new)
    for each in SECURE:
        assert not await works(plant, each, old)
        assert await works(plant, each, new)
    assert await plant.devices() == {"renews"}


@secure_wires
async def test_a_session_of_the_old_certificate_ends_with_the_first_use_of_the_new(
    plant: Plant, wire: str
) -> None:
    """Two live logins of one device are one too many."""
    old = await plant.signed("renews")
    key = certs.new_key()
    async with plant.entered(wire, old) as device:
        new = identity_in(await device.renew(certs.csr(key)), key)
        async with plant.entered(wire, new) as renewed:
            await device.ended()
            await renewed.tell(n=1)


@secure_wires
async def test_a_renewal_may_keep_its_key(plant: Plant, wire: str) -> None:
    """The same key in a new certificate, unless its profile wants a fresh one."""
    old = await plant.signed("keeps")
    async with plant.entered(wire, old) as device:
        new = identity_in(await device.renew(certs.csr(old.key)), old.key)
    assert await works(plant, wire, new)
    await plant.certify("strict", fresh_key=True)
    strict = await plant.signed("strict-one", profile="strict")
    async with plant.entered(wire, strict) as device:
        assert (await device.renew(certs.csr(strict.key)))["status"] == "FAILURE"
        fresh = certs.new_key()
        assert (await device.renew(certs.csr(fresh)))["status"] == "SUCCESS"
    assert await plant.refusals() == ["reused_key"]


@secure_wires
async def test_a_second_renewal_replaces_one_that_was_not_used(plant: Plant, wire: str) -> None:
    """An answer that got lost is asked for again; what was lost opens nothing any more."""
    old = await plant.signed("asks-twice")
    keys = certs.new_key(), certs.new_key()
    async with plant.entered(wire, old) as device:
        lost, kept = [identity_in(await device.renew(certs.csr(key)), key) for key in keys]
    assert not await works(plant, wire, lost)
    assert await works(plant, wire, old)
    assert await works(plant, wire, kept)


@secure_wires
async def test_an_ended_certificate_may_be_renewed_and_nothing_else(
    plant: Plant, wire: str
) -> None:
    """Grace of the profile: within it the device asks for a certificate, and is told no word."""
    await plant.certify("graced", grace_days=7)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    ended = certs.self_signed("late", not_after=yesterday)
    await plant.registered("late", ended, profile="graced")
    key = certs.new_key()
    async with plant.line(wire, ended) as device:
        if wire == "mqtts":
            assert await device.enter() == "CONNACK 0"
        else:
            assert await device.tell(n=1) in ("401", "4.01")
        new = identity_in(await device.renew(certs.csr(key)), key)
    async with plant.entered(wire, new) as device:
        await device.tell(n=2)
    assert await plant.gate.readings("late") == {"n": 2}
    assert not await works(plant, wire, ended)


async def test_in_a_session_for_renewal_telemetry_is_not_taken(plant: Plant) -> None:
    """MQTT: a certificate in its grace opens a session, in which nothing else is heard."""
    await plant.certify("graced", grace_days=7)
    ended = certs.self_signed("late", not_after=datetime.now(UTC) - timedelta(days=1))
    await plant.registered("late", ended, profile="graced")
    async with plant.line("mqtts", ended) as device:
        assert await device.enter() == "CONNACK 0"
        device.session.publish("v1/devices/me/telemetry", b'{"n":1}', 1)
        assert (0, 0) in await device.session.outcome()
    assert await plant.gate.readings("late") == {}


@secure_wires
async def test_after_its_grace_nothing_is_renewed(plant: Plant, wire: str) -> None:
    """Seven days and not eight."""
    await plant.certify("graced", grace_days=7)
    ended = certs.self_signed("later", not_after=datetime.now(UTC) - timedelta(days=8))
    await plant.registered("later", ended, profile="graced")
    assert await plant.answer(wire, ended) in ("401", "CONNACK 5", "alert 45")
    assert await plant.refusals() == ["expired_leaf"]


@secure_wires
async def test_a_device_with_a_token_asks_for_a_certificate(plant: Plant, wire: str) -> None:
    """From the token of old to a certificate, without an operator; the token ends with its use."""
    token = await plant.gate.add("grows")
    key = certs.new_key()
    async with plant.entered(wire, token=token) as device:
        identity = identity_in(await device.renew(certs.csr(key)), key)
        await device.tell(n=1)
    async with plant.entered(wire, identity) as device:
        await device.tell(n=2)
    await plant.told()
    async with plant.line(wire, token=token) as device:
        assert await device.enter() in ("401", "CONNACK 2", "CONNACK 5", "4.01")


async def test_twenty_renewals_at_once_leave_one_that_counts(plant: Plant) -> None:
    """A device that asks on every wire at the same time has one certificate in the end."""
    old = await plant.signed("storms")
    keys = [certs.new_key() for _ in range(20)]

    async def renew(number: int) -> certs.Issued:
        async with plant.line(("https", "coaps")[number % 2], old) as device:
            return identity_in(await device.renew(certs.csr(keys[number])), keys[number])

    given = await asyncio.gather(*map(renew, range(20)))
    working = [one for one in given if await works(plant, "https", one)]
    assert len(working) == 1
    assert not await works(plant, "https", old)


# ── pre-shared keys ───────────────────────────────────────────────────────────────────────────


@every_wire
async def test_a_device_is_born_with_a_pre_shared_key(plant: Plant, wire: str) -> None:
    """`DTLS_PSK`: identity and 256 bits in the answer, and a login over CoAPS with them."""
    request = plant.gate.request("small", credentialsType="DTLS_PSK")
    answer = await asked(plant, wire, request)
    assert (answer["status"], answer["credentialsType"]) == ("SUCCESS", "DTLS_PSK")
    value = answer["credentialsValue"]
    psk = value["identity"], value["key"]
    assert len(bytes.fromhex(psk[1])) == 32
    async with plant.entered("coaps", psk=psk) as device:
        await device.tell(n=1)
    assert await plant.gate.readings("small") == {"n": 1}


async def test_a_login_by_key_does_not_wait_for_a_flight_to_be_sent_again(
    plant_on_disk: Plant,
) -> None:
    """While the key is looked up on disk the rest of the flight arrives, and is taken in order."""
    plant = plant_on_disk
    request = plant.gate.request("small", credentialsType="DTLS_PSK")
    value = (await asked(plant, "https", request))["credentialsValue"]
    took = []
    for _ in range(5):
        began = time.monotonic()
        async with plant.entered("coaps", psk=(value["identity"], value["key"])):
            took.append(time.monotonic() - began)
    # OpenSSL's first repetition is after a second. One may be slow on a busy machine, not most.
    assert sorted(took)[2] < 0.9


async def test_a_wrong_key_and_an_unknown_identity_look_the_same(plant: Plant) -> None:
    """Neither gets in, and both hear the same alert."""
    request = plant.gate.request("small", credentialsType="DTLS_PSK")
    identity = (await asked(plant, "https", request))["credentialsValue"]["identity"]

    async def heard(psk: Psk) -> int | None:
        with pytest.raises(Refusal) as refused:
            async with plant.line("coaps", psk=psk):
                pass
        return refused.value.alert

    strangers = (identity, "00" * 32), ("nobody", "00" * 32)
    assert await asyncio.gather(*map(heard, strangers)) == [51, 51]


async def test_a_pre_shared_key_gives_way_to_a_certificate(plant: Plant) -> None:
    """A device with a key asks for a certificate within its association, and uses it."""
    request = plant.gate.request("grows", credentialsType="DTLS_PSK")
    value = (await asked(plant, "coaps", request))["credentialsValue"]
    key = certs.new_key()
    async with plant.entered("coaps", psk=(value["identity"], value["key"])) as device:
        identity = identity_in(await device.renew(certs.csr(key)), key)
        await device.tell(n=1)
        async with plant.entered("https", identity) as web:
            await device.ended()
            await web.tell(n=2)
